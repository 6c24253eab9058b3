//! What becomes of observations and of the peer's listing: the one place that
//! decides, and the only one that writes entries to the index.
//!
//! A state machine: [`Engine::step`] takes events and answers with actions. It
//! reads no clock, no disk and no socket; what it must remember is in its
//! [`Store`], which a commit makes durable before anything follows from it.

mod action;
mod again;
mod delays;
mod event;
mod guard;
mod identity;
mod jobs;
mod join;
mod listing;
mod observe;
mod removals;
mod rules;
mod walk;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

pub use action::{Action, Doing, News};
use again::{Delay, Slow};
pub use event::Event;
use guard::Guard;
pub use guard::Held;
pub(crate) use join::FORGOTTEN;

use crate::entry::ContentId;
use crate::index::{Change, Heard, IndexError, Store};
use crate::pairing::{ShareId, Stand};
use crate::path::RelPath;
use crate::wire::message::{Have, Message};
use walk::Walk;

/// Jobs on their way at once. The queues behind are longer than this, so the
/// engine never waits on them.
const IN_FLIGHT_MAX: usize = 512;

/// Listing messages on their way without an acknowledgement.
const LISTINGS_MAX: usize = 4;

/// Wants read from the index at a time.
const PAGE_WANTS: usize = 256;

enum Stage {
    Fetching(Option<ContentId>),
    Copying(Option<ContentId>),
    Applying {
        content: Option<ContentId>,
        /// What was received for it.
        landing_bytes: u64,
    },
    /// Whether the guard has counted it.
    Removing {
        counts: bool,
    },
}

struct Session {
    id: u64,
    /// Content can be received.
    receives: bool,
    heard: Heard,
    /// What the peer's share was named when it came.
    peer_share: Option<ShareId>,
    /// The peer knows that the two shares are joined.
    peer_knows: bool,
    /// Where the two sides stand that were not joined yet.
    our_stand: Option<Stand>,
    their_stand: Option<Stand>,
    /// The run of the peer's program.
    peer_run: u64,
    /// The peer's listing is read to its end.
    heard_all: bool,
    /// It was once, and may have gone on since then.
    heard_once: bool,
    listed_upto: u64,
    acknowledged_upto: u64,
    told_all: bool,
    unacknowledged: VecDeque<u64>,
}

/// The engine's memory; everything that must survive is in the store.
pub struct Engine<S> {
    store: Arc<S>,
    /// Of the current step.
    now: Instant,
    actions: Vec<Action>,
    /// Said after what is listed in the same step. A tombstone that is told back is
    /// heard before the acknowledgement lets go of the one it belongs to; the other way
    /// around it would be news to whoever has just forgotten it, and go to and fro.
    acks: Vec<(u64, Message)>,
    session: Option<Session>,
    /// A newer session that waits for the end of the old one.
    next_session: Option<Session>,
    scanned: bool,
    in_flight: HashMap<RelPath, Stage>,
    /// Large contents on their way, which have one part each.
    contents: HashSet<ContentId>,
    last_slot: u32,
    delayed: HashMap<RelPath, Delay>,
    /// The time of some of them has come.
    is_due: bool,
    slow: Option<Slow>,
    /// Something failed for lack of room.
    lacks_room: bool,
    wants: Walk,
    /// Removals from here on were looked at.
    removal_cursor: Option<RelPath>,
    removals_at_end: bool,
    guard: Guard,
    /// A folder stays that was to go; see `revive`.
    revived: bool,
    /// Paths whose content was not where it seemed to be on this side, and how often.
    not_here: HashMap<RelPath, u32>,
    /// The index has entries that may not be listed yet.
    unlisted: bool,
    /// The scanner has told of something and is not at the end of its look. What
    /// was renamed shows only there.
    mid_look: bool,
    cleaned: bool,
    /// Listings that came before the first look was complete: what they say
    /// must not replace what an earlier process may have put in place already.
    early: VecDeque<(u64, Message)>,
    told: Doing,
    /// The index is to be opened anew.
    is_over: bool,
    /// A person is asked whether two shares are to be joined.
    asked: bool,
    /// Where more common names differ.
    differ_max: u64,
    /// Nothing is known of what is ignored.
    is_clean: bool,
    /// Paths of which was told that something that is not synchronised is in the way.
    blocked: HashSet<RelPath>,
    /// What has arrived and is being put in place.
    landing_bytes: u64,
}

impl<S: Store> Engine<S> {
    /// An engine that knows nothing but its index.
    pub fn new(store: Arc<S>, now: Instant) -> Self {
        Self {
            store,
            now,
            actions: Vec::new(),
            acks: Vec::new(),
            session: None,
            next_session: None,
            scanned: false,
            in_flight: HashMap::new(),
            contents: HashSet::new(),
            last_slot: 0,
            delayed: HashMap::new(),
            is_due: false,
            slow: None,
            lacks_room: false,
            wants: Walk::new(now),
            removal_cursor: None,
            removals_at_end: false,
            guard: Guard::default(),
            revived: false,
            not_here: HashMap::new(),
            unlisted: true,
            mid_look: false,
            cleaned: false,
            early: VecDeque::new(),
            told: Doing::default(),
            is_over: false,
            asked: false,
            differ_max: join::DIFFER_MAX,
            is_clean: false,
            blocked: HashSet::new(),
            landing_bytes: 0,
        }
    }

