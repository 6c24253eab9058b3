//! A place in the stream of a direction where somebody waits.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::link::Hold;

/// What happens when a point is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtPoint {
    /// The bytes flow on as soon as whoever waits has been told, or a few
    /// milliseconds later.
    FlowOn,
    /// The wire stands still at exactly that byte, both ways, until released.
    Hold,
    /// The wire is cut behind exactly that byte: everything either way is lost
    /// until released.
    Cut,
}

impl From<Hold> for AtPoint {
    fn from(hold: Hold) -> Self {
        match hold {
            Hold::No => Self::FlowOn,
            Hold::UntilReleased => Self::Hold,
        }
    }
}

/// How far a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    /// After so many bytes.
    Fired(u64),
    /// It never will: the link is down.
    Down,
}

#[derive(Debug)]
pub(super) struct Point {
    /// Counted bytes when it was armed.
    pub from: u64,
    /// As many bytes later it fires.
    pub bytes: u64,
    pub action: AtPoint,
    state: watch::Sender<State>,
    noticed: AtomicBool,
}

impl Point {
    pub fn new(from: u64, bytes: u64, action: AtPoint) -> Self {
        Self {
            from,
            bytes,
            action,
            state: watch::Sender::new(State::Waiting),
            noticed: AtomicBool::new(false),
        }
    }

    /// Bytes until it fires, when so many were counted ever.
    pub fn left(&self, counted: u64) -> u64 {
        self.bytes.saturating_sub(counted - self.from)
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    pub fn has_fired(&self) -> bool {
        matches!(*self.state.borrow(), State::Fired(_))
    }

    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Whoever waited knows, or does not want to know any more.
    pub fn notice(&self) {
        self.noticed.store(true, Ordering::Release);
    }

    pub fn is_noticed(&self) -> bool {
        self.noticed.load(Ordering::Acquire)
    }
}
