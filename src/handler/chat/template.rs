//! What a message says: a template in the language of Jinja, filled from an event.
//!
//! The template is the operator's, and its own text is sent as it stands. What it prints comes from strangers: each value
//! is put on one line and cut, and what could mention somebody (`<!channel>`, `<at …>`, `@all`) or change what is read
//! is replaced. Work is bounded, too: a body of more values than are looked at is not seen by the template, and one that
//! keeps it busy, or that it cannot deal with, gets the message of livehook's own template, with a word about that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::Service;
use crate::event::{Cause, Event, Kind, whole_number};
use crate::handler::seen::{self, EVENT_MEMBERS, Seen};
use crate::handler::{cloudevent, excerpt};

/// A compiled template.
#[derive(Clone)]
pub struct Template {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", .line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct TemplateFault {
    /// From 1; none where it is about the whole.
    line: Option<usize>,
    what: String,
}

/// The name under which an environment has its only template.
const NAME: &str = "template";
/// What is said when nothing else is configured.
const DEFAULT: &str = include_str!("default.j2");
/// Steps of one message; also bounds its memory, to a few megabytes.
const FUEL: u64 = 100_000;
/// Bytes of a template.
const SOURCE_BYTES_MAX: usize = 16 << 10;
/// Characters of one value.
const VALUE_CHARS_MAX: usize = 300;
/// Characters of what went wrong.
const TROUBLE_CHARS: usize = 200;

/// The variables of a template, and the members of `cause`.
const VARIABLES: [&str; 5] = ["event", "data", "title", "place", "cause"];
const CAUSE_MEMBERS: [&str; 3] = ["class", "meaning", "errcode"];

static DEFAULT_TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let environment = environment(DEFAULT).unwrap_or_else(|_| Environment::new());
    Template { source: DEFAULT.into(), environment: Arc::new(environment) }
});

impl Default for Template {
    /// Says what has happened in English, kind by kind.
    fn default() -> Self {
        DEFAULT_TEMPLATE.clone()
    }
}

impl Template {
    /// Compiles a template, or says what is wrong with it: its syntax, and names that do not exist.
    pub fn compile(source: &str) -> Result<Self, TemplateFault> {
        let whole = |what: String| TemplateFault { line: None, what };
        if source.trim().is_empty() {
            return Err(whole("is empty, and services take no empty message".to_owned()));
        }
        if source.len() > SOURCE_BYTES_MAX {
            return Err(whole(format!("has {} bytes, {SOURCE_BYTES_MAX} at most are taken", source.len())));
        }
        let environment = environment(source).map_err(|error| TemplateFault::of(&error))?;
        let template = Self { source: source.into(), environment: Arc::new(environment) };
        template.judge_names()?;
        template.try_out()?;
        Ok(template)
    }

    /// The message for an event, cut to what the service takes; never empty.
    pub(super) fn render(&self, event: &Event, service: Service) -> String {
        let context = context(event);
        let text = match self.fill(&context, service) {
            Ok(text) => text,
            Err(error) => {
                let trouble = excerpt::excerpt(error.to_string().as_bytes(), &[], TROUBLE_CHARS);
                let usual = Self::default().fill(&context, service).unwrap_or_default();
                format!("{usual}\n(the template failed: {})", tamed(&trouble, service))
            }
        };
        let text = text.trim();
        let text = if text.is_empty() { event.facts.kind.slug() } else { text };
        cut(text, service.text_bytes_max())
    }

    fn fill(&self, context: &Value, service: Service) -> Result<String, Error> {
        let context = Value::from_pairs(
            VARIABLES
                .iter()
                .map(|name| (*name, context.get_attr(name).unwrap_or_default()))
                .chain([(SERVICE, Value::from(service.slug()))]),
        );
        let text = self.environment.get_template(NAME)?.render(context)?;
        if *self.source != *DEFAULT {
            return Ok(text);
        }
        // What an event lacks leaves lines empty there.
        Ok(text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n"))
    }

    fn judge_names(&self) -> Result<(), TemplateFault> {
        let Ok(template) = self.environment.get_template(NAME) else { return Ok(()) };
        let globals: Vec<_> = self.environment.globals().map(|(name, _)| name.to_owned()).collect();
        let mut names: Vec<_> = template.undeclared_variables(true).into_iter().collect();
        names.sort();
        for name in names {
            let mut parts = name.split('.');
            let (root, member) = (parts.next().unwrap_or_default(), parts.next());
            let known: &[&str] = match root {
                "event" => &EVENT_MEMBERS,
                "cause" => &CAUSE_MEMBERS,
                _ if VARIABLES.contains(&root) || globals.iter().any(|global| global == root) => continue,
                _ => {
                    let all = VARIABLES.join(", ");
                    return Err(self.fault_about(root, format!("there is no variable `{root}`; there are {all}")));
                }
            };
            if let Some(member) = member.filter(|member| !known.contains(member)) {
                let all = known.join(", ");
                return Err(self.fault_about(member, format!("`{root}` has no member `{member}`; it has {all}")));
            }
        }
        Ok(())
    }

    /// Filters, tests and functions that do not exist are found by using them, so it is filled once for each kind.
    fn try_out(&self) -> Result<(), TemplateFault> {
        for kind in Kind::all() {
            let event = Value::from_pairs([("kind", kind.slug())]);
            let context =
                Value::from_pairs([("event", event), ("data", Value::from_pairs::<[(&str, Value); 0], _, _>([]))]);
            if let Err(error) = self.fill(&context, Service::Slack)
                && matches!(
                    error.kind(),
                    ErrorKind::UnknownFilter
                        | ErrorKind::UnknownTest
                        | ErrorKind::UnknownFunction
                        | ErrorKind::SyntaxError
                        | ErrorKind::TemplateNotFound
                )
            {
                return Err(TemplateFault::of(&error));
            }
        }
        Ok(())
    }

    fn fault_about(&self, word: &str, what: String) -> TemplateFault {
        let line = self.source.lines().position(|line| line.contains(word)).map(|at| at + 1);
        TemplateFault { line, what }
    }
}

impl TemplateFault {
    fn of(error: &Error) -> Self {
        let what =
            error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
        Self { line: error.line(), what: excerpt::excerpt(what.as_bytes(), &[], TROUBLE_CHARS) }
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

/// The variable that tells what is printed for whom. No template can name it.
const SERVICE: &str = "@service";

fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(print);
    // They would mark what they make as safe for HTML, which is not for chats.
    environment.add_filter("e", |value: Value| value);
    environment.add_filter("escape", |value: Value| value);
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}

/// Prints a value. `safe` is the operator's word for it.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() || value.is_none() {
        return Ok(());
    }
    let text = value.to_string();
    let service = state.lookup(SERVICE).and_then(|name| Service::from_slug(name.as_str()?));
    let text = if value.is_safe() { text } else { tamed(&text, service.unwrap_or(Service::WeCom)) };
    out.write_str(&text).map_err(Error::from)
}

