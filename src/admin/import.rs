//! `/import`: spilled callbacks and exported events come back in.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio_util::io::StreamReader;
use utoipa::ToSchema;

use super::{Admin, Problem};
use crate::intake::{ImportError, Imported, Importing, LINE_MAX, Lines};
use crate::store::StoreError;

/// Faults that are listed; the others are counted.
const FAULTS_MAX: usize = 1000;

#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Imported)]
pub(super) struct Outcome {
    imported: u64,
    duplicates: u64,
    refused: u64,
    faults: Vec<Fault>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ImportFault)]
struct Fault {
    line: u64,
    detail: String,
}

/// Takes spilled callbacks or exported events back in, one on a line.
#[utoipa::path(
    post,
    path = "/import",
    tag = "import",
    operation_id = "import",
    request_body(content((String = "application/x-ndjson"), (Object = "application/json"))),
    responses((status = OK, description = "What came of the lines", body = Outcome)),
)]
pub(super) async fn import(State(admin): State<Admin>, body: Body) -> Result<Json<Outcome>, Problem> {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let mut reader = BufReader::new(StreamReader::new(Box::pin(stream)));
    let mut outcome = Outcome::default();
    let (mut lines, mut importing) = (Lines::default(), Importing::new(&admin.0.intake));
    let mut unlisted = 0;
    while let Some(line) = next_line(&mut reader).await? {
        lines.push(&line);
        unlisted += take_all(&mut lines, &mut importing, &mut outcome).await?;
    }
    lines.end();
    unlisted += take_all(&mut lines, &mut importing, &mut outcome).await?;
    while let Some((line, became)) = importing.next().await {
        unlisted += u64::from(!outcome.note(line, became)?);
    }
    if let Some(last) = outcome.faults.last_mut().filter(|_| unlisted > 0) {
        last.detail = format!("{}; and {unlisted} more lines have faults", last.detail);
    }
    tracing::info!(outcome.imported, outcome.duplicates, outcome.refused, faults = outcome.faults.len(), "import");
    Ok(Json(outcome))
}

async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<String>, Problem> {
    let mut line = Vec::new();
    let broken = |error: std::io::Error| Problem::bad_request(format!("the body broke off: {error}"));
    let read = reader.take(LINE_MAX as u64).read_until(b'\n', &mut line).await.map_err(broken)?;
    if read == LINE_MAX {
        return Err(Problem::too_large(format!(
            "a line is longer than {LINE_MAX} bytes; what came before is imported"
        )));
    }
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

/// Returns how many lines have faults that are not listed.
async fn take_all(lines: &mut Lines, importing: &mut Importing<'_>, outcome: &mut Outcome) -> Result<u64, Problem> {
    let mut unlisted = 0;
    while let Some((line, text)) = lines.pop() {
        while let Some((line, became)) = importing.make_room(text.len()).await {
            unlisted += u64::from(!outcome.note(line, became)?);
        }
        importing.take(line, &text).await;
    }
    Ok(unlisted)
}

impl Outcome {
    /// Counts a line. Returns false where its fault is not listed.
    fn note(&mut self, line: u64, became: Result<Imported, ImportError>) -> Result<bool, Problem> {
        match became {
            Ok(Imported::Event) => self.imported += 1,
            Ok(Imported::Duplicate) => self.duplicates += 1,
            Ok(Imported::Refused) => self.refused += 1,
            Ok(Imported::Nothing) => {}
            // The line is at fault, as with an id that another event has.
            Err(error @ (ImportError::Line(_) | ImportError::Store(StoreError::Refused(_)))) => {
                if self.faults.len() == FAULTS_MAX {
                    return Ok(false);
                }
                self.faults.push(Fault { line, detail: error.to_string() });
            }
            Err(ImportError::Store(error)) => return Err(error.into()),
        }
        Ok(true)
    }
}
