//! Ctrl-C, SIGTERM and a closed terminal: the first one asks the run to stop and
//! clean up, the second one leaves at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells whether the user wants to stop.
#[derive(Clone)]
pub struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts to listen for signals. `at_second` is called before the program is
    /// left at once; it says what may be left behind.
    ///
    /// # Errors
    /// If the signals cannot be watched.
    pub fn listen(at_second: impl Fn() + Send + 'static) -> Result<Self> {
        let (ask, asked) = watch::channel(false);
        let mut signals = Vec::new();
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            signals.push(signal(kind).context("cannot watch for signals")?);
        }
        let [mut interrupt, mut terminate, mut hangup] =
            <[_; 3]>::try_from(signals).map_err(|_| anyhow::anyhow!("cannot watch for signals"))?;
        // Ends with the runtime: it owns nothing that must be given back.
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if ask.send_replace(true) {
                    at_second();
                    std::process::exit(130);
                }
            }
        });
        Ok(Self { asked })
    }

    /// The user has asked already.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until the user asks.
    pub async fn asked(&mut self) {
        // The sender lives as long as the runtime; without it nobody can ask.
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
