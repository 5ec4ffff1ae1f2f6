//! Reads the members CSS documents from bodies that differ from the documentation, and notes where they do.
//!
//! The table of a page becomes a [`documented!`] block: a plain struct, and beside it the list of its members, which
//! one reader walks for all of them. Nothing here fails. What cannot be read costs itself and a note.
//!
//! What a hostile body can make us spend is bounded: notes by [`NOTES_MAX`] and [`NAME_CHARS_MAX`], list items by
//! [`ITEMS_MAX`], recursion by the documented structure (nesting below it is never entered), time by a pass over the
//! body for each documented level.

mod documented;
mod forms;

pub(super) use self::documented::{documented, form, names};
pub use self::forms::Embedded;
pub(super) use self::forms::{Any, Bool, BoolText, Float, Id, Int, IntText, Json, List, OneOrMore, Text};
use super::Kind;
use super::json::{Shape, Value};

/// Notes about one body; further ones are only counted.
const NOTES_MAX: usize = 32;
/// Characters of a name from the body that a note repeats.
const NAME_CHARS_MAX: usize = 64;
/// List items kept of one body, over all its lists. Three bytes of JSON can become an item of two hundred, so without
/// a limit a body of a megabyte would cost sixty; real bodies have a few dozen items.
const ITEMS_MAX: usize = 16_384;

/// Reads a whole body of the given kind. Beside what was understood it returns the notes, a sentence each.
pub(super) fn read<F: Form>(kind: Kind, body: Value<'_>) -> (Option<F::Value>, Vec<String>) {
    let mut reader = Reader {
        kind,
        path: Vec::new(),
        notes: Vec::new(),
        notes_left_out: 0,
        items_left: ITEMS_MAX,
        null_is_fine: false,
    };
    let value = F::read(body, &mut reader);
    (value, reader.finish())
}

/// A name from a body, short and on one line.
pub(super) fn printable(name: &str) -> String {
    let mut chars = name.chars();
    let mut out: String = chars.by_ref().take(NAME_CHARS_MAX).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// How a documented member is written, and what it becomes.
pub(super) trait Form {
    /// What it becomes.
    type Value;

    /// Reads a value, or notes why it cannot be read.
    fn read(value: Value<'_>, reader: &mut Reader) -> Option<Self::Value>;
}

/// A structure with documented members.
pub(super) trait Schema: Default + 'static {
    /// The members, at most [`COMMON_SLOT`] of them.
    const MEMBERS: &'static [Member<Self>];
}

/// A documented member of `S`.
pub(super) struct Member<S> {
    name: &'static str,
    also: &'static [&'static str],
    misspelt: &'static [&'static str],
    need: Need,
    fill: fn(&mut S, Value<'_>, &mut Reader),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    Optional,
    Nullable,
}

