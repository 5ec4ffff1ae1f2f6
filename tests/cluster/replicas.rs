//! Replicas of the program that share a store.

use std::process::Command;

use futures_util::future::join_all;

use crate::program::{Ended, Place, Program, command};

/// A replica: where it is configured, and the program while it runs.
pub(crate) struct Replica {
    pub(crate) place: Place,
    pub(crate) program: Option<Program>,
}

impl Replica {
    pub(crate) async fn start(url: &str, keys: &str, handlers: &str) -> Self {
        let place = Place::new();
        place.configure(&format!("store.url = \"{url}\"\n{keys}"), handlers);
        let program = Some(Program::start(&place).await);
        Self { place, program }
    }

    /// With variables of its environment, and a store that the configuration does not name.
    pub(crate) async fn start_with(variables: &[(&str, &str)], handlers: &str) -> Self {
        let place = Place::with(handlers);
        let mut program = Program::spawn_as(with_variables(&place, variables));
        let ready = program.is_ready().await;
        assert!(ready, "it ended: {}", String::from_utf8_lossy(&program.ended().said));
        Self { place, program: Some(program) }
    }

    pub(crate) fn running(&self) -> &Program {
        self.program.as_ref().expect("it runs")
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        self.program.take().expect("it runs").kill();
    }

    pub(crate) async fn restart(&mut self) {
        self.program = Some(Program::start(&self.place).await);
    }

    pub(crate) async fn stop(&mut self) -> Ended {
        self.program.take().expect("it runs").stop().await
    }

    pub(crate) async fn status(&self, target: &str) -> u16 {
        self.running().try_get(target).await.map_or(0, |answer| answer.status)
    }
}

/// The program, with variables of its environment.
pub(crate) fn with_variables(place: &Place, variables: &[(&str, &str)]) -> Command {
    let mut command = command(place);
    command.envs(variables.iter().copied());
    command
}

/// Three of them, started at the same moment.
pub(crate) async fn three(url: &str, handlers: &str) -> Vec<Replica> {
    join_all((0..3).map(|_| Replica::start(url, "", handlers))).await
}
