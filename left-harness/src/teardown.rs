//! What a run must take away again, in reverse order, whatever happened.
//!
//! An undo is registered before the deed; it is a future that does nothing until
//! it is polled, so that registering costs nothing. Dropping a value cannot wait
//! for a host, therefore this is explicit and not `Drop`.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;

/// The stack of undos of one run.
#[derive(Default)]
pub struct Teardown {
    undos: Vec<Undo>,
}

struct Undo {
    what: String,
    deadline: Duration,
    act: Pin<Box<dyn Future<Output = Result<()>> + Send>>,
}

impl Teardown {
    /// Nothing to take away yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers an undo. `what` completes the sentence "could not …".
    pub fn push(
        &mut self,
        what: impl Into<String>,
        deadline: Duration,
        act: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.undos.push(Undo {
            what: what.into(),
            deadline,
            act: Box::pin(act),
        });
    }

    /// Performs every undo, the last one first, each within its own deadline.
    /// One that fails does not keep the others from being tried; what failed is
    /// returned as sentences.
    pub async fn run(mut self) -> Vec<String> {
        let mut failed = Vec::new();
        while let Some(undo) = self.undos.pop() {
            match tokio::time::timeout(undo.deadline, undo.act).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(format!("could not {}: {error:#}", undo.what)),
                Err(_) => failed.push(format!(
                    "could not {} within {} s",
                    undo.what,
                    undo.deadline.as_secs()
                )),
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn undoes_in_reverse_and_goes_on_after_a_failure_and_a_hang() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut teardown = Teardown::new();
        for (name, outcome) in [
            ("first", "ok"),
            ("second", "fail"),
            ("third", "hang"),
            ("fourth", "ok"),
        ] {
            let order = order.clone();
            teardown.push(
                format!("undo {name}"),
                Duration::from_millis(20),
                async move {
                    order.lock().expect("not poisoned").push(name);
                    match outcome {
                        "fail" => anyhow::bail!("no such folder"),
                        "hang" => std::future::pending().await,
                        _ => Ok(()),
                    }
                },
            );
        }
        let failed = teardown.run().await;
        assert_eq!(
            *order.lock().expect("not poisoned"),
            ["fourth", "third", "second", "first"]
        );
        assert_eq!(
            failed,
            [
                "could not undo third within 0 s",
                "could not undo second: no such folder"
            ]
        );
    }
}
