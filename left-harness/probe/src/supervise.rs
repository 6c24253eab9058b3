//! `supervise`: makes one process of a program that works by rounds.
//!
//! A command is run again and again, beside a companion that stays (a daemon), if there
//! is one. Who holds this process holds all of them: it ends when one of them ends as it
//! should not, and like that one; asked to end, it first ends them; killed, they die with it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, wait};

use crate::args::Args;
use crate::fail::{Doing, Fail, Result};
use crate::family;
use crate::hold::SELF;
use crate::process;

/// What asks a program to end. It is passed on as it came.
const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
/// The longest time between two looks; where the kernel wakes us for a death, nothing depends on it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same where it does not, and while those who were asked to end are waited for.
const LOOK_OFTEN: Duration = Duration::from_millis(10);
/// So long the others have to end when one of them has ended by itself.
const UNASKED_PATIENCE: Duration = Duration::from_secs(2);

/// What is to be run.
pub struct Spec {
    /// From the start of one round to the start of the next; a longer one is followed at once.
    every: Duration,
    /// Exit codes after which the next round follows.
    codes: Vec<i32>,
    /// One round.
    round: Vec<OsString>,
    /// What runs beside the rounds; nothing if empty.
    companion: Vec<OsString>,
}

impl Spec {
    /// Reads the command line. Each word of a round has a `--round` of its own, since
    /// what is after `--` is the companion's.
    pub fn read(given: impl Iterator<Item = OsString>) -> Result<Self> {
        let args = Args::parse(given, &[], &["--every-ms", "--code", "--round"])?;
        args.none()?;
        let every = Duration::from_millis(args.needed_number("--every-ms")?);
        let round: Vec<_> = args.all("--round").cloned().collect();
        if every.is_zero() || round.is_empty() {
            return Err(Fail(
                "--every-ms is at least 1, and a --round is needed".into(),
            ));
        }
        let codes = args.all("--code").map(|code| {
            let number = code.to_str().and_then(|code| code.parse().ok());
            number.ok_or_else(|| Fail(format!("--code {} is no exit code", code.display())))
        });
        let mut codes = codes.collect::<Result<Vec<i32>>>()?;
        if codes.is_empty() {
            codes.push(0);
        }
        Ok(Self {
            every,
            codes,
            round,
            companion: args.after,
        })
    }
}

/// Runs until it is asked to end or something ends that should not.
pub fn supervise(spec: &Spec) -> Result<()> {
    let asked = Asked::listen()?;
    let own = rustix::process::getpid();
    // What our children leave behind stays ours: it is asked to end with the rest.
    rustix::process::set_child_subreaper(Some(own)).doing(|| "become subreaper".into())?;
    let mut family = Family::default();
    let last = match live(spec, &asked, &mut family) {
        Ok(last) => last,
        Err(fail) => {
            family.end(&asked);
            return Err(fail);
        }
    };
    family.end(&asked);
    // Asked to end, we end as the companion does; it is what others call the program.
    match last.or_else(|| family.companion.and_then(|companion| companion.ended)) {
        Some(status) => end_like(status),
        None => Ok(()),
    }
}

/// `Some`: how the one ended that ends all.
fn live(spec: &Spec, asked: &Asked, family: &mut Family) -> Result<Option<WaitStatus>> {
    if !spec.companion.is_empty() {
        family.companion = Some(Member::start(&spec.companion)?);
    }
    let mut next = Instant::now();
    loop {
        family.reap();
        if asked.signal().is_some() {
            return Ok(None);
        }
        if let Some(status) = family.companion.as_ref().and_then(|member| member.ended) {
            eprintln!("left-harness-probe supervise: the program itself has ended");
            return Ok(Some(status));
        }
        if let Some(status) = family.round.as_ref().and_then(|member| member.ended) {
            let allowed = |code| spec.codes.contains(&code);
            if !status.exit_status().is_some_and(allowed) {
                eprintln!(
                    "left-harness-probe supervise: a round ended with {}, which is none of {:?}",
                    how(status),
                    spec.codes
                );
                return Ok(Some(status));
            }
            family.round = None;
        }
        let now = Instant::now();
        if family.round.is_none() && now >= next {
            next = now + spec.every;
            family.round = Some(Member::start(&spec.round)?);
        }
        let pause = match family.round {
            Some(_) => LOOK_EVERY,
            None => next.saturating_duration_since(Instant::now()),
        };
        family.wait(asked, pause.min(LOOK_EVERY))?;
    }
}

/// The processes we have started.
#[derive(Default)]
struct Family {
    companion: Option<Member>,
    round: Option<Member>,
}

struct Member {
    pid: i32,
    fd: Option<OwnedFd>,
    ended: Option<WaitStatus>,
}

