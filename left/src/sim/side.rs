//! One side of a simulated run: a machine, and the program on it while it lives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{Machine, SimDisk, open_index};
use crate::apply::{Job, apply, copy};
use crate::disk::{Content, Disk, Handle};
use crate::engine::{Action, Engine, Event, News};
use crate::entry::Body;
use crate::events::Reporter;
use crate::index::{Index, IndexError};
use crate::part::{
    open_part, remove_all_parts, remove_part, remove_small_parts, settle_intents, settle_removing,
};
use crate::record::Record;
use crate::scanner::{ScanEnd, Scanner};
use crate::transfer::blocks::ListCache;
use crate::transfer::receive::Missed;
use crate::trash::evict;
use crate::version::ReplicaId;
use crate::wire::message::{Have, Message};

/// The program while it lives.
pub(crate) struct Process {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) index: Arc<Index>,
    engine: Engine<Index>,
    scanner: Scanner<SimDisk, Index>,
    reporter: Arc<Reporter>,
    /// Contents that are to be received, in which session.
    pub(crate) fetches: VecDeque<(u64, Box<Job>)>,
    /// What is to be changed on the disk.
    pub(crate) jobs: Vec<Job>,
    /// What is to be copied before it can be.
    pub(crate) copies: VecDeque<Box<Job>>,
    /// What is to be said.
    pub(crate) outbox: Vec<Message>,
    /// The session it is in.
    pub(crate) session: Option<u64>,
    /// It has hung up.
    pub(crate) hung_up: bool,
    /// A look found files that were changing right then, and is over since then.
    restless_since: Option<Instant>,
    /// It wants to look at the share soon.
    look_again: bool,
    /// It has to begin again.
    pub(crate) is_over: bool,
    /// A set of removals that it holds back.
    pub(crate) held: Option<String>,
    /// It asks whether two shares are to be joined.
    pub(crate) asks: bool,
    /// It has looked at everything once.
    pub(crate) has_looked: bool,
}

impl Process {
    /// Starts as the daemon does.
    pub(crate) fn start(machine: &Machine, fresh: u64) -> Result<Self, IndexError> {
        let disk = Arc::new(machine.start().map_err(IndexError::of_file)?);
        let reporter = Arc::new(Reporter::silent());
        let index = Arc::new(open_index(&disk, (ReplicaId(fresh), fresh ^ 1))?);
        index.use_in_boot(machine.boot())?;
        settle_intents(&*disk, &*index, &reporter)?;
        settle_removing(&*disk, &*index, &reporter, 0)?;
        let scanner = Scanner::new(
            disk.clone(),
            index.clone(),
            Arc::new(ListCache::default()),
            reporter.clone(),
            Arc::new(AtomicBool::new(false)),
        );
        let engine = Engine::new(index.clone(), disk.now());
        Ok(Self {
            disk,
            index,
            engine,
            scanner,
            reporter,
            fetches: VecDeque::new(),
            jobs: Vec::new(),
            copies: VecDeque::new(),
            outbox: Vec::new(),
            session: None,
            hung_up: false,
            restless_since: None,
            look_again: false,
            is_over: false,
            held: None,
            asks: false,
            has_looked: false,
        })
    }

    /// Tells the engine, and does at once what it wants done at once.
    pub(crate) fn tell(&mut self, events: Vec<Event>) -> Result<(), IndexError> {
        for action in self.engine.step(self.disk.now(), events)? {
            match action {
                Action::Say { session, message } if Some(session) == self.session => {
                    self.outbox.push(message);
                }
                Action::Fetch { session, job } => self.fetches.push_back((session, job)),
                Action::Copy(job) => self.copies.push_back(job),
                Action::Apply(job) => self.jobs.push(*job),
                Action::HangUp { session } if Some(session) == self.session => {
                    self.hung_up = true;
                }
                Action::RemovePart(id) => remove_part(&*self.disk, id),
                Action::RemoveSmallParts => remove_small_parts(&*self.disk, &*self.index)?,
                Action::RemoveAllParts => remove_all_parts(&*self.disk, &*self.index)?,
                Action::Tell(News::Held(held)) => self.held = held.map(|held| held.set),
                Action::Tell(News::Asked(_)) => self.asks = true,
                Action::Tell(News::Joined(_)) => self.asks = false,
                Action::Tell(News::Problem { about, text }) => {
                    self.reporter.problem(&about, &text);
                }
                Action::Tell(News::Solved(path)) => self.reporter.solved(path.as_bytes()),
                Action::MakeRoom => evict(&*self.disk, &*self.index, 0, true)?,
                Action::BeginAgain => self.is_over = true,
                Action::LookAgain => self.look_again = true,
                Action::Say { .. }
                | Action::HangUp { .. }
                | Action::Answer { .. }
                | Action::Tell(_) => {}
            }
        }
        Ok(())
    }

    /// People are asked where more than so many common names differ.
    pub(crate) fn ask_above(&mut self, differ_max: u64) {
        self.engine.ask_above(differ_max);
    }

    /// Everything is looked at once. As in the daemon, the first look is not over
    /// while files are changing right then, for a while.
    pub(crate) fn scan(&mut self) -> Result<(), IndexError> {
        let mut events = Vec::new();
        let end = self.scanner.scan(&mut |observations| {
            events.push(Event::Observed(observations));
            Ok(())
        })?;
        let restless = matches!(end, ScanEnd::Complete { restless: true, .. });
        let now = self.disk.now();
        let waits = restless && {
            let since = *self.restless_since.get_or_insert(now);
            now.saturating_duration_since(since) < Duration::from_secs(1)
        };
        let unsure = self.scanner.take_again().unsure;
        if !unsure && (self.has_looked || !waits) {
            events.push(Event::Scanned);
            self.has_looked = true;
        }
        self.tell(events)
    }

