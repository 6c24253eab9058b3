//! What becomes of observations and of the peer's listing: the one place that
//! decides, and the only one that writes entries to the index.

mod event;
mod jobs;
mod listing;
mod observe;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

pub use event::Event;

use crate::apply::Job;
use crate::entry::ContentId;
use crate::events::Reporter;
use crate::index::{Change, Heard, Index, IndexError};
use crate::part::{remove_all_parts, remove_small_parts};
use crate::path::RelPath;
use crate::share::Share;
use crate::transfer::receive::Note;
use crate::wire::message::{Have, Message};

/// Jobs on their way at once. The queues behind are longer than this, so the
/// engine never waits on them.
const IN_FLIGHT_MAX: usize = 512;

/// Listing messages on their way without an acknowledgement.
const LISTINGS_MAX: usize = 4;

/// Wants read from the index at a time.
const PAGE_WANTS: usize = 256;

/// The first and the longest pause before a path is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What the engine needs of the daemon.
pub struct EngineContext {
    /// The share, for its parts.
    pub share: Arc<Share>,
    /// The index.
    pub index: Arc<Index>,
    /// Where news goes.
    pub reporter: Arc<Reporter>,
    /// The thread that changes the share.
    pub applier: SyncSender<Box<(Job, Option<File>)>>,
    /// Makes the scanner look again soon.
    pub look_again: SyncSender<()>,
}

enum Stage {
    Fetching(Option<ContentId>),
    Applying(Option<ContentId>),
}

struct Session {
    id: u64,
    out: SyncSender<Message>,
    notes: Option<SyncSender<Note>>,
    heard: Heard,
    /// The peer's listing is read to its end.
    heard_all: bool,
    listed_upto: u64,
    told_all: bool,
    unacknowledged: VecDeque<u64>,
}

struct Delay {
    until: Instant,
    pause: Duration,
}

/// The engine's memory; everything that must survive is in the index.
pub struct Engine {
    context: EngineContext,
    session: Option<Session>,
    /// A newer session that waits for the end of the old one.
    next_session: Option<Session>,
    scanned: bool,
    in_flight: HashMap<RelPath, Stage>,
    /// Large contents on their way, which have one part each.
    contents: HashSet<ContentId>,
    last_slot: u32,
    delayed: HashMap<RelPath, Delay>,
    /// Wants up to here were looked at.
    cursor: Option<RelPath>,
    at_end: bool,
    withheld: u64,
    /// The index has entries that may not be listed yet.
    unlisted: bool,
    cleaned: bool,
    /// Listings that came before the first look was complete: what they say
    /// must not replace what an earlier process may have put in place already.
    early: VecDeque<(u64, Message)>,
}

impl Engine {
    /// An engine that knows nothing but its index.
    pub fn new(context: EngineContext) -> Self {
        Self {
            context,
            session: None,
            next_session: None,
            scanned: false,
            in_flight: HashMap::new(),
            contents: HashSet::new(),
            last_slot: 0,
            delayed: HashMap::new(),
            cursor: None,
            at_end: false,
            withheld: 0,
            unlisted: true,
            cleaned: false,
            early: VecDeque::new(),
        }
    }

