//! The list of streams, by name.
//!
//! Names do not change while events arrive, so a page begins where the one before it ended, whatever became live
//! meanwhile. The index holds the streams of each state in the order of their names; a list of both is two that are
//! merged, and one of an app alone goes from domain to domain.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params, params_from_iter};

use super::keep::{COLUMNS, read};
use super::{Result, pushes, rebuild};
use crate::store::model::{Page, Picture, StreamFilter, StreamRow};
use crate::store::sqlite::events;
use crate::store::streams::keep::{Kept, Sort, State};
use crate::store::streams::{cursor, story};
use crate::streams::StreamName;

/// A page of streams. The cursor is the name of the last one of the page before.
pub(in crate::store) fn list(
    db: &Connection,
    filter: &StreamFilter,
    limit: usize,
    after: Option<&StreamName>,
) -> Result<Page<StreamRow>> {
    let snapshot = db.unchecked_transaction()?;
    let generation = rebuild::generation(&snapshot)?;
    let states: &[State] = match filter.live {
        Some(true) => &[State::Live],
        Some(false) => &[State::Ended],
        None => &[State::Live, State::Ended],
    };
    let mut found = Vec::new();
    for state in states {
        let wanted = Wanted { db: &snapshot, place: [generation, *state as i64], limit: limit + 1 };
        found.extend(wanted.of(filter, after)?);
    }
    found.sort_by(|(_, one), (_, other)| one.cmp(other));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(_, name)| cursor(name));
    let items = found.into_iter().map(|(kept, name)| row(&snapshot, &kept, name)).collect::<Result<_>>()?;
    Ok(Page { items, next })
}

/// What is read of the streams of one state.
struct Wanted<'a> {
    db: &'a Connection,
    /// Generation and state.
    place: [i64; 2],
    limit: usize,
}

impl Wanted<'_> {
    fn of(&self, filter: &StreamFilter, after: Option<&StreamName>) -> Result<Vec<(Kept, StreamName)>> {
        let domain = filter.domain.as_deref().map(str::trim);
        let Some(app) = filter.app.as_deref().map(str::trim) else {
            return match domain {
                None => {
                    self.read("(domain, app, stream) > ", &[], after.map(|a| [&a.domain, &a.app, &a.stream].to_vec()))
                }
                Some(domain) => {
                    let behind = after.filter(|after| after.domain.as_str() >= domain);
                    if behind.is_some_and(|after| after.domain != domain) {
                        return Ok(Vec::new());
                    }
                    self.read("(app, stream) > ", &[("domain", domain)], behind.map(|a| [&a.app, &a.stream].to_vec()))
                }
            };
        };
        match domain {
            Some(domain) => self.of_app(domain, app, after),
            None => self.of_app_anywhere(app, after),
        }
    }

    fn of_app(&self, domain: &str, app: &str, after: Option<&StreamName>) -> Result<Vec<(Kept, StreamName)>> {
        let place = (domain, app);
        let reached = after.map(|after| (after.domain.as_str(), after.app.as_str()));
        if reached.is_some_and(|reached| reached > place) {
            return Ok(Vec::new());
        }
        let behind = after.filter(|_| reached == Some(place)).map(|after| vec![&after.stream]);
        self.read("(stream) > ", &[("domain", domain), ("app", app)], behind)
    }

    fn of_app_anywhere(&self, app: &str, after: Option<&StreamName>) -> Result<Vec<(Kept, StreamName)>> {
        let mut found = Vec::new();
        let mut domain = self.domain("domain >= ?3", after.map_or("", |after| &after.domain))?;
        while let Some(this) = domain {
            found.extend(self.of_app(&this, app, after)?);
            if found.len() >= self.limit {
                break;
            }
            domain = self.domain("domain > ?3", &this)?;
        }
        Ok(found)
    }

    /// The first domain for which the condition is true.
    fn domain(&self, condition: &str, than: &str) -> Result<Option<String>> {
        let [generation, state] = self.place;
        self.db
            .prepare_cached(&format!(
                "SELECT min(domain) FROM streams WHERE generation = ?1 AND state = ?2 AND {condition}"
            ))?
            .query_row(params![generation, state, than], |row| row.get(0))
    }

    /// Streams whose columns equal these, behind those values of the columns after them.
    fn read(
        &self,
        behind: &str,
        equal: &[(&str, &str)],
        values: Option<Vec<&String>>,
    ) -> Result<Vec<(Kept, StreamName)>> {
        let mut given: Vec<Sql> = self.place.into_iter().map(Sql::from).collect();
        given.extend(equal.iter().map(|(_, value)| Sql::from((*value).to_owned())));
        let count = values.as_ref().map(Vec::len);
        given.extend(values.into_iter().flatten().map(|value| Sql::from(value.clone())));
        let columns: Vec<_> = equal.iter().map(|(column, _)| *column).collect();
        let sql = select(&columns, count.map(|count| (behind, count)), self.limit);
        let mut statement = self.db.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(given), |row| {
            let name = StreamName { domain: row.get("domain")?, app: row.get("app")?, stream: row.get("stream")? };
            Ok((read(row, 0)?, name))
        })?;
        rows.collect()
    }
}

