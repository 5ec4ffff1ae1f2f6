//! `livehook streams show`

use serde_json::Value;

use super::{cause, lasted};
use crate::cli::api::{self, AdminFlags, cell, second};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};
use crate::cli::table::Table;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    /// Push domain; "" for none
    #[arg(allow_hyphen_values = true)]
    domain: String,
    /// App; "" for none
    #[arg(allow_hyphen_values = true)]
    app: String,
    /// Stream name
    #[arg(allow_hyphen_values = true)]
    stream: String,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let path = ["streams", &part(&self.domain), &part(&self.app), &stream_part(&self.stream)];
        let answer = http::block_on(api.get(&path, &[]))?;
        match self.format.format {
            Format::Json => output::json(&String::from_utf8_lossy(&answer)),
            Format::Text => explain(&api::read(&answer)?),
        }
    }
}

/// A part of a name in a path, which cannot hold parts that are empty, `.` or `..`: these are written with a dash behind
/// them, and what is one of them and dashes by itself with one dash more.
fn part(name: &str) -> String {
    let resolved = matches!(name.trim_end_matches('-'), "" | "." | "..");
    if resolved { format!("{name}-") } else { name.to_owned() }
}

/// The last part: a stream has a name, so that dashes alone are one.
fn stream_part(name: &str) -> String {
    if name.bytes().all(|byte| byte == b'-') { name.to_owned() } else { part(name) }
}

fn explain(stream: &Value) -> anyhow::Result<()> {
    for member in MEMBERS {
        output::line(&format!("{member:<17} {}", output::plain(&cell(stream, member))))?;
    }
    let end = &stream["end"];
    output::line(&format!("{:<17} {} {}", "end", cause(stream), output::plain(&cell(end, "meaning"))))?;
    output::line("")?;
    pushes(stream).print()?;
    notes(stream)
}

const MEMBERS: [&str; 10] = [
    "domain",
    "app",
    "stream",
    "state",
    "sequence",
    "started_at",
    "ended_at",
    "last_event_at",
    "pushes",
    "screencapture_url",
];

fn pushes(stream: &Value) -> Table {
    let mut table = Table::new(&["SEQUENCE", "STATE", "STARTED", "ENDED", "LASTED", "CAUSE", "FILES", "PROBLEMS"]);
    for push in items(&stream["timeline"]) {
        let first = ["sequence", "state"].map(|member| cell(push, member));
        let moments = ["started_at", "ended_at"].map(|member| second(&cell(push, member)));
        let counts = ["recordings", "problems"].map(|member| items(&push[member]).count().to_string());
        table.row(first.into_iter().chain(moments).chain([lasted(push), cause(push)]).chain(counts));
    }
    table
}

/// Files and faults of all pushes, the newest push first, and at the end those of none.
fn notes(stream: &Value) -> anyhow::Result<()> {
    let of_pushes = |member: &'static str| items(&stream["timeline"]).flat_map(move |push| items(&push[member]));
    let files: Vec<_> = of_pushes("recordings").chain(items(&stream["other_recordings"])).collect();
    let problems: Vec<_> = of_pushes("problems").chain(items(&stream["problems"])).collect();
    if !files.is_empty() {
        let mut table = Table::new(&["FILE", "FORMAT", "FROM", "UNTIL", "ABNORMAL", "URL"]);
        for file in files {
            let moments = ["started_at", "ended_at"].map(|member| second(&cell(file, member)));
            let first = ["file_id", "format"].map(|member| cell(file, member));
            table.row(first.into_iter().chain(moments).chain(["abnormal", "url"].map(|member| cell(file, member))));
        }
        output::line("")?;
        table.print()?;
    }
    if !problems.is_empty() {
        let mut table = Table::new(&["PROBLEM", "AT", "DETAIL", "EVENT"]);
        for problem in problems {
            let at = second(&cell(problem, "at"));
            table.row([cell(problem, "kind"), at, cell(problem, "detail"), cell(problem, "event_id")]);
        }
        output::line("")?;
        table.print()?;
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_cannot_hold_is_written_with_dashes() {
        for (name, written) in [
            ("", "-"),
            ("-", "--"),
            ("--", "---"),
            ("-a", "-a"),
            ("live", "live"),
            (".", ".-"),
            ("..", "..-"),
            (".-", ".--"),
            ("...", "..."),
            (".a", ".a"),
        ] {
            assert_eq!(part(name), written, "{name}");
            let is_dashes = name.trim_matches('-').is_empty();
            assert_eq!(stream_part(name), if is_dashes { name } else { written }, "{name}");
        }
    }
}