/// A value as it may stand in a message: one line, not too long, without what mentions, formats or hides.
fn tamed(text: &str, service: Service) -> String {
    let cut = match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    };
    let mut out = String::with_capacity(cut.len());
    for c in cut.chars() {
        match c {
            // Without these nobody is mentioned, whatever a service makes of the rest.
            '@' => out.push('＠'),
            '<' if service == Service::Slack => out.push_str("&lt;"),
            '>' if service == Service::Slack => out.push_str("&gt;"),
            '&' if service == Service::Slack => out.push_str("&amp;"),
            '<' => out.push('＜'),
            '>' => out.push('＞'),
            c if c.is_control() || is_hidden(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// What is invisible or turns the direction of writing.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{FEFF}')
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}')
        || matches!(c, '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - MARK.len());
    format!("{}{MARK}", &text[..end])
}

/// What a template sees of an event.
fn context(event: &Event) -> Value {
    let facts = &event.facts;
    let text = |name: &Option<String>| Value::from(name.as_deref().unwrap_or_default());
    let [id, verification] = [event.id.to_string(), event.verification.slug().to_owned()].map(Value::from);
    let members = [
        ("id", id),
        ("kind", facts.kind.slug().into()),
        ("event_type", facts.event_type.map_or(Value::UNDEFINED, Value::from)),
        ("domain", text(&facts.domain)),
        ("app", text(&facts.app)),
        ("stream", text(&facts.stream)),
        ("subject", text(&facts.stream)),
        ("sequence", text(&facts.sequence)),
        ("time", facts.occurred_at.unwrap_or(event.received_at).rfc3339_secs().into()),
        ("receivedat", event.received_at.rfc3339().into()),
        ("verification", verification),
        ("type", cloudevent::type_of(event).into()),
        ("source", cloudevent::source(event).into()),
    ];
    Value::from_pairs([
        ("event", Value::from_pairs(members)),
        ("data", data(event)),
        ("title", facts.kind.facts().title[0].into()),
        ("place", place(event).into()),
        ("cause", cause(event)),
    ])
}

/// `room-7 (push.example.com/live)`
fn place(event: &Event) -> String {
    let facts = &event.facts;
    let way = [&facts.domain, &facts.app].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/");
    match (&facts.stream, way.is_empty()) {
        (Some(stream), false) => format!("{stream} ({way})"),
        (Some(stream), true) => stream.clone(),
        (None, false) => way,
        (None, true) => "no stream named".to_owned(),
    }
}

/// Why a push was interrupted; undefined for other kinds.
fn cause(event: &Event) -> Value {
    let errcode = event.json().member("errcode").and_then(whole_number);
    let Some(errcode) = errcode.filter(|_| event.facts.kind == Kind::StreamInterruption) else {
        return Value::UNDEFINED;
    };
    let Cause { class, meaning, .. } = Cause::of(errcode);
    Value::from_pairs([("class", class.slug().into()), ("meaning", meaning.into()), ("errcode", Value::from(errcode))])
}

/// The body; empty when it is too large to be looked at.
fn data(event: &Event) -> Value {
    seen::body(event).map_or_else(|seen::TooLarge| Value::from_pairs::<[(&str, Value); 0], _, _>([]), value)
}

fn value(seen: Seen<'_>) -> Value {
    match seen {
        Seen::Null => Value::from(()),
        Seen::Bool(is) => is.into(),
        Seen::Whole(number) => number.into(),
        Seen::Float(number) => number.into(),
        Seen::Text(text) => text.into_owned().into(),
        Seen::List(elements) => elements.into_iter().map(value).collect::<Vec<_>>().into(),
        Seen::Object(members) => {
            let members = members.into_iter().map(|(name, member)| (name.into_owned(), value(member)));
            Value::from_pairs(members.collect::<BTreeMap<_, _>>())
        }
    }
}
