//! A runtime that may be dropped anywhere, also where another one is at work.

use tokio::runtime::{Handle, Runtime};

/// Ends without waiting for its tasks.
#[derive(Debug)]
pub(super) struct Background(Option<Runtime>);

impl Background {
    pub(super) const fn new(runtime: Runtime) -> Self {
        Self(Some(runtime))
    }

    /// The way to it; none once it has ended.
    pub(super) fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }

    /// Runs a future on this thread, which must not be at work for another runtime. None once it has ended.
    pub(super) fn block_on<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.0.as_ref().map(|runtime| runtime.block_on(work))
    }

    pub(super) fn end(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
