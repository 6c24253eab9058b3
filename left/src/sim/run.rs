//! Two sides, a wire, and what must hold of them whatever happens.

mod fields;
mod ignored;
mod joining;
mod meeting;
mod rest;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rustix::io::Errno;

pub(crate) use meeting::{Crash, Make};

use super::people::{People, files};
use super::plan::{At, Step};
use super::side::Process;
use super::{Config, Machine, On};
use crate::engine::Event;
use crate::index::IndexError;
use crate::transfer::receive::Missed;
use crate::wire::message::Message;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

/// A run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Of all that happened.
    pub(crate) digest: String,
    /// What people could do of what they wanted to.
    pub(crate) operations: u64,
}

type Checked<T = ()> = Result<T, Violation>;

/// All that must be the same on both sides, by path.
type Seen = BTreeMap<String, String>;

struct Side {
    machine: Machine,
    process: Option<Process>,
    /// What is on its way to it.
    inbox: VecDeque<Message>,
    /// What a power cut will leave, if one is to come.
    power_cut: Option<u64>,
    starts: u64,
    /// What the disk was at some time.
    snapshot: Option<Machine>,
    /// Something may have happened that the program did not see when it looked last.
    unseen: bool,
}

/// A run.
pub(crate) struct Run {
    sides: [Side; 2],
    connected: bool,
    last_session: u64,
    people: People,
    /// Of all that was said and done.
    digest: blake3::Hasher,
    /// Everything is told on the way.
    traces: bool,
    /// Only people at A did anything.
    one_writer: bool,
    /// People are asked where more common names differ.
    differ_max: Option<u64>,
    /// What must not change before somebody says so.
    waiting: Option<[Seen; 2]>,
    seed: u64,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let side = |number: u64| Side {
            machine: Machine::new(seed ^ number, Config::default()),
            process: None,
            inbox: VecDeque::new(),
            power_cut: None,
            starts: 0,
            snapshot: None,
            unseen: false,
        };
        Self {
            sides: [side(1), side(2)],
            connected: false,
            last_session: 0,
            people: People::new(),
            digest: blake3::Hasher::new(),
            traces: std::env::var_os("LEFT_SIM_TRACE").is_some(),
            one_writer: true,
            differ_max: None,
            waiting: None,
            seed,
        }
    }

    /// Performs the steps, then lets everything come to rest, and checks it.
    pub(crate) fn perform(mut self, steps: &[Step]) -> Checked<Ended> {
        for at in At::BOTH {
            self.start(at)?;
        }
        if !matches!(steps.first(), Some(Step::AskAbove(_))) {
            self.pair()?;
        }
        self.connect()?;
        for step in steps {
            self.trace(|_| format!("{step:?}"));
            self.step(*step)?;
            self.check_whole(&format!("{step:?}"))?;
            self.check_waiting(&format!("{step:?}"))?;
        }
        self.settle()?;
        let trees = format!("{:?}", self.sides.map(|side| side.machine.tree()));
        self.digest.update(trees.as_bytes());
        Ok(Ended {
            digest: self.digest.finalize().to_hex().to_string(),
            operations: self.people.operations(),
        })
    }

    /// For whoever looks into one run.
    fn trace(&self, what: impl FnOnce(&Self) -> String) {
        if self.traces {
            eprintln!("{}", what(self));
        }
    }

    fn side(&mut self, at: At) -> &mut Side {
        &mut self.sides[at as usize]
    }

    fn step(&mut self, step: Step) -> Checked {
        // Who says the word may have been asked nothing.
        if step.is_of_people() && !matches!(step, Step::Join(_)) {
            self.waiting = None;
        }
        if let Step::User(at, ..) | Step::Intrude(at, ..) = step {
            self.side(at).unseen = true;
        }
        match step {
            Step::User(at, op, synced) => {
                self.one_writer &= at == At::A && !op.is_of_rules();
                let machine = self.side(at).machine.clone();
                self.people.act(at, &machine, op);
                if synced {
                    self.people.sync(at, &machine);
                }
                Ok(())
            }
            Step::Scan(at) => self.scan(at),
            Step::Apply(at) => {
                self.apply(at)?;
                self.check_trash(at)
            }
            Step::Deliver(at, count) => self.deliver(at, count),
            Step::Fetch(at, count) => (0..count).try_for_each(|_| self.fetch(at)),
            Step::Kill(at, change) => {
                let side = self.side(at);
                if side.process.is_some() {
                    side.power_cut = None;
                    side.machine.crash_at(side.machine.changes() + change);
                }
                Ok(())
            }
            Step::PowerCut(at, change, seed) => {
                let side = self.side(at);
                if side.process.is_some() {
                    side.power_cut = Some(seed);
                    side.machine.crash_at(side.machine.changes() + change);
                }
                Ok(())
            }
            Step::Start(at) => self.start(at),
            Step::Cut => self.cut(),
            Step::Connect => self.connect(),
            Step::Wait(millis) => self.wait(millis),
            Step::Intrude(at, calls, op) => {
                self.one_writer &= at == At::A && !op.is_of_rules();
                let people = self.people.clone();
                let act = move |machine: &Machine| people.act(at, machine, op);
                self.side(at).machine.before_call(calls, Box::new(act));
                Ok(())
            }
            Step::Full(at, bytes) => {
                let machine = &self.side(at).machine;
                let used = machine.used_bytes();
                machine.configure(|config| config.capacity_bytes = Some(used + bytes));
                Ok(())
            }
            Step::Unlisted(at, calls) => {
                self.side(at).machine.fail(On::List, calls, Errno::IO);
                Ok(())
            }
            Step::Unread(at, calls) => {
                self.side(at).machine.fail(On::Read, calls, Errno::IO);
                Ok(())
            }
            Step::Unwritten(at, calls) => {
                self.side(at).machine.fail(On::Write, calls, Errno::IO);
                Ok(())
            }
            Step::Unsynced(at, calls) => {
                self.side(at).machine.fail(On::Sync, calls, Errno::IO);
                Ok(())
            }
            Step::Snapshot(at) => {
                let snapshot = self.side(at).machine.fork();
                snapshot.user().sync();
                self.people.after_snapshot(at);
                self.side(at).snapshot = Some(snapshot);
                Ok(())
            }
            Step::RollBack(at) => self.roll_back(at),
            Step::ClockBack(at, seconds) => {
                let machine = &self.side(at).machine;
                machine.set_clock_back(Duration::from_secs(seconds));
                Ok(())
            }
            Step::Room(at) => {
                self.side(at).machine.heal();
                Ok(())
            }
            Step::AskAbove(differ_max) => {
                self.differ_max = Some(differ_max);
                let processes = self
                    .sides
                    .iter_mut()
                    .filter_map(|side| side.process.as_mut());
                processes.for_each(|process| process.ask_above(differ_max));
                Ok(())
            }
            Step::Still => {
                self.expect_a_question();
                Ok(())
            }
            Step::Join(at) => self.say_the_word(at),
            Step::Forget(at) => self.forget(at),
            Step::LoseIndex(at) => self.lose_index(at),
        }
    }

    /// The process is killed, and all that the disk has is what it had.
    fn roll_back(&mut self, at: At) -> Checked {
        let side = self.side(at);
        let Some(snapshot) = side.snapshot.take() else {
            return Ok(());
        };
        side.machine.kill();
        side.power_cut = None;
        self.died(at)?;
        // Who then changes what was put back makes a conflict with what was lost.
        self.one_writer = false;
        let machine = self.side(at).machine.clone();
        let before = files(&machine);
        machine.put_back(&snapshot);
        let elsewhere = files(&self.side(at.other()).machine);
        self.people
            .after_rollback(at, &machine, &before, &elsewhere);
        Ok(())
    }

    fn start(&mut self, at: At) -> Checked {
        if self.side(at).process.is_some() {
            return Ok(());
        }
        let fresh = self.fresh(at);
        let started = Process::start(&self.side(at).machine, fresh);
        match started {
            Ok(mut process) => {
                if let Some(differ_max) = self.differ_max {
                    process.ask_above(differ_max);
                }
                self.side(at).process = Some(process);
                Ok(())
            }
            Err(error) => self.failed(at, error),
        }
    }

    /// An id that nobody had before.
    fn fresh(&mut self, at: At) -> u64 {
        self.side(at).starts += 1;
        let starts = self.side(at).starts;
        ((self.seed << 8) ^ ((at as u64 + 1) << 4) ^ (starts << 16)) | (1 << 60)
    }

    /// Has the process of a side do something; it may die of that.
    fn process(
        &mut self,
        at: At,
        work: impl FnOnce(&mut Process) -> Result<(), IndexError>,
    ) -> Checked {
        let Some(process) = self.side(at).process.as_mut() else {
            return Ok(());
        };
        let done = work(process);
        if let Err(error) = done {
            return self.failed(at, error);
        }
        let side = self.side(at);
        if side.process.as_ref().is_some_and(|process| process.is_over) {
            side.machine.kill();
            side.power_cut = None;
        }
        if side.machine.is_dead() {
            return self.died(at);
        }
        self.carry(at)
    }

    /// Passes on what it says, and ends the connection when it hung up.
    fn carry(&mut self, at: At) -> Checked {
        let traces = self.traces;
        let digest = &mut self.digest;
        let Some(process) = self.sides[at as usize].process.as_mut() else {
            return Ok(());
        };
        let said = std::mem::take(&mut process.outbox);
        let jobs: Vec<_> = process
            .jobs
            .iter()
            .map(|job| (&job.path, job.how))
            .collect();
        let copies: Vec<_> = process.copies.iter().map(|job| &job.path).collect();
        if !said.is_empty() || !jobs.is_empty() || !copies.is_empty() {
            let told = format!("  {at:?} says {said:?}, has to do {jobs:?} and to copy {copies:?}");
            if traces {
                eprintln!("{told}");
            }
            digest.update(told.as_bytes());
        }
        let hung_up = std::mem::take(&mut process.hung_up);
        if self.connected {
            self.side(at.other()).inbox.extend(said);
            if hung_up {
                return self.cut();
            }
        }
        Ok(())
    }

    fn failed(&mut self, at: At, error: IndexError) -> Checked {
        if self.side(at).machine.is_dead() {
            return self.died(at);
        }
        // The daemon begins again when there is room.
        if error.is_lack_of_room() || error.is_of_the_moment() {
            self.side(at).machine.kill();
            self.side(at).power_cut = None;
            return self.died(at);
        }
        Err(Violation(format!("{at:?}: {error}")))
    }

    fn died(&mut self, at: At) -> Checked {
        self.side(at).process = None;
        if let Some(seed) = self.side(at).power_cut.take() {
            if self.people.is_dirty(at) {
                self.waiting = None;
            }
            self.side(at).machine.crash(seed);
            let machine = self.side(at).machine.clone();
            self.people.after_power_cut(at, &machine);
        }
        self.cut()
    }

    fn cut(&mut self) -> Checked {
        if !self.connected {
            return Ok(());
        }
        self.connected = false;
        for at in At::BOTH {
            self.side(at).inbox.clear();
            let Some(process) = self.side(at).process.as_mut() else {
                continue;
            };
            process.fetches.clear();
            process.outbox.clear();
            let Some(session) = process.session.take() else {
                continue;
            };
            self.process(at, |process| {
                process.tell(vec![
                    Event::SessionEnding { session },
                    Event::SessionDown { session },
                ])
            })?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Checked {
        if self.connected {
            return Ok(());
        }
        let [a, b] = &self.sides;
        let (Some(a), Some(b)) = (&a.process, &b.process) else {
            return Ok(());
        };
        let (Ok(a_has), Ok(b_has)) = (a.have(), b.have()) else {
            return Ok(());
        };
        let known = |process: &Process| {
            let index = &process.index;
            let share = index.share_id().unwrap_or_default();
            (index.replica().0, index.epoch(), index.run(), share)
        };
        let (a_is, b_is) = (known(a), known(b));
        if self.are_strangers() {
            return Ok(());
        }
        self.connected = true;
        self.last_session += 1;
        let session = self.last_session;
        let told = (a_has.upto, b_has.upto);
        for (at, peer, have, told_upto) in
            [(At::A, b_is, b_has, told.0), (At::B, a_is, a_has, told.1)]
        {
            self.process(at, |process| {
                process.session = Some(session);
                process.hung_up = false;
                process.asks = false;
                process.tell(vec![
                    Event::SessionUp {
                        session,
                        peer_replica: peer.0,
                        peer_epoch: peer.1,
                        peer_run: peer.2,
                        peer_share: peer.3,
                        have,
                        told_upto,
                    },
                    Event::ReceiverUp { session },
                ])
            })?;
            if !self.connected {
                break;
            }
        }
        Ok(())
    }

    fn scan(&mut self, at: At) -> Checked {
        let machine = &self.side(at).machine;
        let sees_all = !machine.is_to_be_intruded() && !machine.is_to_fail();
        self.process(at, Process::scan)?;
        self.side(at).unseen &= !sees_all;
        Ok(())
    }

    fn deliver(&mut self, at: At, count: usize) -> Checked {
        for _ in 0..count {
            if self.side(at).process.is_none() {
                return Ok(());
            }
            let Some(message) = self.side(at).inbox.pop_front() else {
                return Ok(());
            };
            self.process(at, |process| match process.session {
                Some(session) => process.tell(vec![Event::Message { session, message }]),
                None => Ok(()),
            })?;
        }
        Ok(())
    }

    fn fetch(&mut self, at: At) -> Checked {
        let Some(process) = self.side(at).process.as_mut() else {
            return Ok(());
        };
        let Some((session, job)) = process.fetches.pop_front() else {
            return Ok(());
        };
        let sender = self.side(at.other()).process.as_ref();
        let content = sender.map_or(Err(Missed::Superseded), |sender| sender.send(&job));
        if self.side(at.other()).machine.is_dead() {
            self.died(at.other())?;
        }
        if !self.connected {
            return Ok(());
        }
        self.process(at, |process| process.receive(session, job, content))
    }

    fn wait(&mut self, millis: u64) -> Checked {
        for at in At::BOTH {
            self.side(at).machine.advance(Duration::from_millis(millis));
            self.process(at, |process| process.tell(Vec::new()))?;
        }
        Ok(())
    }
}
