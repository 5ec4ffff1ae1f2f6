//! Figures, and how they are shown.

use serde::Serialize;

/// A figure.
#[derive(Clone, Debug, Serialize)]
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
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "better", rename_all = "lowercase")]
pub(crate) enum Bound {
    /// The more the better.
    More { must: f64, want: f64 },
    /// The less the better.
    Less { must: f64, want: f64 },
    /// Nothing: it explains others.
    None,
}

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
