//! A folder under guard: it outlives the channel it is talked to over, for as long
//! as its lease is renewed, and no longer.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::ANSWER_MARGIN;
use super::ProbeError;
use super::conversation::Conversation;
use super::held::{End, START_DEADLINE, State, late, listen, lost};

/// A folder to be removed when the harness is gone.
#[derive(Debug, Clone)]
pub struct GuardSpec {
    /// Must hold a file `.left-harness-run` with the id.
    pub dir: PathBuf,
    /// Of the run.
    pub id: String,
    /// It is removed when it was not renewed for so long.
    pub lease: Duration,
}

/// The undo of a fault, to be performed when the harness is gone.
#[derive(Debug, Clone)]
pub struct UndoSpec {
    /// Of the guard itself, one for each; made if it is missing.
    pub dir: PathBuf,
    /// It is performed when it was not renewed for so long.
    pub lease: Duration,
    /// How long it may take.
    pub within: Duration,
    /// The program with its arguments. It proves that it is done by exit code 0, and
    /// may be run again when it has not.
    pub argv: Vec<String>,
}

/// A guarded folder or fault. Clones talk to the same guard; when the last is dropped,
/// the folder is removed, or the fault healed, as soon as the lease lapses.
#[derive(Clone)]
pub struct Guarded {
    host: String,
    orders: mpsc::Sender<Vec<u8>>,
    state: watch::Receiver<State>,
    /// How long healing may take.
    within: Duration,
}

impl Guarded {
    pub(super) async fn open(talk: Conversation, within: Duration) -> Result<Self, ProbeError> {
        let host = talk.host().to_owned();
        let (orders, state) = listen(talk);
        let mut guarded = Self {
            host,
            orders,
            state,
            within: within + ANSWER_MARGIN,
        };
        let began = guarded
            .state
            .wait_for(|state| state.started.is_some() || state.end.is_some());
        let Ok(state) = tokio::time::timeout(START_DEADLINE, began).await else {
            return Err(late(&guarded.host, "starting a guard", START_DEADLINE));
        };
        let end = state.map(|state| state.end.clone()).unwrap_or(None);
        match end {
            Some(End::NotStarted(why)) => Err(ProbeError::Failed {
                host: guarded.host,
                doing: "guard".into(),
                why,
            }),
            Some(End::Lost(why)) => Err(ProbeError::Failed {
                host: guarded.host,
                doing: "guard".into(),
                why,
            }),
            _ => Ok(guarded),
        }
    }

    /// Lengthens the guard by one lease.
    pub async fn renew(&self) -> Result<(), ProbeError> {
        self.order("renew\n").await
    }

    /// Why it guards no longer, though nobody ended it from here.
    pub fn lost(&self) -> Option<String> {
        match &self.state.borrow().end {
            Some(End::Lost(why) | End::NotStarted(why)) => Some(why.clone()),
            Some(End::Healed(_)) => Some("its lease lapsed".into()),
            _ => None,
        }
    }

    /// Removes the folder, or heals the fault, now.
    pub async fn heal(self) -> Result<(), ProbeError> {
        // Whoever cannot be told any more has ended, and that is what counts.
        let _ = self.order("heal\n").await;
        match self.end("healing").await? {
            Some(End::Healed(Ok(()))) => Ok(()),
            Some(End::Healed(Err(why))) => Err(ProbeError::Failed {
                host: self.host,
                doing: "guard".into(),
                why,
            }),
            end => Err(self.unexpected(end, "removing what is guarded")),
        }
    }

    /// Leaves everything as it is and ends the guard.
    pub async fn dismiss(self) -> Result<(), ProbeError> {
        let _ = self.order("dismiss\n").await;
        match self.end("dismissing a guard").await? {
            Some(End::Dismissed) => Ok(()),
            end => Err(self.unexpected(end, "dismissing a guard")),
        }
    }

    fn unexpected(&self, end: Option<End>, doing: &str) -> ProbeError {
        let why = match end {
            Some(End::Lost(why)) => why,
            other => format!("unexpected end {other:?}"),
        };
        lost(&self.host, doing, why)
    }

    async fn order(&self, order: &str) -> Result<(), ProbeError> {
        let sending = self.orders.send(order.into());
        match tokio::time::timeout(ANSWER_MARGIN, sending).await {
            Ok(sent) => sent.map_err(|_| lost(&self.host, "guarding", "the channel closed".into())),
            Err(_) => Err(late(&self.host, "an order to a guard", ANSWER_MARGIN)),
        }
    }

    async fn end(&self, doing: &str) -> Result<Option<End>, ProbeError> {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| state.end.is_some());
        match tokio::time::timeout(self.within, ended).await {
            Ok(state) => Ok(state.ok().and_then(|state| state.end.clone())),
            Err(_) => Err(late(&self.host, doing, self.within)),
        }
    }
}