/// Streams of a generation and state whose columns equal something, perhaps behind so many values.
fn select(equal: &[&str], behind: Option<(&str, usize)>, limit: usize) -> String {
    let mut conditions = vec!["generation = ? AND state = ?".to_owned()];
    conditions.extend(equal.iter().map(|column| format!("{column} = ?")));
    conditions.extend(behind.map(|(behind, count)| format!("{behind} ({})", vec!["?"; count].join(", "))));
    let conditions = conditions.join(" AND ");
    format!(
        "SELECT {COLUMNS}, domain, app, stream FROM streams WHERE {conditions} ORDER BY domain, app, stream \
         LIMIT {limit}"
    )
}

/// A stream as it is listed.
pub(super) fn row(db: &Connection, kept: &Kept, name: StreamName) -> Result<StreamRow> {
    let current = match &kept.current {
        Some(key) => pushes::find(db, kept.id, key)?,
        None => None,
    };
    let loose = if kept.loose > 0 { pushes::last_loose(db, kept.id)? } else { None };
    Ok(story::row(kept, name, current.as_ref(), loose, newest_picture(db, kept.id)?))
}

fn newest_picture(db: &Connection, stream: i64) -> Result<Option<Picture>> {
    let mut statement = db.prepare_cached(
        "SELECT event FROM stream_notes WHERE stream = ?1 AND sort = ?2 ORDER BY at DESC, event DESC LIMIT 1",
    )?;
    let mut rows = statement.query(params![stream, Sort::Screencapture as i64])?;
    rows.next()?.map(|row| Ok(Picture::of(&events::at(db, row.get(0)?)?))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::schema;

    #[test]
    fn every_page_is_read_from_an_index_in_its_order() {
        let db = Connection::open_in_memory().unwrap();
        schema::migrate(&db, schema::MIGRATIONS).unwrap();
        for (equal, behind, sought) in [
            (&[][..], None, "state=?)"),
            (&[][..], Some(("(domain, app, stream) > ", 3)), "(domain,app,stream)>(?,?,?))"),
            (&["domain"][..], None, "domain=?)"),
            (&["domain"][..], Some(("(app, stream) > ", 2)), "(app,stream)>(?,?))"),
            (&["domain", "app"][..], None, "app=?)"),
            (&["domain", "app"][..], Some(("(stream) > ", 1)), "stream>?)"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {}", select(equal, behind, 100));
            let values = vec![1; 2 + equal.len() + behind.map_or(0, |(_, count)| count)];
            let mut statement = db.prepare(&sql).unwrap();
            let plan: Vec<String> = statement
                .query_map(params_from_iter(values), |row| row.get(3))
                .unwrap()
                .collect::<Result<_>>()
                .unwrap();
            assert!(plan.len() == 1 && plan[0].contains("USING INDEX streams_by_state"), "{sql}: {plan:?}");
            assert!(plan[0].ends_with(sought), "{sql}: {plan:?}");
        }
    }
}