impl Member {
    /// By way of a stage of ourselves, which ties its life to ours.
    fn start(argv: &[OsString]) -> Result<Self> {
        let (mut ear, mouth) = io::pipe().doing(|| "make a pipe".into())?;
        let mut stage = Command::new(SELF);
        stage
            .args(["exec-stage", "--holder"])
            .arg(std::process::id().to_string())
            .args(["--cwd", ".", "--"])
            .args(argv)
            .stdin(Stdio::from(OwnedFd::from(mouth)));
        let child = stage.spawn().doing(|| "start a process".into())?;
        // Our copy of the writing end would keep the pipe open for ever.
        drop(stage);
        let mut why = String::new();
        ear.read_to_string(&mut why)
            .doing(|| "hear of the start".into())?;
        if !why.is_empty() {
            return Err(Fail(why));
        }
        let pid = child.id() as i32;
        let start_time = process::stat(pid).map_or(0, |stat| stat.start_time);
        Ok(Self {
            pid,
            fd: process::descriptor(pid, start_time),
            ended: None,
        })
    }
}

impl Family {
    /// Takes leave of all that have ended; false when nobody is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let pid = pid.as_raw_nonzero().get();
                    let members = self.companion.iter_mut().chain(&mut self.round);
                    for member in members.filter(|member| member.pid == pid) {
                        member.ended = Some(status);
                    }
                }
                Ok(None) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Until one of them ends, we are asked to, or the time has passed.
    fn wait(&self, asked: &Asked, mut pause: Duration) -> Result<()> {
        let mut fds = vec![PollFd::new(&asked.wake, PollFlags::IN)];
        for member in self.companion.iter().chain(&self.round) {
            match &member.fd {
                Some(fd) => fds.push(PollFd::new(fd, PollFlags::IN)),
                None => pause = pause.min(LOOK_OFTEN),
            }
        }
        match poll(&mut fds, Some(&timespec(pause))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).doing(|| "wait for a process".into()),
        }
    }

    /// Asks everything below us to end, also what is born meanwhile, and returns when
    /// nobody is left. Where somebody asked us to end, theirs is the patience: whoever
    /// holds us kills us when it is at its end. Where nobody did, nobody waits for us, and
    /// it must not stay hidden for long that one of us has ended.
    fn end(&mut self, asked: &Asked) {
        let signal = asked.signal().unwrap_or(Signal::TERM);
        let deadline = Instant::now() + UNASKED_PATIENCE;
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut told = BTreeSet::new();
        while self.reap() {
            if asked.signal().is_none() && Instant::now() >= deadline {
                eprintln!("left-harness-probe supervise: the others did not end and are killed");
                family::end();
                return;
            }
            let living = process::descendants(own);
            for (pid, start_time) in &living {
                if told.insert((*pid, *start_time)) {
                    let fd = process::descriptor(*pid, *start_time);
                    // Gone is as good as told.
                    let _ = process::signal(*pid, *start_time, fd.as_ref(), signal);
                }
            }
            let fds: Vec<_> = living
                .iter()
                .filter_map(|(pid, start_time)| process::descriptor(*pid, *start_time))
                .collect();
            let mut waits: Vec<_> = fds
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN))
                .collect();
            // Interrupted or not, the next round looks again.
            let _ = poll(&mut waits, Some(&timespec(LOOK_OFTEN)));
        }
    }
}

/// Whether somebody wants us to end.
struct Asked {
    signal: Arc<AtomicUsize>,
    wake: UnixStream,
}

impl Asked {
    fn listen() -> Result<Self> {
        let (wake, alarm) = UnixStream::pair().doing(|| "make a channel".into())?;
        let signal = Arc::new(AtomicUsize::new(0));
        for (number, one) in ENDING.iter().enumerate() {
            let raw = one.as_raw();
            // In this order: whoever is woken must see which it was.
            signal_hook::flag::register_usize(raw, signal.clone(), number + 1)
                .doing(|| "listen to signals".into())?;
            let alarm = alarm
                .try_clone()
                .doing(|| "listen to signals".to_string())?;
            signal_hook::low_level::pipe::register(raw, alarm)
                .doing(|| "listen to signals".into())?;
        }
        Ok(Self { signal, wake })
    }

    fn signal(&self) -> Option<Signal> {
        let number = self.signal.load(Ordering::SeqCst);
        ENDING.get(number.checked_sub(1)?).copied()
    }
}

/// So that whoever holds us sees how it ended.
fn end_like(status: WaitStatus) -> Result<()> {
    if let Some(code) = status.exit_status() {
        std::process::exit(code);
    }
    let Some(number) = status.terminating_signal() else {
        return Err(Fail("a process ended nobody knows how".into()));
    };
    // The four that we listen to must get back their first meaning; of all others they have it.
    let _ = signal_hook::low_level::emulate_default_handler(number);
    if let Some(signal) = Signal::from_named_raw(number) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
    Err(Fail(format!("it ended with {}", how(status))))
}

fn how(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("SIG{}", process::signal_name(signal)),
        (None, None) => "nobody knows what".into(),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs() as i64,
        tv_nsec: duration.subsec_nanos().into(),
    }
}
