//! Handlers made of the configuration, beside those the program has brought.

use std::sync::Arc;

use super::BuildError;
use crate::admin::Configured;
use crate::clock::Clock;
use crate::dispatch::Subscriber;
use crate::handler::{Settings, Target};

/// What a handler is that a program has brought.
const TYPE_OF_OWN: &str = "custom";

/// A handler with what it was made of.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) subscriber: Subscriber,
    /// None for one that the program has brought.
    target: Option<Target>,
}

impl Made {
    /// One that the program has brought.
    pub(super) fn own(subscriber: Subscriber) -> Self {
        Self { subscriber, target: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.subscriber.policy.name
    }

    pub(super) fn configured(&self) -> Configured {
        let type_name = self.target.as_ref().map_or(TYPE_OF_OWN, Target::type_name);
        Configured { name: self.name().to_owned(), type_name }
    }
}

/// Makes the handlers of a configuration, away from the threads that serve: files are opened, certificates read. Of those
/// `present` the program's own stay, and the others where nothing about them has changed. Returns everything that cannot
/// be done, if anything.
pub(super) async fn make(
    wanted: Vec<Settings>,
    present: Vec<Made>,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Made>, Vec<BuildError>> {
    let making = tokio::task::spawn_blocking(move || {
        let (mut made, mut faults): (Vec<_>, Vec<_>) =
            (present.iter().filter(|made| made.target.is_none()).cloned().collect(), Vec::new());
        for settings in wanted {
            match make_one(settings, &present, &clock) {
                Ok(one) => made.push(one),
                Err(fault) => faults.push(fault),
            }
        }
        faults.extend(repeated_name(&made));
        if faults.is_empty() { Ok(made) } else { Err(faults) }
    });
    let panicked = |_| vec![BuildError::Handler { name: "?".to_owned(), reason: "making it panicked".to_owned() }];
    making.await.map_err(panicked)?
}

fn make_one(settings: Settings, present: &[Made], clock: &Arc<dyn Clock>) -> Result<Made, BuildError> {
    let Settings { policy, target } = settings;
    let same = |made: &&Made| made.name() == policy.name && made.target.as_ref() == Some(&target);
    let handler = match present.iter().find(same).filter(|_| !target.depends_on_files()) {
        Some(made) => Arc::clone(&made.subscriber.handler),
        None => Arc::from(
            target.build(clock).map_err(|error| BuildError::Handler { name: policy.name.clone(), reason: error.0 })?,
        ),
    };
    Ok(Made { subscriber: Subscriber { policy, handler }, target: Some(target) })
}

/// Names must differ: progress is kept under them.
fn repeated_name(made: &[Made]) -> Option<BuildError> {
    let repeated = made.iter().enumerate().find(|(at, one)| made[..*at].iter().any(|other| other.name() == one.name()));
    let reason = "there are two of that name".to_owned();
    repeated.map(|(_, one)| BuildError::Handler { name: one.name().to_owned(), reason })
}
