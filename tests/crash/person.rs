//! A person who decides while all this goes on: readmits what was refused, has deliveries tried at once, and drops some.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::{request, try_ask};
use crate::ledger::{Ledger, Readmission};
use crate::letter::{Sort, digest};

/// What was decided about deliveries to `hook`.
#[derive(Default)]
pub(crate) struct Decisions(Mutex<Dropped>);

#[derive(Default)]
pub(crate) struct Dropped {
    /// Whether it was done is not always known.
    pub(crate) asked: HashSet<Uuid>,
    /// These were answered.
    pub(crate) done: HashSet<Uuid>,
    /// Deliveries that were to be tried at once.
    pub(crate) retried: u64,
}

impl Decisions {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Dropped> {
        self.0.lock().unwrap()
    }
}

/// Decides on one thing after the other; ends when the program does.
pub(crate) async fn decide(admin: SocketAddr, ledger: Arc<Ledger>, decisions: Arc<Decisions>) {
    while decide_once(admin, &ledger, &decisions).await.is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// None when the program has gone.
async fn decide_once(admin: SocketAddr, ledger: &Ledger, decisions: &Decisions) -> Option<()> {
    let refused = get(admin, "/api/v1/quarantine?reason=signature-mismatch&limit=3").await?;
    for item in refused["items"].as_array()? {
        readmit(admin, item["id"].as_str()?, ledger).await?;
    }
    let pending = get(admin, "/api/v1/deliveries?handler=hook&state=pending&limit=4").await?;
    for (at, delivery) in pending["deliveries"].as_array()?.iter().enumerate() {
        let id = delivery["event_id"].as_str()?;
        if at > 0 {
            post(admin, &format!("/api/v1/deliveries/{id}/hook/retry"), &json!({})).await?;
            decisions.lock().retried += 1;
            continue;
        }
        let uuid: Uuid = id.parse().ok()?;
        decisions.lock().asked.insert(uuid);
        // It may be done meanwhile, which is a conflict.
        let dropped = post(admin, &format!("/api/v1/deliveries/{id}/hook/drop"), &json!({})).await?;
        if dropped["state"] == "dropped" {
            decisions.lock().done.insert(uuid);
        }
    }
    Some(())
}

async fn readmit(admin: SocketAddr, id: &str, ledger: &Ledger) -> Option<()> {
    let body = try_ask(admin, &request("GET", &format!("/api/v1/quarantine/{id}/body"), &[], b"")).await?.body;
    let number = ledger.lock().with_body(&digest(&body))?;
    assert_eq!(ledger.lock().of(number).sort, Sort::Forged, "refused for its signature, and it is good");
    ledger.lock().of(number).readmission = Readmission::Asked;
    let done = post(admin, &format!("/api/v1/quarantine/{id}/readmit"), &json!({ "force": true })).await?;
    if done["readmitted"] == 1 {
        ledger.lock().of(number).readmission = Readmission::Done;
    }
    Some(())
}

async fn get(admin: SocketAddr, target: &str) -> Option<Value> {
    Some(try_ask(admin, &request("GET", target, &[], b"")).await?.json())
}

async fn post(admin: SocketAddr, target: &str, body: &Value) -> Option<Value> {
    let json = [("Content-Type", "application/json")];
    Some(try_ask(admin, &request("POST", target, &json, body.to_string().as_bytes())).await?.json())
}