impl<S> Member<S> {
    const fn new(need: Need, names: Names, fill: fn(&mut S, Value<'_>, &mut Reader)) -> Self {
        let (name, also, misspelt) = names;
        Self { name, also, misspelt, need, fill }
    }

    /// Every revision of the page and every sample has it.
    pub(super) const fn required(names: Names, fill: fn(&mut S, Value<'_>, &mut Reader)) -> Self {
        Self::new(Need::Required, names, fill)
    }

    /// Some revisions or samples do without it.
    pub(super) const fn optional(names: Names, fill: fn(&mut S, Value<'_>, &mut Reader)) -> Self {
        Self::new(Need::Optional, names, fill)
    }

    /// Optional, and documented to be `null` at times.
    pub(super) const fn nullable(names: Names, fill: fn(&mut S, Value<'_>, &mut Reader)) -> Self {
        Self::new(Need::Nullable, names, fill)
    }
}

/// The name of a member, other names it is documented under, and misprints of it.
pub(super) type Names = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Members any body may have (page 38080). Kind and signature are read from them elsewhere.
const COMMON: [Member<()>; 4] = [
    Member::optional(("event_type", &[], &[]), |(), value, reader| reader.check_event_type(value)),
    Member::optional(("t", &[], &[]), |(), value, reader| _ = IntText::read(value, reader)),
    Member::optional(("sign", &[], &[]), |(), value, reader| reader.check_text(value)),
    Member::optional(("interface", &[], &[]), |(), value, reader| reader.check_text(value)),
];

/// In the set of members seen, the common ones come last.
const COMMON_SLOT: usize = 60;

impl<S: Schema> Form for S {
    type Value = S;

    fn read(object: Value<'_>, reader: &mut Reader) -> Option<S> {
        const { assert!(S::MEMBERS.len() <= COMMON_SLOT && COMMON_SLOT + COMMON.len() <= 64) };
        if object.shape() != Shape::Object {
            reader.differs(object, "an object");
            return None;
        }
        let is_body = reader.path.is_empty();
        let mut all = S::default();
        let mut seen = 0_u64;
        for (key, value) in object.members() {
            let key = key.text();
            if let Some((slot, name)) = find(S::MEMBERS, &key) {
                let repeated = !set_bit(&mut seen, slot);
                reader.take(&S::MEMBERS[slot], name, repeated, &mut all, value);
            } else if let Some((slot, name)) = find(&COMMON, &key).filter(|_| is_body) {
                let repeated = !set_bit(&mut seen, COMMON_SLOT + slot);
                reader.take(&COMMON[slot], name, repeated, &mut (), value);
            } else {
                reader.note(|path| format!("unknown member `{}`", path.with(&printable(&key))));
            }
        }
        for (slot, member) in S::MEMBERS.iter().enumerate() {
            if member.need == Need::Required && seen & (1 << slot) == 0 {
                reader.note(|path| format!("`{}` is missing", path.with(member.name)));
            }
        }
        Some(all)
    }
}

/// The place of a member in the table, and the one of its names that was used.
fn find<S>(members: &[Member<S>], key: &str) -> Option<(usize, &'static str)> {
    let by_name = members.iter().enumerate().find(|(_, member)| member.name == key);
    by_name.map(|(slot, member)| (slot, member.name)).or_else(|| {
        members.iter().enumerate().find_map(|(slot, member)| {
            let mut others = member.also.iter().chain(member.misspelt);
            others.find(|other| **other == key).map(|other| (slot, *other))
        })
    })
}

/// Whether the bit was clear.
fn set_bit(set: &mut u64, place: usize) -> bool {
    let before = *set;
    *set |= 1 << place;
    *set != before
}

/// Where we are in a body, and what was strange so far.
pub(super) struct Reader {
    kind: Kind,
    path: Vec<Step>,
    notes: Vec<String>,
    notes_left_out: usize,
    items_left: usize,
    /// Whether the member being read may be null. Only forms without members of their own are declared so.
    null_is_fine: bool,
}

enum Step {
    Member(&'static str),
    Item(usize),
}

impl Reader {
    fn take<S>(&mut self, member: &Member<S>, name: &'static str, repeated: bool, all: &mut S, value: Value<'_>) {
        self.path.push(Step::Member(name));
        if repeated {
            self.note(|path| format!("`{}` is repeated, the last one counts", path.place()));
        }
        if member.misspelt.contains(&name) {
            self.note(|path| format!("`{}` stands for `{}`", path.place(), member.name));
        }
        self.null_is_fine = member.need == Need::Nullable;
        (member.fill)(all, value, self);
        self.null_is_fine = false;
        self.path.pop();
    }

    fn differs(&mut self, value: Value<'_>, documented: &str) {
        if self.null_is_fine && value.shape() == Shape::Null {
            return;
        }
        self.note(|path| format!("`{}` is {}, documented as {documented}", path.place(), value.shape().name()));
    }

    fn note(&mut self, sentence: impl FnOnce(Path<'_>) -> String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(sentence(Path(&self.path)));
        } else {
            self.notes_left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.notes_left_out > 0 {
            self.notes.push(format!("… and {} more", self.notes_left_out));
        }
        self.notes
    }

    fn check_event_type(&mut self, value: Value<'_>) {
        let sent = Int::read(value, self);
        if let (Some(sent), Some(documented)) = (sent, self.kind.facts().event_type)
            && sent != documented
        {
            let kind = self.kind;
            self.note(|_| format!("`event_type` is {sent}, documented as {documented} for {kind}"));
        }
    }

    fn check_text(&mut self, value: Value<'_>) {
        if value.shape() != Shape::Text {
            self.differs(value, "text");
        }
    }
}

#[derive(Clone, Copy)]
struct Path<'a>(&'a [Step]);

impl Path<'_> {
    /// Where we are, as `data.items[2]`.
    fn place(self) -> String {
        if self.0.is_empty() {
            return "body".to_owned();
        }
        let steps = self.0.iter().map(|step| match step {
            Step::Member(name) => format!(".{name}"),
            Step::Item(index) => format!("[{index}]"),
        });
        let place: String = steps.collect();
        place.trim_start_matches('.').to_owned()
    }

    /// A member of what is where we are.
    fn with(self, member: &str) -> String {
        if self.0.is_empty() { member.to_owned() } else { format!("{}.{member}", self.place()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::json;

    documented! {
        /// All forms.
        struct Sample {
            /// Required.
            required int: Int,
            /// Digits.
            optional digits: IntText,
            /// Fraction.
            optional float: Float,
            /// Boolean.
            optional flag: Bool,
            /// Word.
            optional word: BoolText,
            /// Text.
            optional text: Text,
            /// Name.
            optional id: Id,
            /// As sent.
            optional any: Any,
            /// May be null.
            nullable silent: Int,
            /// Renamed.
            optional renamed = "Renamed" or "renamed" misspelt "ranemed": Int,
            /// Names.
            optional list: [Text],
            /// Structures.
            optional items: [Item],
            /// Structure.
            optional item: Item,
            /// Text that holds a structure.
            optional inner: (json Item),
        }

        /// An item.
        struct Item {
            /// Number.
            optional number: Int,
        }
    }

    fn read_sample(members: &str) -> (Sample, Vec<String>) {
        let text = format!(r#"{{"int":1,{members}}}"#);
        let (sample, notes) = read::<Sample>(Kind::StreamPush, json::parse(&text).unwrap());
        (sample.unwrap(), notes)
    }

    #[test]
    fn every_form_takes_what_it_can_and_notes_the_rest() {
        for (member, note) in [
            (r#""digits":"7""#, ""),
            (r#""digits":7"#, ""),
            (r#""digits":"""#, "`digits` is text, documented as the digits of a whole number"),
            (r#""float":"1.5""#, "`float` is text, documented as a number"),
            (r#""float":1e999"#, "`float` is a number, documented as a number"),
            (r#""float":"NaN""#, "`float` is text, documented as a number"),
            (r#""float":true"#, "`float` is a boolean, documented as a number"),
            (r#""flag":"true""#, "`flag` is text, documented as a boolean"),
            (r#""flag":1"#, "`flag` is a number, documented as a boolean"),
            (r#""word":"true""#, ""),
            (r#""word":true"#, ""),
            (r#""word":"maybe""#, "`word` is text, documented as the word true or false"),
            (r#""text":12"#, "`text` is a number, documented as text"),
            (r#""id":123456789012345678901234567890"#, ""),
            (r#""id":[]"#, "`id` is a list, documented as text"),
            (r#""any":[1]"#, ""),
            (r#""silent":null"#, ""),
            (r#""silent":7,"silent":null"#, "`silent` is repeated, the last one counts"),
            (r#""silent":[]"#, "`silent` is a list, documented as a whole number"),
            (r#""Renamed":1"#, ""),
            (r#""renamed":1"#, ""),
            (r#""ranemed":1"#, "`ranemed` stands for `Renamed`"),
            (r#""list":null"#, "`list` is null, documented as a list"),
            (r#""list":"a""#, "`list` is text, documented as a list"),
            (r#""list":["a",null]"#, "`list[1]` is null, documented as text"),
            (r#""items":[{},{"number":[]}]"#, "`items[1].number` is a list, documented as a whole number"),
            (r#""items":[{"event_type":1}]"#, "unknown member `items[0].event_type`"),
            (r#""item":null"#, "`item` is null, documented as an object"),
            (r#""inner":"{\"x\":1}""#, "unknown member `inner.x`"),
            (r#""inner":"[]""#, "`inner` is a list, documented as an object"),
            (r#""inner":"no""#, "the text of `inner` is not JSON"),
            (r#""inner":3"#, "`inner` is a number, documented as text that holds JSON"),
            (r#""int":2"#, "`int` is repeated, the last one counts"),
            (r#""sign":1"#, "`sign` is a number, documented as text"),
            (r#""event_type":2"#, "`event_type` is 2, documented as 1 for stream-push"),
        ] {
            assert_eq!(read_sample(member).1.join("; "), note, "{member}");
        }
    }

    #[test]
    fn what_can_be_read_is_kept() {
        let (sample, _) = read_sample(
            r#""digits":"7","float":"1.5","flag":"TRUE","silent":7,"silent":null,"word":"false","text":12,
               "id":123456789012345678901234567890,"any":[1],"ranemed":"3","list":["a",null,5],"items":[{"number":"1"},7],"inner":"\"{\\\"number\\\":9}\"""#,
        );
        let item = |number| Item { number: Some(number) };
        let expected = Sample {
            int: Some(1),
            digits: Some(7),
            float: Some(1.5),
            flag: Some(true),
            word: Some(false),
            text: Some("12".to_owned()),
            id: Some("123456789012345678901234567890".to_owned()),
            any: Some("[1]".to_owned()),
            renamed: Some(3),
            list: vec!["a".to_owned(), "5".to_owned()],
            items: vec![item(1)],
            inner: Some(Embedded { text: r#""{\"number\":9}""#.to_owned(), value: Some(item(9)) }),
            ..Sample::default()
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn what_is_missing_is_noted_only_where_it_is_required() {
        let (sample, notes) = read::<Sample>(Kind::StreamPush, Value::empty_object());
        assert_eq!(sample, Some(Sample::default()));
        assert_eq!(notes, ["`int` is missing"]);
        let (sample, notes) = read::<Sample>(Kind::StreamPush, json::parse("[]").unwrap());
        assert_eq!((sample, notes.as_slice()), (None, &["`body` is a list, documented as an object".to_owned()][..]));
    }

    #[test]
    fn notes_are_few_short_and_on_one_line() {
        let many = r#""member":1,"#.repeat(1000);
        let (_, notes) = read_sample(&format!(r#"{many}"text":"""#));
        assert_eq!(notes.len(), NOTES_MAX + 1);
        assert_eq!(notes[NOTES_MAX], "… and 968 more");
        let (_, notes) = read_sample(&format!(r#""a\n\u202e{}":1"#, "x".repeat(1_000_000)));
        assert_eq!(notes, [format!(r"unknown member `a\n\u{{202e}}{}…`", "x".repeat(NAME_CHARS_MAX - 3))]);
    }

    #[test]
    fn lists_are_read_up_to_a_number_of_items() {
        let items = |count: usize| format!("[{}{{}}]", "{},".repeat(count - 1));
        let (sample, notes) = read_sample(&format!(r#""items":{},"list":["a"]"#, items(ITEMS_MAX)));
        assert_eq!((sample.items.len(), sample.list.len()), (ITEMS_MAX, 0));
        assert_eq!(notes, ["`list` has more items than are read, 0 are"]);
    }
}
