//! Figures, how they are shown, and the part of both READMEs that shows some of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A figure.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    #[serde(flatten)]
    pub(crate) bound: Bound,
    /// What became of the bound, in a word.
    pub(crate) verdict: String,
    pub(crate) note: String,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(tag = "better", rename_all = "lowercase")]
pub(crate) enum Bound {
    /// The more the better.
    More { must: f64, want: f64 },
    /// The less the better.
    Less { must: f64, want: f64 },
    /// Nothing: it explains others.
    None,
}

/// What a report has for the READMEs.
#[derive(Debug, Deserialize)]
pub(crate) struct Numbers {
    made: Map<String, Value>,
    figures: Vec<Figure>,
}

/// A language of a README.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    English,
    Chinese,
}

/// What stands before and behind the table in a README.
pub(crate) const MARKS: [&str; 2] = ["<!-- written by cargo bench --bench accept -->\n", "<!-- end -->\n"];

/// What the READMEs show: the figure's own name, and that in each language. Where a figure is missing its row is.
const SHOWN: &[(&str, [&str; 2])] = &[
    ("durable accept", ["taken durably, on one core", "单核持久接收"]),
    (
        "durable accept / bare route",
        ["against a bare axum route that stores nothing", "与不做任何存储的裸 axum 路由之比"],
    ),
    ("processor time, durable accept", ["processor time for each", "每个回调的处理器时间"]),
    ("processor time, bare route", ["processor time for each on the bare route", "裸路由每个回调的处理器时间"]),
    (
        "4 KiB append + fdatasync, p99",
        ["a 4 KiB append and its sync on the same disk, p99", "同一磁盘上追加 4 KiB 并同步，p99"],
    ),
    ("answer at 1,000/s, p99", ["answer at 1,000/s, p99", "1,000 个/秒时的应答，p99"]),
    ("answer at 1,000/s, p99 / sync p99", ["the same in syncs", "同上，以一次同步为单位"]),
    ("answer at 5,000/s, p99", ["answer at 5,000/s, p99", "5,000 个/秒时的应答，p99"]),
    ("answer at 5,000/s, p99 / sync p99", ["the same in syncs", "同上，以一次同步为单位"]),
    (
        "accept delivering / alone (file, 1,000 streams)",
        ["taken while all is delivered to a file, against taking alone", "同时全部投递到文件时的接收，与只接收之比"],
    ),
    (
        "accept delivering / alone (http, 1,000 streams)",
        ["taken while all is delivered over HTTP, against taking alone", "同时全部经 HTTP 投递时的接收，与只接收之比"],
    ),
    (
        "accept, store filled / empty",
        ["taken with {stored} events stored, against an empty store", "库中已有 {stored} 个事件时的接收，与空库之比"],
    ),
    (
        "accept of 1,024 callers, syncs take 2 ms more",
        ["taken from 1,024 callers when each sync takes 2 ms more", "1,024 个并发调用，每次同步多用 2 ms 时的接收"],
    ),
    ("accept of 1,024 callers, syncs take 10 ms more", ["when it takes 10 ms more", "多用 10 ms 时"]),
    ("accept of 1,024 callers, syncs take 50 ms more", ["when it takes 50 ms more", "多用 50 ms 时"]),
    ("memory idle", ["memory idle", "内存，空闲"]),
    ("memory at 5,000/s", ["memory at 5,000/s", "内存，5,000 个/秒"]),
    ("memory at saturation", ["memory at saturation", "内存，饱和"]),
    (
        "start to first durable 200, empty",
        ["start to the first durable 200, on an empty store", "从启动到第一个持久的 200，空库"],
    ),
    ("start to first durable 200, killed", ["the same after `kill -9` under load", "同上，负载下 `kill -9` 之后"]),
    ("acknowledged events lost", ["answered events lost by that", "因此丢失的已应答事件"]),
    ("program, stripped", ["the program", "程序大小"]),
];

impl Figure {
    pub(crate) fn new(what: String, value: f64, unit: &str, bound: Bound, note: String) -> Self {
        Self { what, value, unit: unit.to_owned(), bound, verdict: bound.verdict(value).to_owned(), note }
    }

    /// For people, with its unit.
    pub(crate) fn shown(&self) -> String {
        shown(self.value, &self.unit)
    }

    /// What must hold and what is wanted, for people.
    pub(crate) fn limits(&self) -> [String; 2] {
        let limits = |sign, must, want| [must, want].map(|limit| format!("{sign} {}", shown(limit, &self.unit)));
        match self.bound {
            Bound::More { must, want } => limits("≥", must, want),
            Bound::Less { must, want } => limits("≤", must, want),
            Bound::None => [String::new(), String::new()],
        }
    }
}

impl Bound {
    fn verdict(self, figure: f64) -> &'static str {
        let (must, want) = match self {
            Self::More { must, want } => (figure >= must, figure >= want),
            Self::Less { must, want } => (figure <= must, figure <= want),
            Self::None => return "",
        };
        match (must, want) {
            (_, true) => "as wanted",
            (true, false) => "holds",
            (false, false) => "MISSED",
        }
    }
}

impl Numbers {
    /// What a README shows: where it was measured, and the table.
    pub(crate) fn section(&self, language: Language) -> String {
        let column = match language {
            Language::English => 0,
            Language::Chinese => 1,
        };
        let mut text = self.place(language);
        text.push_str(["\n| | measured | must hold | wanted |", "\n| | 实测 | 必须达到 | 期望 |"][column]);
        text.push_str("\n|---|---|---|---|\n");
        for (name, names) in SHOWN {
            let Some(figure) = self.figures.iter().find(|figure| figure.what == *name) else {
                continue;
            };
            let stored = self.made("stored");
            let [must, want] = figure.limits();
            let cells = [&names[column].replace("{stored}", stored), &figure.shown(), &must, &want];
            text.extend(cells.map(|cell| format!("| {cell} ")));
            text.push_str("|\n");
        }
        text
    }

    fn place(&self, language: Language) -> String {
        let [command, date, cores, cpu, memory, kernel, disk, version] =
            ["command", "date", "cores", "cpu", "memory", "kernel", "file system", "livehook"]
                .map(|name| self.made(name));
        let date = date.split('T').next().unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default();
        let others = self.made("others").split(' ').next().unwrap_or_default();
        match language {
            Language::English => format!(
                "One run of `{command}` with livehook {version} on {date}, on {cores} cores of {cpu}, {memory}, Linux \
                 {kernel}, {disk}, while others had {others} % of the processors:\n"
            ),
            Language::Chinese => format!(
                "`{command}` 在 {date} 的一次运行：livehook {version}，{cpu} 的 {cores} 个核，{memory}，Linux {kernel}，{disk}，\
                 其间其他进程占用处理器的 {others} %：\n"
            ),
        }
    }

    fn made(&self, name: &str) -> &str {
        self.made.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A value with its unit: three digits or so, as many as mean anything.
pub(crate) fn shown(value: f64, unit: &str) -> String {
    let (value, unit) = match unit {
        " µs" if value >= 1e6 => (value / 1e6, " s"),
        " µs" if value >= 1e3 => (value / 1e3, " ms"),
        _ => (value, unit),
    };
    let digits = match value.abs() {
        whole if whole.fract() == 0.0 => 0,
        large if large >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    format!("{}{rest}{unit}", grouped(whole))
}

/// With a comma before each three digits.
pub(crate) fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
