//! Through the running service.

use std::path::Path;

use reqwest::Body;
use tokio_util::io::ReaderStream;

use super::Outcome;
use crate::cli::api::{self, Api};

/// Streams the file to the service, which reads it line by line. A token that is not taken shows before: an answer in the
/// middle of a body may be lost.
pub(super) async fn import(api: &Api, file: &Path) -> anyhow::Result<Outcome> {
    api.get(&["events"], &[("limit", "1".to_owned())]).await?;
    let lines = Body::wrap_stream(ReaderStream::with_capacity(super::open(file).await?, CHUNK));
    api::read(&api.post_body(&["import"], "application/x-ndjson", lines).await?)
}

const CHUNK: usize = 64 * 1024;
