//! What is told: a table for people, the same as JSON, a picture, and what the READMEs show of it.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::machine::Ticks;
pub(crate) use crate::numbers::Bound;
use crate::numbers::{Figure, Language, MARKS, Numbers};
use crate::plot;

/// Latency of a server at a rate, in microseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Rung {
    pub(crate) server: String,
    /// Requests a second that were due.
    pub(crate) offered: u32,
    /// Answers a second, to the last one.
    pub(crate) answered: f64,
    /// Whether the server could go on like that for ever.
    pub(crate) kept_up: bool,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
    pub(crate) count: u64,
    /// Of a core, kept busy by the load.
    pub(crate) load_share: f64,
}

/// How long a sync takes, in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Sync {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// A store on its way to many events.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Stage {
    pub(crate) stored: u64,
    pub(crate) accepted_per_second: f64,
    pub(crate) processor_micros_each: f64,
    pub(crate) written_bytes_each: f64,
}

/// All figures, and the facts about the machine they were taken on.
#[derive(Deserialize, Serialize)]
pub(crate) struct Report {
    made: Map<String, Value>,
    figures: Vec<Figure>,
    /// Latency by offered rate,
    pub(crate) latency_micros_by_rate: Vec<Rung>,
    /// and a sync of the disk meanwhile.
    pub(crate) sync_micros: Option<Sync>,
    /// How throughput went while a store was filled.
    pub(crate) growth: Vec<Stage>,
    #[serde(skip)]
    begun: Ticks,
}

impl Report {
    pub(crate) fn new(facts: Vec<(&str, String)>) -> Self {
        let made = facts.into_iter().map(|(name, fact)| (name.to_owned(), Value::String(fact))).collect();
        Self {
            made,
            figures: Vec::new(),
            latency_micros_by_rate: Vec::new(),
            sync_micros: None,
            growth: Vec::new(),
            begun: Ticks::now(),
        }
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

    /// Writes the table to standard output, all there is to `json`, and the picture to `svg` where there is one to draw.
    pub(crate) fn write(&mut self, json: &Path, svg: &Path) -> io::Result<()> {
        self.fact("others", Ticks::now().others_since(self.begun));
        let mut out = String::from("\n");
        let facts = self.made.iter().map(|(name, fact)| format!("{name:<12} {}\n", fact.as_str().unwrap_or_default()));
        out.extend(facts);
        out.push_str(&table(&self.figures));
        io::stdout().write_all(out.as_bytes())?;
        fs::write(json, serde_json::to_vec_pretty(self)?)?;
        writeln!(io::stdout(), "\nreport in {}", json.display())?;
        self.draw(svg)
    }

    fn draw(&self, svg: &Path) -> io::Result<()> {
        let made = |name: &str| self.made.get(name).and_then(Value::as_str).unwrap_or_default();
        let date = made("date").split('T').next().unwrap_or_default();
        let (version, build, cpu) = (made("livehook"), made("build"), made("cpu"));
        let (cores, disk) = (made("cores"), made("file system"));
        let caption = format!("livehook {version}, {build} · {cores} cores of {cpu} · {disk} · {date}");
        if let Some(picture) = plot::draw(&self.latency_micros_by_rate, self.sync_micros, &caption) {
            fs::write(svg, picture?)?;
            writeln!(io::stdout(), "picture in {}", svg.display())?;
        }
        Ok(())
    }
}

/// Shows a report to those who read the repository: its figures in both READMEs, and its picture in `svg`.
pub(crate) fn publish(json: &Path, svg: &Path) -> io::Result<()> {
    let bytes = fs::read(json)?;
    serde_json::from_slice::<Report>(&bytes)?.draw(svg)?;
    let numbers: Numbers = serde_json::from_slice(&bytes)?;
    for (name, language) in [("README.md", Language::English), ("README.zh-CN.md", Language::Chinese)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(&path)?;
        let parts = text.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
        let (before, after) = parts.ok_or_else(|| io::Error::other(format!("{name} has no place for figures")))?;
        fs::write(&path, [before, MARKS[0], &numbers.section(language), MARKS[1], after].concat())?;
        writeln!(io::stdout(), "figures in {}", path.display())?;
    }
    Ok(())
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
