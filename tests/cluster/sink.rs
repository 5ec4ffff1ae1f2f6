//! A system of the customer's that is idempotent: it notes what comes, in order, and under which id. A gate may keep its
//! answers back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What came once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) id: String,
    pub(crate) room: u64,
    pub(crate) number: u64,
}

/// Serves until it is dropped.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    receipts: Arc<Mutex<Vec<Receipt>>>,
    gate: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let receipts = Arc::<Mutex<Vec<Receipt>>>::default();
        let (gate, opened) = watch::channel(true);
        let notes = Arc::clone(&receipts);
        let take = move |headers: HeaderMap, body: Bytes| {
            let (notes, mut opened) = (Arc::clone(&notes), opened.clone());
            async move {
                notes.lock().unwrap().push(Receipt::of(&headers, &body));
                opened.wait_for(|open| *open).await.map_or(StatusCode::SERVICE_UNAVAILABLE, |_| StatusCode::NO_CONTENT)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, Router::new().fallback(take)).await.unwrap() });
        Self { address, receipts, gate, _serving: serving }
    }

    /// What came, in the order of coming.
    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.receipts.lock().unwrap().clone()
    }

    /// How many different events came.
    pub(crate) fn events(&self) -> usize {
        self.receipts.lock().unwrap().iter().map(|one| &one.id).collect::<BTreeSet<_>>().len()
    }

    /// Keeps answers back from now on, or gives them.
    pub(crate) fn open(&self, open: bool) {
        self.gate.send_replace(open);
    }

    /// Holds what came first of each event against how many were answered of each room: nothing lost, nothing out of order,
    /// each under one id.
    pub(crate) fn check(&self, answered: &[u64]) {
        let receipts = self.receipts();
        let mut ids: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        let mut next = vec![0; answered.len()];
        for Receipt { id, room, number } in &receipts {
            if let Some(before) = ids.insert((*room, *number), id) {
                assert_eq!(before, id, "room {room}, number {number} has two ids");
                continue;
            }
            let next = &mut next[usize::try_from(*room).unwrap()];
            assert_eq!(number, next, "room {room} is out of order");
            *next += 1;
        }
        assert_eq!(next, answered, "what arrived, and what was answered");
    }

    /// How many receipts there were beyond one for each event.
    pub(crate) fn repeated(&self) -> usize {
        self.receipts().len() - self.events()
    }
}

impl Receipt {
    fn of(headers: &HeaderMap, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap();
        let number = |name: &str| body[name].as_u64().unwrap();
        Self { id: headers["ce-id"].to_str().unwrap().to_owned(), room: number("room"), number: number("number") }
    }
}
