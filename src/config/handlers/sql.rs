//! The keys of `postgres` and `mysql`.

use std::collections::HashSet;

use super::{Section, Target, outside};
use crate::handler::sql::{Field, Settings};

/// That of the ready-made tables.
const TABLE: &str = "css_events";
/// Enough to hide the latency of a sync, few enough for a database that others use too.
const CONNECTIONS: usize = 4;
/// More than one handler should take of a database.
const CONNECTIONS_MAX: usize = 100;
/// The longest name that both databases take.
const NAME_BYTES_MAX: usize = 63;

#[cfg(feature = "postgres")]
pub(super) fn postgres(s: &mut Section<'_>) -> Option<Target> {
    settings(s, &["postgres", "postgresql"]).map(Target::Postgres)
}

#[cfg(feature = "mysql")]
pub(super) fn mysql(s: &mut Section<'_>) -> Option<Target> {
    settings(s, &["mysql", "mariadb"]).map(Target::Mysql)
}

fn settings(s: &mut Section<'_>, schemes: &[&str]) -> Option<Settings> {
    let server = outside::server(s, schemes);
    let table: String = s.read("table", TABLE.to_owned());
    let table: Vec<_> = table.split('.').map(str::to_owned).collect();
    s.demand("table", table.len() <= 2 && table.iter().all(|name| is_name(name)), || {
        format!("must be a table, or schema and table with a dot between them, each of 1 to {NAME_BYTES_MAX} bytes")
    });
    let columns = columns(s);
    let connections = s.count("connections", CONNECTIONS);
    s.demand("connections", (1..=CONNECTIONS_MAX).contains(&connections), || {
        format!("must lie between 1 and {CONNECTIONS_MAX}")
    });
    Some(Settings { server: server?, table, columns, connections })
}

/// Those given; where none is, the defaults.
fn columns(s: &mut Section<'_>) -> Vec<(Field, String)> {
    let given = s.table_of_defaults("columns", |s| {
        let read = |(name, field)| {
            let column: String = s.optional(name)?;
            s.demand(name, is_name(&column), || format!("is no name of a column: 1 to {NAME_BYTES_MAX} bytes"));
            Some((field, column))
        };
        Field::ALL.into_iter().filter_map(read).collect::<Vec<_>>()
    });
    if given.is_empty() {
        let is_default = |(name, _): &(&str, Field)| Field::DEFAULTS.contains(name);
        return Field::ALL.into_iter().filter(is_default).map(|(name, field)| (field, name.to_owned())).collect();
    }
    let has_id = given.iter().any(|(field, _)| *field == Field::Id);
    s.demand("columns", has_id, || "must have a column for id, by which a repetition is recognised");
    let mut names = HashSet::new();
    s.demand("columns", given.iter().all(|(_, name)| names.insert(name)), || "names a column twice");
    given
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('\0')
}
