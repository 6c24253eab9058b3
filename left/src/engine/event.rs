//! What the engine is told.

use std::fs::File;
use std::sync::mpsc::SyncSender;

use crate::apply::{Job, Outcome};
use crate::scanner::Observation;
use crate::transfer::receive::{Missed, Note};
use crate::wire::message::{Have, Message};

/// What the engine is told.
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
        /// How far the peer has read this side's listing.
        have: Have,
        /// Where messages to the peer go.
        out: SyncSender<Message>,
    },
    /// The session can receive content.
    ReceiverUp {
        /// Which session.
        session: u64,
        /// Where jobs go.
        notes: SyncSender<Note>,
    },
    /// The peer said something.
    Message {
        /// In which session.
        session: u64,
        /// What.
        message: Message,
    },
    /// The info connection ended; nothing more can be said.
    SessionEnding {
        /// Which session.
        session: u64,
    },
    /// The session and all its threads ended.
    SessionDown {
        /// Which.
        session: u64,
    },
    /// A content arrived, or did not.
    Fetched {
        /// In which session.
        session: u64,
        /// For what.
        job: Box<Job>,
        /// The complete part.
        result: Result<File, Missed>,
    },
    /// Jobs were performed.
    Applied(Vec<(Job, Outcome)>),
    /// The end.
    Stop,
}
