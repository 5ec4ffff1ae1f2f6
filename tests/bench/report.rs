//! What is told: a table for people, and the same as JSON.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine;
pub(crate) use crate::numbers::Bound;
use crate::numbers::Figure;

/// All figures, and the facts about the machine they were taken on.
#[derive(Serialize)]
pub(crate) struct Report {
    made: Map<String, Value>,
    figures: Vec<Figure>,
    #[serde(skip)]
    stolen_before: (f64, f64),
}

impl Report {
    pub(crate) fn new(facts: Vec<(&str, String)>) -> Self {
        let made = facts.into_iter().map(|(name, fact)| (name.to_owned(), Value::String(fact))).collect();
        Self { made, figures: Vec::new(), stolen_before: machine::stolen() }
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
        let figure = Figure::new(what.into(), figure, unit, bound, note.into());
        aside(&format!("{}: {}", figure.what, figure.shown()));
        self.figures.push(figure);
    }

    /// Adds a figure that is held against nothing.
    pub(crate) fn tell(&mut self, what: impl Into<String>, figure: f64, unit: &'static str) {
        self.add(what, figure, unit, Bound::None, "");
    }

    /// Adds what became known of how it was made.
    pub(crate) fn fact(&mut self, name: &str, fact: String) {
        self.made.insert(name.to_owned(), Value::String(fact));
    }

    /// Writes the table to standard output, and all there is to `json`.
    pub(crate) fn write(&mut self, json: &Path) -> io::Result<()> {
        let (stolen, all) = machine::stolen();
        let share = (stolen - self.stolen_before.0) / (all - self.stolen_before.1).max(1.0) * 100.0;
        self.fact("stolen", format!("{share:.1} % of the processor time, by others on the same hardware"));
        let mut out = String::from("\n");
        let facts = self.made.iter().map(|(name, fact)| format!("{name:<12} {}\n", fact.as_str().unwrap_or_default()));
        out.extend(facts);
        out.push_str(&table(&self.figures));
        io::stdout().write_all(out.as_bytes())?;
        fs::write(json, serde_json::to_vec_pretty(self)?)?;
        writeln!(io::stdout(), "\nreport in {}", json.display())
    }
}

fn table(figures: &[Figure]) -> String {
    let mut lines = vec![["what", "figure", "must hold", "want", "verdict", "note"].map(str::to_owned)];
    lines.extend(figures.iter().map(|figure| {
        let [must, want] = figure.limits();
        [figure.what.clone(), figure.shown(), must, want, figure.verdict.clone(), figure.note.clone()]
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
