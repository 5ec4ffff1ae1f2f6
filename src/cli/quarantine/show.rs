//! `livehook quarantine show`

use anyhow::bail;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::cli::api::{AdminFlags, Api, PAGE_MAX, cell};
use crate::cli::http;
use crate::cli::output::{self, Format, FormatFlag};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    /// Id of the refused callback
    id: String,
    /// Print the body alone, exactly as it was received
    #[arg(long, conflicts_with = "format")]
    body: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    admin: AdminFlags,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let api = self.admin.api()?;
        let body = http::block_on(api.get(&["quarantine", &self.id, "body"], &[]))?;
        if self.body {
            return output::bytes(&body);
        }
        let mut item = http::block_on(find(&api, &self.id))?;
        if self.format.format == Format::Json {
            item["body_base64"] = BASE64.encode(&body).into();
            return output::json(&item.to_string());
        }
        for member in ["id", "received_at", "reason", "detail", "path", "bytes", "truncated"] {
            output::line(&format!("{member:<12} {}", output::plain(&cell(&item, member))))?;
        }
        output::line("")?;
        String::from_utf8_lossy(&body).lines().try_for_each(|text| output::line(&output::plain(text)))
    }
}

/// The API has no call for a single one; the quarantine is bounded, and so is the search.
async fn find(api: &Api, id: &str) -> anyhow::Result<Value> {
    let mut cursor: Option<String> = None;
    loop {
        let page = api.page("items", &["quarantine"], &[], PAGE_MAX, cursor.as_deref()).await?;
        if let Some(item) = page.rows.into_iter().find(|item| cell(item, "id") == id) {
            return Ok(item);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => bail!("there is no refused callback `{id}`"),
        }
    }
}