    /// Works until it is told to stop; an error means that the index failed.
    pub fn run(&mut self, events: &Receiver<Event>) -> Result<(), IndexError> {
        loop {
            let event = match self.next_retry() {
                Some(pause) => match events.recv_timeout(pause) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                },
                None => match events.recv() {
                    Ok(event) => Some(event),
                    Err(_) => return Ok(()),
                },
            };
            for event in event.into_iter().chain(events.try_iter().take(64)) {
                if matches!(event, Event::Stop) {
                    return Ok(());
                }
                self.take(event)?;
            }
            self.wake_delayed();
            self.dispatch()?;
            self.list()?;
            self.tell_activity()?;
        }
    }

    fn take(&mut self, event: Event) -> Result<(), IndexError> {
        match event {
            Event::Observed(observations) => self.take_observations(observations),
            Event::Scanned => {
                if !self.scanned {
                    self.scanned = true;
                    self.context
                        .reporter
                        .update(|activity| activity.scanned = true);
                    for (session, message) in std::mem::take(&mut self.early) {
                        self.take_message(session, message)?;
                    }
                }
                Ok(())
            }
            Event::SessionUp {
                session,
                peer_replica,
                peer_epoch,
                have,
                out,
            } => self.session_up(session, peer_replica, peer_epoch, have, out),
            Event::ReceiverUp { session, notes } => {
                let waiting = self.session.iter_mut().chain(&mut self.next_session);
                for known in waiting.filter(|known| known.id == session) {
                    known.notes = Some(notes.clone());
                }
                self.look_at_all_wants();
                Ok(())
            }
            Event::Message { session, message } => self.take_message(session, message),
            Event::SessionEnding { session } => {
                // Letting go of the queues ends the threads behind them.
                if self
                    .session
                    .as_ref()
                    .is_some_and(|known| known.id == session)
                {
                    self.hang_up("the connection ended");
                }
                self.next_session.take_if(|next| next.id == session);
                Ok(())
            }
            Event::SessionDown { session } => self.session_down(session),
            Event::Fetched {
                session,
                job,
                result,
            } => self.take_fetched(session, *job, result),
            Event::Applied(results) => self.take_applied(results),
            Event::Stop => Ok(()),
        }
    }

    fn session_up(
        &mut self,
        id: u64,
        peer_replica: u64,
        peer_epoch: u64,
        have: Have,
        out: SyncSender<Message>,
    ) -> Result<(), IndexError> {
        let index = &self.context.index;
        let known = index.heard()?;
        let same = (known.replica, known.epoch) == (peer_replica, peer_epoch);
        let heard = Heard {
            replica: peer_replica,
            epoch: peer_epoch,
            upto: if same { known.upto } else { 0 },
        };
        if !same {
            // It lists everything again; what it no longer lists is no longer
            // to be had. Said together, so that a peer that comes back after another one
            // lists everything again as well.
            index.commit(&[Change::UnwantAll, Change::Heard(heard)])?;
        }
        let ours = (have.replica, have.epoch) == (index.replica().0, index.epoch());
        let session = Session {
            id,
            out,
            notes: None,
            heard,
            heard_all: false,
            listed_upto: if ours { have.upto } else { 0 },
            told_all: false,
            unacknowledged: VecDeque::new(),
        };
        if self.session.is_some() {
            self.hang_up("a newer connection of the peer replaces it");
        }
        if self.fetching() {
            // The old session's threads are about to end; then this one begins.
            self.next_session = Some(session);
        } else {
            self.begin(session);
        }
        Ok(())
    }

    fn begin(&mut self, session: Session) {
        let peer = format!("{:016x}", session.heard.replica);
        self.context.reporter.peer("peer-up", &peer, "");
        self.session = Some(session);
        self.unlisted = true;
        self.look_at_all_wants();
        self.context.reporter.update(|activity| {
            activity.connected = true;
            activity.interrupted = false;
            activity.exchanged = false;
        });
    }

    fn fetching(&self) -> bool {
        self.in_flight
            .values()
            .any(|stage| matches!(stage, Stage::Fetching(_)))
    }

    /// Lets go of the session; its threads end by themselves.
    fn hang_up(&mut self, why: &str) {
        let Some(session) = self.session.take() else {
            return;
        };
        let peer = format!("{:016x}", session.heard.replica);
        self.context.reporter.peer("peer-down", &peer, why);
        let unfinished = !self.in_flight.is_empty() || !session.unacknowledged.is_empty();
        self.context.reporter.update(|activity| {
            activity.connected = false;
            activity.interrupted = unfinished || activity.sending;
        });
    }

    fn session_down(&mut self, id: u64) -> Result<(), IndexError> {
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.id == id)
        {
            self.hang_up("the connection ended");
        }
        self.next_session.take_if(|next| next.id == id);
        if self.session.is_some() {
            // An older session than the one there is.
            return Ok(());
        }
        let contents = &mut self.contents;
        self.in_flight.retain(|_, stage| match stage {
            Stage::Fetching(content) => {
                if let Some(content) = content {
                    contents.remove(content);
                }
                false
            }
            Stage::Applying(_) => true,
        });
        if self.in_flight.is_empty() {
            remove_small_parts(&self.context.share, &self.context.index)?;
        }
        if let Some(next) = self.next_session.take() {
            self.begin(next);
        }
        Ok(())
    }

    fn take_message(&mut self, id: u64, message: Message) -> Result<(), IndexError> {
        let waiting = self
            .session
            .iter()
            .chain(&self.next_session)
            .any(|session| session.id == id);
        if !waiting {
            return Ok(());
        }
        if !self.scanned && matches!(message, Message::Listing { .. }) {
            self.early.retain(|(session, _)| *session == id);
            if self.early.len() >= LISTINGS_MAX {
                self.hang_up("it lists more than is acknowledged");
                return Ok(());
            }
            self.early.push_back((id, message));
            return Ok(());
        }
        match message {
            Message::Listing {
                upto,
                complete,
                entries,
            } => self.take_listing(id, upto, complete, entries),
            Message::Ack { upto } => {
                if let Some(session) = self.session.as_mut().filter(|session| session.id == id) {
                    session.unacknowledged.retain(|listed| *listed > upto);
                }
                Ok(())
            }
            Message::Hello(_) | Message::Ping | Message::Error { .. } => Ok(()),
        }
    }

    fn tell_activity(&mut self) -> Result<(), IndexError> {
        let busy = !self.in_flight.is_empty();
        let (at_end, withheld) = (self.at_end, self.withheld);
        let exchanged = self.session.as_ref().is_some_and(|session| {
            session.heard_all && session.told_all && session.unacknowledged.is_empty()
        });
        self.context.reporter.update(|activity| {
            activity.receiving = busy;
            if at_end && activity.withheld != withheld {
                activity.withheld = withheld;
                self.context.reporter.mark_changed();
            }
            activity.exchanged = exchanged;
        });
        let idle = exchanged && !busy && self.at_end && self.delayed.is_empty();
        if idle && !self.cleaned {
            let (_, wants) = self.context.index.counts()?;
            if wants == self.withheld {
                remove_all_parts(&self.context.share, &self.context.index)?;
            }
            self.cleaned = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
