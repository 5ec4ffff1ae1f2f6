//! A disk that fails while the service opens its store: it says so, and leaves nothing that a later start could not use.

use faulty_disk::{Fault, Op};

use crate::app::{Setup, push};
use crate::rig::{Contents, Rig, ready};

/// Everything that can fail.
const ANY: &[Op] = &[Op::Open, Op::Read, Op::Write, Op::Truncate, Op::Sync, Op::Delete];

/// Starts with the n-th operation failing, for every n of a start, each time over another disk.
async fn for_every_operation(made: impl AsyncFn() -> Rig) {
    let mut refusals = 0;
    for n in 1.. {
        let rig = made().await;
        rig.disk.fail(Fault::of(ANY, n));
        let built = rig.setup().build().await;
        let failed = rig.has_failed();
        rig.disk.heal();
        match built {
            Ok(server) => server.run(std::future::ready(())).await.unwrap(),
            Err(error) => {
                refusals += 1;
                let said = error.to_string();
                assert!(
                    said.starts_with("the store ") && said.contains(" cannot be opened: "),
                    "operation {n}: {said}"
                );
            }
        }
        takes_events(rig.setup()).await;
        if !failed {
            break;
        }
    }
    assert!(refusals >= 5, "{refusals}");
}

async fn takes_events(setup: Setup) {
    let app = setup.start().await;
    app.accept_signed(&push("room", 1000)).await;
    ready(&app).await;
    app.finish().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_made_is_made_by_the_next_start() {
    for_every_operation(async || Rig::new()).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_opened_by_the_next_start() {
    let origin = Rig::new();
    origin.disk.remember();
    let app = origin.setup().start().await;
    for number in 0..5 {
        app.accept_signed(&push("room", number)).await;
    }
    let contents = Contents::of(&origin.survivor().database());
    assert_eq!(contents.good.len(), 5);
    for_every_operation(async || origin.survivor()).await;
    app.finish().await;
}
