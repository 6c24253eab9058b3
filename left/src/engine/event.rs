//! What the engine is told.

use crate::apply::{Job, Outcome};
use crate::pairing::ShareId;
use crate::scanner::Observation;
use crate::transfer::receive::Missed;
use crate::wire::message::{Have, Message};

/// What the engine is told.
#[derive(Debug)]
pub enum Event {
    /// The scanner saw what differs.
    Observed(Vec<Observation>),
    /// The scanner looked at everything once more.
    Scanned,
    /// There is a session.
    SessionUp {
        /// Which.
        session: u64,
        /// The peer's id.
        peer_replica: u64,
        /// The epoch of the peer's index.
        peer_epoch: u64,
        /// The run of the peer's program.
        peer_run: u64,
        /// The name of what it keeps the same with somebody, if it was ever joined.
        peer_share: Option<ShareId>,
        /// How far the peer has read this side's listing.
        have: Have,
        /// How far this side has read the peer's, as the peer was told.
        told_upto: u64,
    },
    /// The session can receive content.
    ReceiverUp {
        /// Which session.
        session: u64,
    },
    /// The peer said something.
    Message {
        /// In which session.
        session: u64,
        /// What.
        message: Message,
    },
    /// What the engine had for the session could not be handed over.
    Stuck {
        /// Which session.
        session: u64,
    },
    /// The info connection ended; nothing more can be said.
    SessionEnding {
        /// Which session.
        session: u64,
    },
    /// The session and all that worked for it ended.
    SessionDown {
        /// Which.
        session: u64,
    },
    /// A content arrived in its part, or did not.
    Fetched {
        /// In which session.
        session: u64,
        /// For what.
        job: Box<Job>,
        /// Whether the part is complete.
        result: Result<(), Missed>,
    },
    /// A long content that was to be copied is in its part.
    Copied(Box<Job>),
    /// Jobs were performed, or could not even be copied for.
    Applied(Vec<(Job, Outcome)>),
    /// So much is still to be taken; the peer may like to know.
    ToTake {
        /// Paths to be acted on.
        paths: u64,
        /// Bytes to be received, at most.
        bytes: u64,
    },
    /// A person said that this set of removals, which is held back, is meant.
    Confirmed {
        /// Who asks, for [`super::Action::Answer`].
        ask: u64,
        /// The set's name.
        set: String,
    },
    /// A person asks what two shares have that meet.
    JoinAsked {
        /// Who asks.
        ask: u64,
        /// They are to be joined.
        is_meant: bool,
    },
    /// A person says that whoever this side was paired with is to be forgotten.
    Forgotten {
        /// Who asks.
        ask: u64,
    },
}
