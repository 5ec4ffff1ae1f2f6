//! How structs with documented members are written down.

/// Declares structs with documented members:
///
/// ```text
/// required app: Text,                                    every revision and sample has it
/// optional kind = "type" or "Type": Int,                 named otherwise in the body, under either name
/// nullable score = "score" misspelt "socre": [Float],    may be null; seen misprinted, which is noted
/// ```
///
/// The forms: `Int`, `IntText`, `Float`, `Bool`, `BoolText`, `Text`, `Id`, `Any`, another documented struct, `[form]`
/// for a list, `(one_or_more form)`, and `(json form)` for JSON inside text, `(json [form])` for a list there. Lists
/// become `Vec`, everything else `Option`.
macro_rules! documented {
    ($(
        $(#[$about:meta])*
        $vis:vis struct $name:ident { $(
            $(#[$doc:meta])*
            $need:ident $field:ident $(= $json:literal $(or $also:literal)* $(misspelt $wrong:literal)*)? : $form:tt
        ),* $(,)? }
    )+) => { $(
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        $vis struct $name { $( $(#[$doc])* pub $field: $crate::event::lenient::form!(place $form), )* }

        impl $crate::event::lenient::Schema for $name {
            const MEMBERS: &'static [$crate::event::lenient::Member<Self>] = &[ $(
                $crate::event::lenient::Member::$need(
                    $crate::event::lenient::names!($field $(, $json [$($also),*] [$($wrong),*])?),
                    |all, value, reader| $crate::event::lenient::form!(fill $form, all.$field, value, reader),
                ),
            )* ];
        }
    )+ };
}

/// The names of a member: its field's unless others are given.
macro_rules! names {
    ($field:ident) => {
        (stringify!($field), &[], &[])
    };
    ($field:ident, $json:literal $also:tt $wrong:tt) => {
        ($json, &$also, &$wrong)
    };
}

/// What a form means: the type of its `place` in the struct and of a single `value` there, its `reader`, and the
/// statement that `fill`s the place.
macro_rules! form {
    (place [$item:tt]) => { Vec<$crate::event::lenient::form!(value $item)> };
    (place (one_or_more $item:tt)) => { Vec<$crate::event::lenient::form!(value $item)> };
    (place $form:tt) => { Option<$crate::event::lenient::form!(value $form)> };

    (value Int) => { i64 };
    (value IntText) => { i64 };
    (value Float) => { f64 };
    (value Bool) => { bool };
    (value BoolText) => { bool };
    (value Text) => { String };
    (value Id) => { String };
    (value Any) => { String };
    (value (json [$item:tt])) => { $crate::event::lenient::Embedded<Vec<$crate::event::lenient::form!(value $item)>> };
    (value (json $form:tt)) => { $crate::event::lenient::Embedded<$crate::event::lenient::form!(value $form)> };
    (value $schema:ident) => { $schema };

    (reader Int) => { $crate::event::lenient::Int };
    (reader IntText) => { $crate::event::lenient::IntText };
    (reader Float) => { $crate::event::lenient::Float };
    (reader Bool) => { $crate::event::lenient::Bool };
    (reader BoolText) => { $crate::event::lenient::BoolText };
    (reader Text) => { $crate::event::lenient::Text };
    (reader Id) => { $crate::event::lenient::Id };
    (reader Any) => { $crate::event::lenient::Any };
    (reader [$item:tt]) => { $crate::event::lenient::List<$crate::event::lenient::form!(reader $item)> };
    (reader (one_or_more $item:tt)) => {
        $crate::event::lenient::OneOrMore<$crate::event::lenient::form!(reader $item)>
    };
    (reader (json $form:tt)) => { $crate::event::lenient::Json<$crate::event::lenient::form!(reader $form)> };
    (reader $schema:ident) => { $schema };

    (fill [$item:tt], $place:expr, $value:ident, $reader:ident) => {
        $place = $crate::event::lenient::form!(read [$item], $value, $reader).unwrap_or_default()
    };
    (fill (one_or_more $item:tt), $place:expr, $value:ident, $reader:ident) => {
        $place = $crate::event::lenient::form!(read (one_or_more $item), $value, $reader).unwrap_or_default()
    };
    (fill $form:tt, $place:expr, $value:ident, $reader:ident) => {
        $place = $crate::event::lenient::form!(read $form, $value, $reader)
    };
    (read $form:tt, $value:ident, $reader:ident) => {
        <$crate::event::lenient::form!(reader $form) as $crate::event::lenient::Form>::read($value, $reader)
    };
}

pub(in crate::event) use {documented, form, names};