    /// Takes events that happened by `now`, and says what is to be done. An
    /// error means that the index failed: then this engine is of no use any more.
    pub fn step(
        &mut self,
        now: Instant,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Vec<Action>, IndexError> {
        self.now = now;
        if !std::mem::replace(&mut self.is_clean, true) && !self.store.is_clean()? {
            // The process ended in the middle of it.
            self.forget_ignored()?;
        }
        for event in events {
            if !self.is_over {
                self.take(event)?;
            }
        }
        if self.is_over {
            return Ok(std::mem::take(&mut self.actions));
        }
        self.wake_delayed();
        self.join()?;
        self.dispatch_removals()?;
        self.dispatch()?;
        self.forget_delays();
        self.make_room();
        self.list()?;
        self.say_acks();
        self.tell_doing()?;
        Ok(std::mem::take(&mut self.actions))
    }

    fn say_acks(&mut self) {
        let sessions = [&self.session, &self.next_session];
        let is_there = |id: u64| {
            sessions
                .iter()
                .any(|known| known.as_ref().is_some_and(|known| known.id == id))
        };
        self.actions
            .extend(self.acks.drain(..).filter_map(|(session, message)| {
                is_there(session).then_some(Action::Say { session, message })
            }));
    }

    fn take(&mut self, event: Event) -> Result<(), IndexError> {
        match event {
            Event::Observed(observations) => {
                self.mid_look = true;
                self.take_seen(observations)
            }
            Event::Scanned => {
                if std::mem::take(&mut self.mid_look) {
                    // Now it can be said that all is told.
                    self.unlisted = true;
                }
                if !self.scanned {
                    self.scanned = true;
                    for (session, message) in std::mem::take(&mut self.early) {
                        self.take_message(session, message)?;
                    }
                    let acknowledged = self.session.as_ref().map(|known| known.acknowledged_upto);
                    self.drop_tombstones(acknowledged.unwrap_or(0))?;
                }
                Ok(())
            }
            Event::SessionUp {
                session,
                peer_replica,
                peer_epoch,
                peer_run,
                peer_share,
                have,
                told_upto,
            } => {
                let peer = (peer_replica, peer_epoch, peer_run);
                self.session_up(session, peer, peer_share, have, told_upto)
            }
            Event::ReceiverUp { session } => {
                let waiting = self.session.iter_mut().chain(&mut self.next_session);
                for known in waiting.filter(|known| known.id == session) {
                    known.receives = true;
                }
                self.look_at_all_wants();
                Ok(())
            }
            Event::Message { session, message } => self.take_message(session, message),
            Event::Stuck { session } => {
                self.end_session(session, "it does not take what is sent");
                Ok(())
            }
            Event::SessionEnding { session } => {
                self.end_session(session, "the connection ended");
                Ok(())
            }
            Event::SessionDown { session } => {
                self.session_down(session);
                Ok(())
            }
            Event::Fetched {
                session,
                job,
                result,
            } => self.take_fetched(session, *job, result),
            Event::Copied(job) => self.take_copied(*job),
            Event::Applied(results) => self.take_applied(results),
            Event::ToTake { paths, bytes } => {
                let session = self.session.as_ref().map(|session| session.id);
                self.actions.extend(session.map(|session| Action::Say {
                    session,
                    message: Message::Wanted { paths, bytes },
                }));
                Ok(())
            }
            Event::Confirmed { ask, set } => self.confirm(ask, &set),
            Event::JoinAsked { ask, is_meant } => self.take_word(ask, is_meant),
            Event::Forgotten { ask } => self.forget(ask),
        }
    }

    fn session_up(
        &mut self,
        id: u64,
        (peer_replica, peer_epoch, peer_run): (u64, u64, u64),
        peer_share: Option<ShareId>,
        have: Have,
        told_upto: u64,
    ) -> Result<(), IndexError> {
        if self.knows_more_of_us((peer_replica, peer_epoch), &have)? {
            return self.doubt(id);
        }
        self.asked = false;
        let store = self.store.clone();
        let known = store.heard()?;
        let same = (known.replica, known.epoch) == (peer_replica, peer_epoch);
        if same && told_upto > known.upto {
            // It would not list what is to be heard again since it was told so.
            self.actions.push(Action::HangUp { session: id });
            return Ok(());
        }
        let heard = Heard {
            replica: peer_replica,
            epoch: peer_epoch,
            run: if same { known.run } else { peer_run },
            upto: if same { known.upto } else { 0 },
            partial: !same || known.partial,
            joined: same && known.joined,
        };
        if !same {
            // It lists everything again; what it no longer lists is no longer
            // to be had. Said together, so that a peer that comes back after another one
            // lists everything again as well.
            store.commit(&[Change::ForgetPeer, Change::Heard(heard)])?;
        }
        store.commit(&[Change::Agreed])?;
        let ours = (have.replica, have.epoch) == (store.replica().0, store.epoch());
        let acknowledged_upto = if ours { have.upto } else { 0 };
        if same {
            self.drop_tombstones(acknowledged_upto)?;
        }
        let session = Session {
            id,
            receives: false,
            heard,
            peer_share,
            peer_knows: ours && have.joined,
            our_stand: None,
            their_stand: None,
            peer_run,
            heard_all: false,
            heard_once: false,
            listed_upto: acknowledged_upto,
            acknowledged_upto,
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
        let replica = session.heard.replica;
        self.tell(News::PeerUp { replica });
        self.session = Some(session);
        self.say_joined();
        self.unlisted = true;
        self.look_at_all_wants();
        self.look_at_all_removals();
    }

    fn fetching(&self) -> bool {
        self.in_flight
            .values()
            .any(|stage| matches!(stage, Stage::Fetching(_)))
    }

    /// Lets go of the session; what works for it ends by itself.
    fn hang_up(&mut self, why: &'static str) {
        let Some(session) = self.session.take() else {
            return;
        };
        // Who hears of the end takes it for the end, though the next one may begin at once.
        self.told.connected = false;
        let unfinished = !self.in_flight.is_empty() || !session.unacknowledged.is_empty();
        self.tell(News::PeerDown {
            replica: session.heard.replica,
            why,
            unfinished,
        });
        self.actions.push(Action::HangUp {
            session: session.id,
        });
    }

    /// Ends it, whether it is the session or is to be the next one.
    fn end_session(&mut self, id: u64, why: &'static str) {
        if self
            .session
            .as_ref()
            .is_some_and(|session| session.id == id)
        {
            self.hang_up(why);
        }
        if self.next_session.take_if(|next| next.id == id).is_some() {
            self.actions.push(Action::HangUp { session: id });
        }
    }

    fn session_down(&mut self, id: u64) {
        self.end_session(id, "the connection ended");
        if self.session.is_some() {
            // An older session than the one there is.
            return;
        }
        let contents = &mut self.contents;
        self.in_flight.retain(|_, stage| match stage {
            Stage::Fetching(content) => {
                if let Some(content) = content {
                    contents.remove(content);
                }
                false
            }
            Stage::Copying(_) | Stage::Applying { .. } | Stage::Removing { .. } => true,
        });
        if self.in_flight.is_empty() {
            self.actions.push(Action::RemoveSmallParts);
        }
        if let Some(next) = self.next_session.take() {
            self.begin(next);
        }
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
                self.end_session(id, "it lists more than is acknowledged");
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
            Message::Ack { upto, forgotten } => self.take_ack(id, upto, &forgotten),
            Message::Join { stand } => {
                self.take_stand(id, stand);
                Ok(())
            }
            Message::Wanted { paths, bytes } => {
                self.tell(News::ToGive { paths, bytes });
                Ok(())
            }
            Message::Hello(_) | Message::Ping | Message::Error { .. } => Ok(()),
        }
    }

    /// The sequence number that the next entry gets, after these changes.
    fn next_number(&self, changes: &[Change]) -> Result<u64, IndexError> {
        let puts = changes
            .iter()
            .filter(|change| matches!(change, Change::Put { .. }));
        Ok(self.store.seq()? + 1 + puts.count() as u64)
    }

    fn tell(&mut self, news: News) {
        self.actions.push(Action::Tell(news));
    }

    fn tell_problem(&mut self, about: &[u8], text: String) {
        self.tell(News::Problem {
            about: about.to_vec(),
            text,
        });
    }

    fn tell_doing(&mut self) -> Result<(), IndexError> {
        let busy = !self.in_flight.is_empty();
        let exchanged = self.session.as_ref().is_some_and(|session| {
            let told = session.told_all && session.unacknowledged.is_empty();
            session.heard.joined && session.heard_all && told
        });
        let doing = Doing {
            scanned: self.scanned,
            connected: self.session.is_some(),
            exchanged,
            receiving: busy,
            landing_bytes: self.landing_bytes,
        };
        if doing != self.told {
            self.told = doing;
            self.tell(News::Doing(doing));
        }
        let at_end = self.wants.is_over() && self.removals_at_end;
        let idle = exchanged && !busy && at_end && self.is_none_delayed();
        if idle && !self.cleaned {
            let (_, wants) = self.store.counts()?;
            // What is held back may go without any part.
            if wants == 0 || wants == self.store.removals()? {
                self.actions.push(Action::RemoveAllParts);
            }
            self.cleaned = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod tests;
