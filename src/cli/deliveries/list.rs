//! `livehook deliveries list`

use anyhow::bail;
use serde_json::Value;

use super::{parse_state, table};
use crate::cli::api::{self, Api, Page};
use crate::cli::list::ListFlags;
use crate::cli::{http, output};
use crate::store::DeliveryState;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct List {
    /// Only those to this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only those in this state: pending, done, dead or dropped
    #[arg(long, value_parser = parse_state)]
    state: Option<DeliveryState>,
    #[command(flatten)]
    page: ListFlags,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (api, limit) = self.page.api()?;
        let page = http::block_on(self.ask(&api, limit))?;
        self.page.show(NAME, &page, table)
    }

    async fn ask(&self, api: &Api, limit: usize) -> anyhow::Result<Page> {
        let state = self.state.map(|state| ("state", state.slug().to_owned()));
        let handler = self.handler.as_ref().map(|handler| ("handler", handler.clone()));
        let query: Vec<_> = handler.clone().into_iter().chain(state).collect();
        let page = api.rows(NAME, &[NAME], &query, limit).await?;
        if let (true, Some(handler)) = (page.rows.is_empty(), handler) {
            check_handler(api, handler).await?;
        }
        Ok(page)
    }
}

/// What the API calls the rows, and where it has them.
const NAME: &str = "deliveries";

/// A name that was mistyped is no list without rows. One that has left the configuration is known by what is kept of it.
async fn check_handler(api: &Api, handler: (&str, String)) -> anyhow::Result<()> {
    let configured: Vec<Value> = api::read(&api.get(&["handlers"], &[]).await?)?;
    if configured.iter().any(|row| row["name"] == handler.1) {
        return Ok(());
    }
    if api.page(NAME, &[NAME], std::slice::from_ref(&handler), 1, None).await?.rows.is_empty() {
        bail!("there is no handler `{}`, nor a delivery to one of that name", output::plain(&handler.1));
    }
    Ok(())
}
