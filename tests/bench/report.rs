//! What is told: a table for people, and the same as JSON. A figure is judged in words; none makes the run fail.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// The more the better.
    AtLeast { must: f64, want: f64 },
    /// The less the better.
    AtMost { must: f64, want: f64 },
    /// Nothing: it explains others.
    None,
}

/// A figure.
struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    bound: Bound,
    note: String,
}

/// All figures, and the facts about the machine they were taken on.
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Self {
        Self { facts, rows: Vec::new() }
    }

    /// Adds a figure, and tells of it at once: a run takes minutes.
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        bound: Bound,
        note: impl Into<String>,
    ) {
        let row = Row { what: what.into(), figure, unit, bound, note: note.into() };
        aside(&format!("{}: {}", row.what, row.shown(row.figure)));
        self.rows.push(row);
    }

    /// Adds a figure that is held against nothing.
    pub(crate) fn tell(&mut self, what: impl Into<String>, figure: f64, unit: &'static str) {
        self.add(what, figure, unit, Bound::None, "");
    }

    /// Writes the table to standard output and the JSON file beside it.
    pub(crate) fn write(&self, json: &Path) -> io::Result<()> {
        let mut out = String::from("\n");
        out.extend(self.facts.iter().map(|(name, fact)| format!("{name:<12} {fact}\n")));
        out.push_str(&table(&self.rows));
        io::stdout().write_all(out.as_bytes())?;
        fs::write(json, serde_json::to_vec_pretty(&self.json())?)?;
        writeln!(io::stdout(), "\nalso in {}", json.display())
    }

    fn json(&self) -> Value {
        let facts: serde_json::Map<_, _> = self.facts.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let (must, want) = row.limits();
                json!({"what": row.what, "figure": row.figure, "unit": row.unit, "must": must, "want": want,
                       "verdict": row.verdict(), "note": row.note})
            })
            .collect();
        json!({"machine": facts, "figures": rows})
    }
}

impl Row {
    fn limits(&self) -> (Option<f64>, Option<f64>) {
        match self.bound {
            Bound::AtLeast { must, want } | Bound::AtMost { must, want } => (Some(must), Some(want)),
            Bound::None => (None, None),
        }
    }

    fn verdict(&self) -> &'static str {
        let (must, want) = match self.bound {
            Bound::AtLeast { must, want } => (self.figure >= must, self.figure >= want),
            Bound::AtMost { must, want } => (self.figure <= must, self.figure <= want),
            Bound::None => return "",
        };
        match (must, want) {
            (_, true) => "as wanted",
            (true, false) => "holds",
            (false, false) => "MISSED",
        }
    }

    fn shown(&self, value: f64) -> String {
        let digits = match value.abs() {
            large if large >= 100.0 => 0,
            middle if middle >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.digits$}{}", self.unit)
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![["what", "figure", "must hold", "want", "verdict", "note"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let (must, want) = row.limits();
        let limit = |value: Option<f64>| value.map_or_else(String::new, |value| row.shown(value));
        let verdict = row.verdict().to_owned();
        [row.what.clone(), row.shown(row.figure), limit(must), limit(want), verdict, row.note.clone()]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 6] = std::array::from_fn(width);
    let padded = |line: &[String; 6]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join(" | ").trim_end())
    };
    let rule = format!("{}\n", widths.map(|width| "-".repeat(width)).join("-|-"));
    let mut out = format!("\n{}{rule}", padded(&lines[0]));
    lines[1..].iter().for_each(|line| out.push_str(&padded(line)));
    out
}

/// Tells something on the way, on standard error.
pub(crate) fn aside(line: &str) {
    /// Spilled callbacks are long.
    const SHOWN_MAX: usize = 300;
    let shown: String = line.chars().take(SHOWN_MAX).collect();
    // Nobody may be looking.
    let _ = writeln!(io::stderr(), "  {shown}");
}
