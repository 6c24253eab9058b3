//! What the engine wants done.

use super::guard::Held;
use crate::apply::Job;
use crate::pairing::{Counts, ShareId};
use crate::part::PartId;
use crate::path::RelPath;
use crate::wire::message::Message;

/// What the engine wants done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Say this to the peer.
    Say {
        /// In which session.
        session: u64,
        /// What.
        message: Message,
    },
    /// Receive a content.
    Fetch {
        /// In which session.
        session: u64,
        /// For what.
        job: Box<Job>,
    },
    /// Copy a long content on this side, or take it out of the trash and verify it,
    /// one after the other and not in the way of what is to be applied.
    Copy(Box<Job>),
    /// Change the share.
    Apply(Box<Job>),
    /// End the session; nothing more is said in it.
    HangUp {
        /// Which.
        session: u64,
    },
    /// The index is older than what the peer heard of it, or is to forget the peer. It
    /// becomes another replica when it is opened again; until then nothing is done
    /// with it.
    BeginAgain,
    /// Look at the share again soon.
    LookAgain,
    /// There is no room: what was kept for convenience goes.
    MakeRoom,
    /// A part is of no use any more.
    RemovePart(PartId),
    /// Nor are those of small files, of which each attempt has its own.
    RemoveSmallParts,
    /// Nor is any: both sides have all there is.
    RemoveAllParts,
    /// Tell who asked.
    Answer {
        /// Who.
        ask: u64,
        /// What came of it, for a person.
        answer: Result<String, String>,
    },
    /// Tell the world.
    Tell(News),
}

/// What the world is told.
#[derive(Debug)]
pub enum News {
    /// The peer came.
    PeerUp {
        /// Its id.
        replica: u64,
    },
    /// The peer went.
    PeerDown {
        /// Its id.
        replica: u64,
        /// Why.
        why: &'static str,
        /// Whether something was under way.
        unfinished: bool,
    },
    /// Something stands in the way.
    Problem {
        /// Of what; empty for all.
        about: Vec<u8>,
        /// For a person.
        text: String,
    },
    /// Nothing stands in its way any more.
    Solved(RelPath),
    /// Both sides changed a path, and ours is kept as the copy.
    Conflict {
        /// Which path.
        path: RelPath,
        /// The copy's.
        copy: RelPath,
    },
    /// The path is as it should be.
    Complete {
        /// Which.
        path: RelPath,
        /// Of its content, in bytes.
        size: u64,
    },
    /// The peer still has to take so much.
    ToGive {
        /// Paths to be acted on.
        paths: u64,
        /// Bytes to be received, at most.
        bytes: u64,
    },
    /// Removals are held back, or are no more.
    Held(Option<Held>),
    /// Much differs between two shares that meet: a person has to say that they are to
    /// be joined.
    Asked(Counts),
    /// The two shares are one now, of this name.
    Joined(ShareId),
    /// What goes on is something else now.
    Doing(Doing),
    /// The figures are others now.
    Changed,
}

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Doing {
    /// Everything was looked at once.
    pub scanned: bool,
    /// There is a peer.
    pub connected: bool,
    /// Each side knows what the other has.
    pub exchanged: bool,
    /// Something is received or put in place.
    pub receiving: bool,
    /// Bytes that have arrived and are being put in place.
    pub landing_bytes: u64,
}
