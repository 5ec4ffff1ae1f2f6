//! The name an event has by its content, built from its members.

use crate::event::Kind;

/// The slug of the kind and the parts, each with its length, so that different parts never make the same key. None
/// when a part is missing or blank.
pub(super) fn of(kind: Kind, parts: &[&dyn Part]) -> Option<String> {
    let mut key = kind.slug().to_owned();
    key.push(' ');
    parts.iter().try_for_each(|part| part.append_to(&mut key))?;
    Some(key)
}

/// Something a key is made of.
pub(super) trait Part {
    /// Appends itself; none when it is missing.
    fn append_to(&self, key: &mut String) -> Option<()>;
}

/// A part an event may do without, and is then another event than one that has it.
pub(super) struct IfAny<'a, P>(pub(super) &'a Option<P>);

impl Part for str {
    fn append_to(&self, key: &mut String) -> Option<()> {
        key.push_str(&self.len().to_string());
        key.push(':');
        key.push_str(self);
        key.push(',');
        Some(())
    }
}

impl Part for &str {
    fn append_to(&self, key: &mut String) -> Option<()> {
        (**self).append_to(key)
    }
}

impl Part for Option<String> {
    fn append_to(&self, key: &mut String) -> Option<()> {
        self.as_deref().filter(|text| !text.trim().is_empty())?.append_to(key)
    }
}

impl Part for Option<i64> {
    fn append_to(&self, key: &mut String) -> Option<()> {
        self.as_ref()?.to_string().as_str().append_to(key)
    }
}

impl<P> Part for IfAny<'_, P>
where
    Option<P>: Part,
{
    fn append_to(&self, key: &mut String) -> Option<()> {
        self.0.append_to(key).or_else(|| {
            key.push_str("-,");
            Some(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[Option<&str>]) -> Option<String> {
        let parts: Vec<_> = parts.iter().map(|part| part.map(str::to_owned)).collect();
        of(Kind::Monitor, &parts.iter().map(|part| part as &dyn Part).collect::<Vec<_>>())
    }

    #[test]
    fn parts_cannot_be_shifted_into_each_other() {
        assert_eq!(key(&[Some("a"), Some("b,c")]).unwrap(), "monitor 1:a,3:b,c,");
        assert_ne!(key(&[Some("a"), Some("b")]), key(&[Some("a,1:b")]));
        assert_ne!(key(&[Some("ab"), Some("c")]), key(&[Some("a"), Some("bc")]));
    }

    #[test]
    fn a_missing_or_blank_part_leaves_no_key() {
        assert_eq!(key(&[Some("a"), None]), None);
        assert_eq!(key(&[Some(" "), Some("a")]), None);
        assert_eq!(of(Kind::Monitor, &[&None::<i64>]), None);
    }

    #[test]
    fn an_optional_part_is_told_from_every_value() {
        let with = |part: Option<i64>| of(Kind::Monitor, &[&IfAny(&part)]);
        assert_eq!(with(None).unwrap(), "monitor -,");
        assert_ne!(with(None), with(Some(0)));
    }
}
