//! What becomes of observations and of the peer's listing: the one place that
//! decides, and the only one that writes entries to the index.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use crate::apply::{How, Job, Outcome};
use crate::entry::{Body, ContentId, Entry};
use crate::events::Reporter;
use crate::index::{Change, Heard, Index, IndexError};
use crate::part::{open_part, remove_all_parts, remove_part};
use crate::path::RelPath;
use crate::plan::{Action, changed_here, plan};
use crate::record::Record;
use crate::scanner::{Observation, Seen};
use crate::share::Share;
use crate::transfer::blocks::BLOCK_BYTES_MIN;
use crate::transfer::receive::{Missed, Note};
use crate::wire::message::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Have, Message, WireEntry};

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
            Event::SessionDown { session } => {
                self.session_down(session);
                Ok(())
            }
            Event::Fetched {
                session,
                job,
                result,
            } => self.take_fetched(session, *job, result),
            Event::Applied(results) => self.take_applied(results),
            Event::Stop => Ok(()),
        }
    }

    fn take_observations(&mut self, observations: Vec<Observation>) -> Result<(), IndexError> {
        let index = self.context.index.clone();
        let here = index.replica();
        let mut changes = Vec::new();
        let mut changed = false;
        for Observation {
            path,
            compared_with,
            seen,
        } in observations
        {
            // What we are changing ourselves is looked at afterwards.
            if self.in_flight.contains_key(&path) {
                continue;
            }
            let known = index.get(&path)?;
            if known.as_ref().map(|record| record.seq) != compared_with {
                continue;
            }
            match observed(known.as_ref(), seen) {
                Found::Same(stamp) => changes.push(Change::Touch { path, stamp }),
                Found::Changed(body, mode, stamp) => {
                    let version = changed_here(known.as_ref().map(|record| &record.entry), here);
                    changes.push(Change::Put {
                        path,
                        entry: Entry {
                            body,
                            mode,
                            version,
                        },
                        stamp,
                    });
                    changed = true;
                }
                Found::Nothing => {}
            }
        }
        index.commit(&changes)?;
        if changed {
            self.unlisted = true;
            self.context.reporter.mark_changed();
            // A want may mean something else now.
            self.look_at_all_wants();
        }
        Ok(())
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
            // to be had.
            index.commit(&[Change::UnwantAll])?;
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

    fn session_down(&mut self, id: u64) {
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
            Stage::Applying(_) => true,
        });
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

    fn take_listing(
        &mut self,
        id: u64,
        upto: u64,
        complete: bool,
        entries: Vec<WireEntry>,
    ) -> Result<(), IndexError> {
        let index = self.context.index.clone();
        let mut changes = Vec::new();
        for wire in entries {
            let (path, theirs) = match wire.open() {
                Ok(sound) => sound,
                Err(why) => {
                    self.context.reporter.problem(
                        b"",
                        &format!("the peer listed something that cannot be: {why}"),
                    );
                    continue;
                }
            };
            self.delayed.remove(&path);
            let known = index.get(&path)?;
            let busy = self.in_flight.contains_key(&path);
            match plan(known.as_ref().map(|record| &record.entry), &theirs) {
                Action::Nothing if !busy => changes.push(Change::Unwant { path }),
                Action::Record(entry) if !busy => {
                    self.record(&mut changes, &path, known, entry);
                    changes.push(Change::Unwant { path });
                }
                _ => changes.push(Change::Want {
                    path,
                    entry: theirs,
                }),
            }
        }
        let session = self.session.as_mut().filter(|session| session.id == id);
        let Some(session) = session.or(self.next_session.as_mut()) else {
            return Ok(());
        };
        session.heard.upto = session.heard.upto.max(upto);
        session.heard_all = complete;
        changes.push(Change::Heard(session.heard));
        index.commit(&changes)?;
        let answered = session.out.try_send(Message::Ack { upto });
        self.unlisted = true;
        self.look_at_all_wants();
        if answered.is_err() {
            self.hang_up("it does not take messages");
        }
        Ok(())
    }

    /// The disk is as it should be; only the record changes.
    fn record(
        &self,
        changes: &mut Vec<Change>,
        path: &RelPath,
        known: Option<Record>,
        entry: Entry,
    ) {
        let same = known.as_ref().is_some_and(|known| known.entry == entry);
        if !same {
            let stamp = known.and_then(|known| known.stamp);
            changes.push(Change::Put {
                path: path.clone(),
                entry,
                stamp,
            });
        }
    }

    /// Starts what can be started for the wants, in the order of paths, so
    /// that folders come before what is in them.
    fn dispatch(&mut self) -> Result<(), IndexError> {
        // Before the first look is complete, what lies here is not known yet.
        let Some(notes) = self
            .session
            .as_ref()
            .and_then(|session| session.notes.clone())
        else {
            return Ok(());
        };
        if !self.scanned {
            return Ok(());
        }
        let index = self.context.index.clone();
        let mut changes = Vec::new();
        'pages: while !self.at_end && self.in_flight.len() < IN_FLIGHT_MAX {
            let page = index.wants_after(self.cursor.as_ref(), PAGE_WANTS)?;
            if page.is_empty() {
                self.at_end = true;
                break;
            }
            for (path, theirs) in page {
                if self.in_flight.len() >= IN_FLIGHT_MAX {
                    break 'pages;
                }
                self.cursor = Some(path.clone());
                if self.in_flight.contains_key(&path) || self.delayed.contains_key(&path) {
                    continue;
                }
                let known = index.get(&path)?;
                let action = plan(known.as_ref().map(|record| &record.entry), &theirs);
                let (how, target) = match action {
                    Action::Nothing => {
                        changes.push(Change::Unwant { path });
                        continue;
                    }
                    Action::Record(entry) => {
                        self.record(&mut changes, &path, known, entry);
                        changes.push(Change::Unwant { path });
                        self.unlisted = true;
                        continue;
                    }
                    Action::Withhold => {
                        self.withheld += 1;
                        continue;
                    }
                    Action::SetMetadata(entry) => (How::SetMetadata, entry),
                    Action::Install(entry) => (How::Install, entry),
                    Action::InstallKeepingOurs(entry) => (How::InstallKeepingOurs, entry),
                };
                let mut job = Job {
                    path: path.clone(),
                    known,
                    theirs,
                    target,
                    how,
                    slot: 0,
                };
                let content = job.content();
                if content.is_some_and(|(_, size)| size <= BLOCK_BYTES_MIN) {
                    self.last_slot = self.last_slot.checked_add(1).unwrap_or(1);
                    job.slot = self.last_slot;
                }
                let owned = owned_content(&job);
                if owned.is_some_and(|id| self.contents.contains(&id)) {
                    // The same content is on its way for another path, and
                    // this part has one owner.
                    continue;
                }
                let started = match content {
                    Some((_, size)) if size > 0 => {
                        self.contents.extend(owned);
                        self.in_flight.insert(path, Stage::Fetching(owned));
                        notes.try_send(Note::Fetch(Box::new(job))).is_ok()
                    }
                    _ => self.hand_to_applier(job, None),
                };
                if !started {
                    self.hang_up("it does not take requests");
                    break 'pages;
                }
            }
        }
        index.commit(&changes)
    }

    fn hand_to_applier(&mut self, job: Job, part: Option<File>) -> bool {
        let part = match (part, job.part()) {
            // Nothing has to be received for an empty file.
            (None, Some(id)) => match open_part(&self.context.share, id) {
                Ok(part) => Some(part),
                Err(error) => {
                    self.fail(&job.path, &error);
                    return true;
                }
            },
            (part, _) => part,
        };
        let stage = Stage::Applying(owned_content(&job));
        self.in_flight.insert(job.path.clone(), stage);
        self.context.applier.try_send(Box::new((job, part))).is_ok()
    }

    fn take_fetched(
        &mut self,
        session: u64,
        job: Job,
        result: Result<File, Missed>,
    ) -> Result<(), IndexError> {
        if !matches!(self.in_flight.get(&job.path), Some(Stage::Fetching(_))) {
            return Ok(());
        }
        let here = self
            .session
            .as_ref()
            .is_some_and(|known| known.id == session);
        match result {
            // The peer deleted it meanwhile; a version that was only replaced
            // is whole and comes first, so that a busy file does arrive.
            Ok(_) if !self.is_wanted(&job.path)? => {
                if let Some(id) = job.part() {
                    remove_part(&self.context.share, id);
                }
                self.finish(&job);
            }
            Ok(part) => {
                if !self.hand_to_applier(job, Some(part)) {
                    self.hang_up("this side cannot keep up");
                }
            }
            Err(missed) => {
                self.finish(&job);
                if !here {
                    return Ok(());
                }
                match missed {
                    // A newer version is listed as soon as the peer has seen it.
                    Missed::Superseded => self.delay(&job.path),
                    Missed::Unsound => {
                        let text = format!(
                            "what the peer sent for {} is not what it offered; it is tried again",
                            job.path
                        );
                        self.context.reporter.problem(job.path.as_bytes(), &text);
                        self.delay(&job.path);
                    }
                    Missed::Disk(error) => self.fail(&job.path, &error),
                }
            }
        }
        Ok(())
    }

    fn is_wanted(&self, path: &RelPath) -> Result<bool, IndexError> {
        let want = self.context.index.want(path)?;
        Ok(want.is_some_and(|want| !want.is_deleted()))
    }

    fn take_applied(&mut self, results: Vec<(Job, Outcome)>) -> Result<(), IndexError> {
        let index = self.context.index.clone();
        let mut changes = Vec::new();
        let mut completed = Vec::new();
        for (job, outcome) in results {
            self.finish(&job);
            if let Some(id) = job.part() {
                changes.push(Change::Forget { id });
            }
            match outcome {
                Outcome::Done { stamp, copy } => {
                    self.delayed.remove(&job.path);
                    changes.push(Change::Put {
                        path: job.path.clone(),
                        entry: job.target.clone(),
                        stamp: Some(stamp),
                    });
                    // Unless the peer listed another version meanwhile.
                    if index
                        .want(&job.path)?
                        .is_some_and(|want| want == job.theirs)
                    {
                        changes.push(Change::Unwant {
                            path: job.path.clone(),
                        });
                    }
                    completed.push((job, copy));
                }
                Outcome::Changed => {
                    let _ = self.context.look_again.try_send(());
                    self.delay(&job.path);
                }
                Outcome::Failed(error) => self.fail(&job.path, &error),
            }
        }
        index.commit(&changes)?;
        for (job, copy) in completed {
            self.context.reporter.solved(job.path.as_bytes());
            if let Some(copy) = copy {
                self.context.reporter.conflict(&job.path, &copy);
                let _ = self.context.look_again.try_send(());
            }
            let size = match &job.target.body {
                Body::File { size, .. } => *size,
                _ => 0,
            };
            self.context.reporter.complete(&job.path, size);
        }
        self.unlisted = true;
        self.look_at_all_wants();
        Ok(())
    }

    /// The path is free for something else.
    fn finish(&mut self, job: &Job) {
        if let Some(Stage::Fetching(Some(id)) | Stage::Applying(Some(id))) =
            self.in_flight.remove(&job.path)
        {
            self.contents.remove(&id);
        }
        self.cleaned = false;
    }

    fn fail(&mut self, path: &RelPath, error: &std::io::Error) {
        let advice = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "; make room, it goes on by itself"
            }
            std::io::ErrorKind::PermissionDenied => {
                "; give this user the permission, it goes on by itself"
            }
            _ => "; it is tried again",
        };
        let text = format!("cannot put {path} in place: {error}{advice}");
        self.context.reporter.problem(path.as_bytes(), &text);
        self.delay(path);
    }

    fn delay(&mut self, path: &RelPath) {
        let pause = self
            .delayed
            .get(path)
            .map_or(RETRY_FIRST, |known| (known.pause * 2).min(RETRY_MAX));
        self.delayed.insert(
            path.clone(),
            Delay {
                until: Instant::now() + pause,
                pause,
            },
        );
    }

    fn next_retry(&self) -> Option<Duration> {
        let next = self.delayed.values().map(|delay| delay.until).min()?;
        // Not in a tight loop when many are due one after the other.
        Some(
            next.saturating_duration_since(Instant::now())
                .max(Duration::from_millis(10)),
        )
    }

    fn wake_delayed(&mut self) {
        let now = Instant::now();
        let due: Vec<RelPath> = self
            .delayed
            .iter()
            .filter(|(_, delay)| delay.until <= now)
            .map(|(path, _)| path.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        for path in due {
            self.delayed.remove(&path);
        }
        self.look_at_all_wants();
    }

    fn look_at_all_wants(&mut self) {
        self.cursor = None;
        self.at_end = false;
        self.withheld = 0;
    }

    /// Tells the peer what changed here, a few messages ahead of its
    /// acknowledgements.
    fn list(&mut self) -> Result<(), IndexError> {
        if !self.scanned || !self.unlisted {
            return Ok(());
        }
        let Some(session) = self.session.as_mut() else {
            return Ok(());
        };
        while session.unacknowledged.len() < LISTINGS_MAX {
            let listed = self
                .context
                .index
                .listed_after(session.listed_upto, BATCH_ENTRIES_MAX)?;
            let more = listed.len() == BATCH_ENTRIES_MAX;
            let mut entries = Vec::new();
            let mut weight = 0;
            let mut upto = session.listed_upto;
            let mut cut = false;
            for (seq, path, entry) in listed {
                let wire = WireEntry::seal(&path, &entry);
                weight += wire.weight();
                entries.push(wire);
                upto = seq;
                if weight > BATCH_BYTES_MAX {
                    cut = true;
                    break;
                }
            }
            let complete = !more && !cut;
            if entries.is_empty() && session.told_all {
                self.unlisted = false;
                break;
            }
            session.listed_upto = upto;
            session.told_all = complete;
            session.unacknowledged.push_back(upto);
            if session
                .out
                .try_send(Message::Listing {
                    upto,
                    complete,
                    entries,
                })
                .is_err()
            {
                self.hang_up("it does not take messages");
                return Ok(());
            }
        }
        Ok(())
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

/// The content of a job whose part no other job may have.
fn owned_content(job: &Job) -> Option<ContentId> {
    let part = job.part().filter(|part| part.slot == 0)?;
    Some(part.content)
}

enum Found {
    /// Only the stat cache is out of date.
    Same(crate::record::Stamp),
    Changed(Body, u32, Option<crate::record::Stamp>),
    Nothing,
}

/// What an observation means beside what is known.
fn observed(known: Option<&Record>, seen: Seen) -> Found {
    let (mut body, mut mode, stamp) = match seen {
        Seen::Absent => {
            return match known {
                Some(known) if !known.entry.is_deleted() => Found::Changed(Body::Deleted, 0, None),
                _ => Found::Nothing,
            };
        }
        Seen::Present { body, mode, stamp } => (body, mode, stamp),
    };
    let Some(known) = known else {
        return Found::Changed(body, mode, Some(stamp));
    };
    // What the file system made of a mode or an mtime that was asked for is no
    // change; otherwise a coarse file system would echo it to the peer.
    if let Some(before) = known.stamp {
        if before.mode == stamp.mode {
            mode = known.entry.mode;
        }
        if let (Body::File { mtime, .. }, Some(asked)) = (&mut body, known.entry.mtime())
            && before.mtime == stamp.mtime
        {
            *mtime = asked;
        }
    }
    if known.entry.body == body && known.entry.mode == mode {
        Found::Same(stamp)
    } else {
        Found::Changed(body, mode, Some(stamp))
    }
}