    /// As [`Process::scan`], if the engine has asked for it.
    pub(crate) fn look_again(&mut self) -> Result<(), IndexError> {
        match std::mem::take(&mut self.look_again) {
            true => self.scan(),
            false => Ok(()),
        }
    }

    /// The applier does all that waits for it, and the copier one thing.
    pub(crate) fn apply(&mut self) -> Result<(), IndexError> {
        let jobs = std::mem::take(&mut self.jobs);
        if !jobs.is_empty() {
            let results = apply(&*self.disk, &*self.index, jobs);
            self.tell(vec![Event::Applied(results)])?;
        }
        let Some(job) = self.copies.pop_front() else {
            return Ok(());
        };
        let event = match copy(&*self.disk, &job, &|| true) {
            Ok(()) => Event::Copied(job),
            Err(outcome) => Event::Applied(vec![(*job, outcome)]),
        };
        self.tell(vec![event])
    }

    /// What the peer is told of how far its listing is known.
    pub(crate) fn have(&self) -> Result<Have, IndexError> {
        let heard = self.index.heard()?;
        Ok(Have {
            replica: heard.replica,
            epoch: heard.epoch,
            run: heard.run,
            upto: heard.upto,
            joined: heard.joined,
        })
    }

    /// What it sends for a job of the peer, if it still has that.
    pub(crate) fn send(&self, job: &Job) -> Result<Vec<u8>, Missed> {
        let (id, size) = job.content().ok_or(Missed::Superseded)?;
        let known = self.index.get(&job.path).map_err(|_| Missed::Superseded)?;
        let record = known.ok_or(Missed::Gone)?;
        if !matches!(record.entry.body, Body::File { id: known, .. } if known == id) {
            return Err(Missed::Gone);
        }
        self.read(job, &record, size).ok_or(Missed::Superseded)
    }

    fn read(&self, job: &Job, record: &Record, size: u64) -> Option<Vec<u8>> {
        let file = self.disk.open_file(&job.path).ok()?;
        let same = |stat: crate::disk::Stat| {
            let known = record.stamp.as_ref();
            known.is_some_and(|known| known.same_file(&stat.stamp()))
        };
        if !same(file.stat().ok()?) {
            return None;
        }
        let mut bytes = vec![0; size as usize];
        let whole = file.read_whole_at(&mut bytes, 0).ok()?;
        (whole && same(file.stat().ok()?)).then_some(bytes)
    }

    /// A content arrives, or does not.
    pub(crate) fn receive(
        &mut self,
        session: u64,
        job: Box<Job>,
        content: Result<Vec<u8>, Missed>,
    ) -> Result<(), IndexError> {
        let result = match (content, job.part(), job.content()) {
            (Ok(bytes), Some(part), Some((id, _))) => {
                if *blake3::hash(&bytes).as_bytes() != id.0 {
                    Err(Missed::Unsound)
                } else {
                    let written = open_part(&*self.disk, part)
                        .and_then(|part| Ok(part.write_whole_at(&bytes, 0)?));
                    written.map_err(Missed::Disk)
                }
            }
            (Err(missed), ..) => Err(missed),
            (Ok(_), ..) => Err(Missed::Superseded),
        };
        self.tell(vec![Event::Fetched {
            session,
            job,
            result,
        }])
    }

    /// Paths of tombstones and wants.
    pub(crate) fn open_ends(&self) -> Result<Vec<String>, IndexError> {
        let index = &self.index;
        let records = index.records_after(None, usize::MAX)?.into_iter();
        let tombstones = records.filter(|(_, record)| record.entry.is_deleted());
        let wants = index.wants_after(None, usize::MAX)?.into_iter();
        let removals = index.removals_before(None, usize::MAX)?.into_iter();
        let paths = tombstones.map(|(path, _)| path);
        let paths = paths.chain(wants.map(|(path, _)| path));
        let paths = paths.chain(removals.map(|(path, _)| path));
        Ok(paths.map(|path| path.to_string()).collect())
    }

    /// Whether it waits for nothing but the others.
    pub(crate) fn is_idle(&self) -> bool {
        let is_done = self.fetches.is_empty() && self.copies.is_empty() && self.jobs.is_empty();
        is_done && self.engine.is_at_rest()
    }

    /// It changes nothing right now.
    pub(crate) fn is_still(&self) -> bool {
        self.fetches.is_empty() && self.jobs.is_empty()
    }

    /// Whether it is joined with a replica.
    pub(crate) fn is_joined_with(&self, replica: ReplicaId) -> bool {
        let heard = self.index.heard().unwrap_or_default();
        heard.joined && heard.replica == replica.0
    }

    /// Hashes of what lies in its trash.
    pub(crate) fn trashed(&self) -> Vec<String> {
        let all = self.index.trash_after(b"", usize::MAX).unwrap_or_default();
        let ids = all.into_iter().filter_map(|(_, trashed)| trashed.id);
        ids.map(|id| id.to_string()).collect()
    }

    /// What stands in the way, for the report of a failure.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.reporter.problems().0.into_iter();
        problems.map(|problem| problem.text).collect()
    }
}
