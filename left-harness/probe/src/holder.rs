//! The holder: parent and subreaper of one process, until that has ended.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, waitpid};

use crate::bridge::STATUS;
use crate::control::Control;
use crate::fail::{Doing, Fail, Result};
use crate::family;
use crate::hold::SELF;
use crate::json::Line;
use crate::lease::Lease;
use crate::process;

/// Becomes `bridge::STATUS` by a rename.
const STATUS_NEW: &str = "status.new";
/// Looks at memory and orphans come this often; a peak that lasts shorter before the end goes unseen.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The first looks come sooner, so that a short life is seen too.
const FIRST_LOOK: Duration = Duration::from_millis(1);
/// Looks for the listening port: dense at first, when most programs get there.
const READY_EVERY: [(Duration, Duration); 2] = [
    (Duration::from_millis(500), Duration::from_millis(1)),
    (Duration::MAX, Duration::from_millis(10)),
];
/// Where the kernel cannot wake us for a death, this often it is looked for.
const WITHOUT_PIDFD: Duration = Duration::from_millis(1);

/// What is to be held.
pub struct Spec {
    /// Folder of log, pid, socket and status.
    pub folder: PathBuf,
    /// How long it lives without a word.
    pub lease: Duration,
    /// Where it runs.
    pub cwd: PathBuf,
    /// Added to its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Ready when somebody of it listens there.
    pub listen: Option<u16>,
    /// Limit of open files.
    pub open_files: Option<u64>,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
}

/// Holds until the end. Everything worth knowing is said over the channel.
pub fn hold(spec: Spec) -> Result<()> {
    // Fails only when we lead a session already, which is what we want.
    let _ = rustix::process::setsid();
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).doing(|| "become subreaper".into())?;
    std::env::set_current_dir(&spec.folder).doing(|| format!("enter {}", spec.folder.display()))?;
    let Some(control) = Control::open()? else {
        return Ok(());
    };
    let status = Status::prepare()?;
    match Held::start(&spec) {
        Ok(held) => held.live(&spec, control, status),
        Err(fail) => {
            let line = Line::new().text("failed", &fail.0).end();
            status.write(&line)?;
            control.end(&line);
            Ok(())
        }
    }
}

struct Held {
    pid: i32,
    start_time: u64,
    fd: Option<OwnedFd>,
    began: Instant,
    usage: Usage,
    /// From our SIGKILL to the kernel's word that it is dead.
    died_within: Option<Duration>,
}

/// Why it comes to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It ended, or somebody else ended it.
    Itself,
    /// By order.
    Killed,
    /// Nobody renewed.
    LeaseLapsed,
}

/// What it used, with all below it.
#[derive(Default)]
struct Usage {
    /// Of the largest process that was seen.
    peak_kib: Option<u64>,
    user_ms: u64,
    system_ms: u64,
}

impl Usage {
    fn saw(&mut self, peak_kib: Option<u64>) {
        self.peak_kib = self.peak_kib.max(peak_kib);
    }
}

impl Held {
    fn start(spec: &Spec) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open("log")
            .doing(|| "open log".into())?;
        let errors = log.try_clone().doing(|| "open log".into())?;
        let (mut ear, mouth) = std::io::pipe().doing(|| "make a pipe".into())?;
        let mut stage = Command::new(SELF);
        stage
            .arg("exec-stage")
            .arg("--holder")
            .arg(std::process::id().to_string())
            .arg("--cwd")
            .arg(&spec.cwd);
        if let Some(files) = spec.open_files {
            stage.arg("--nofile").arg(files.to_string());
        }
        stage
            .arg("--")
            .args(&spec.argv)
            .envs(spec.env.iter().map(|(key, value)| (key, value)));
        stage
            .stdin(Stdio::from(OwnedFd::from(mouth)))
            .stdout(log)
            .stderr(errors)
            .process_group(0);
        let began = Instant::now();
        let child = stage.spawn().doing(|| "start a process".into())?;
        // Our copy of the writing end would keep the pipe open for ever.
        drop(stage);
        let pid = child.id() as i32;
        let start_time = process::stat(pid).map_or(0, |stat| stat.start_time);
        let mut why = String::new();
        ear.read_to_string(&mut why)
            .doing(|| "hear of the start".into())?;
        if !why.is_empty() {
            let _ = waitpid(Pid::from_raw(pid), WaitOptions::empty());
            return Err(Fail(why));
        }
        let fd = process::descriptor(pid, start_time);
        fs::write("pid", format!("{pid} {start_time}\n")).doing(|| "write pid".into())?;
        Ok(Self {
            pid,
            start_time,
            fd,
            began,
            usage: Usage::default(),
            died_within: None,
        })
    }

    fn live(mut self, spec: &Spec, mut control: Control, status: Status) -> Result<()> {
        control.say(
            &Line::new()
                .yes("started")
                .number("pid", self.pid)
                .number("start_time", self.start_time)
                .end(),
        );
        let mut lease = Lease::new(spec.lease);
        let mut port = spec.listen;
        let mut next_look = self.began + FIRST_LOOK;
        let mut pause = FIRST_LOOK;
        let cause = loop {
            if let Some(waited) = port
                && self.listens(waited)
            {
                port = None;
                let after = self.began.elapsed().as_millis() as u64;
                control.say(&Line::new().yes("ready").number("after_ms", after).end());
            }
            if Instant::now() >= next_look {
                self.look();
                family::reap_orphans(self.pid);
                pause = (pause * 2).min(LOOK_EVERY);
                next_look = Instant::now() + pause;
            }
            let Some(left) = lease.left() else {
                break Cause::LeaseLapsed;
            };
            let mut timeout = left.min(next_look.saturating_duration_since(Instant::now()));
            if port.is_some() {
                timeout = timeout.min(ready_pause(self.began.elapsed()));
            }
            if self.fd.is_none() {
                timeout = timeout.min(WITHOUT_PIDFD);
            }
            let woken = control.wait(self.fd.as_ref().map(AsFd::as_fd), timeout)?;
            // Orders first: a kill that came together with a death is answered by it.
            let mut kill = false;
            for order in woken.orders {
                match order.split_once(' ').unwrap_or((&order, "")) {
                    ("renew", "") => lease.renew(),
                    ("kill", "") => kill = true,
                    ("signal", name) => self.signal(name, &mut control),
                    _ => control.say(
                        &Line::new()
                            .text("refused", &format!("no such order: {order}"))
                            .end(),
                    ),
                }
            }
            if kill {
                break Cause::Killed;
            }
            if woken.other || (self.fd.is_none() && self.has_ended()) {
                break Cause::Itself;
            }
        };
        if cause != Cause::Itself {
            self.kill();
        }
        self.end(cause, control, status)
    }

    fn listens(&self, port: u16) -> bool {
        let own = std::process::id() as i32;
        let mut pids = vec![self.pid];
        pids.extend(
            process::descendants(own)
                .into_iter()
                .map(|(pid, _)| pid)
                .filter(|pid| *pid != self.pid),
        );
        process::listens(&pids, port)
    }

    fn look(&mut self) {
        self.usage.saw(process::peak_kib(self.pid));
        let own = std::process::id() as i32;
        for (pid, _) in process::descendants(own) {
            self.usage.saw(process::peak_kib(pid));
        }
    }

    fn signal(&mut self, name: &str, control: &mut Control) {
        // Last sight of its memory: a program that obeys is gone at the next look.
        self.look();
        let refused = match process::signal_by_name(name) {
            None => format!("no signal is called {name}"),
            Some(signal) => {
                match process::signal(self.pid, self.start_time, self.fd.as_ref(), signal) {
                    Ok(()) => return,
                    Err(error) => {
                        format!("cannot send {name}: {}", crate::fail::reason(&error.into()))
                    }
                }
            }
        };
        control.say(&Line::new().text("refused", &refused).end());
    }

    /// Ends when the death is certain.
    fn kill(&mut self) {
        self.usage.saw(process::peak_kib(self.pid));
        let killed = Instant::now();
        // It is our child and not reaped, so its pid is its own; failing means it has ended already.
        let _ = process::signal(self.pid, self.start_time, self.fd.as_ref(), Signal::KILL);
        let mut fds = self
            .fd
            .iter()
            .map(|fd| rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN))
            .collect::<Vec<_>>();
        while !fds.is_empty() && rustix::event::poll(&mut fds, None) == Err(rustix::io::Errno::INTR)
        {
        }
        self.died_within = self.fd.as_ref().map(|_| killed.elapsed());
    }

    fn has_ended(&self) -> bool {
        process::stat(self.pid).is_none_or(|stat| stat.state == 'Z')
    }

    /// The process has ended or is about to: takes leave of it and of all it leaves behind.
    fn end(mut self, cause: Cause, control: Control, status: Status) -> Result<()> {
        let ended = loop {
            match waitpid(Pid::from_raw(self.pid), WaitOptions::empty()) {
                Ok(Some((_, ended))) => break Some(ended),
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => break None,
            }
        };
        let family = family::end();
        // By now the kernel has added up the times of all that ever were below us.
        if let Some(stat) = process::stat(std::process::id() as i32) {
            (self.usage.user_ms, self.usage.system_ms) = stat.children_ms;
        }
        let mut line = Line::new()
            .yes("exited")
            .maybe("code", ended.and_then(WaitStatus::exit_status))
            .maybe_text(
                "signal",
                ended
                    .and_then(WaitStatus::terminating_signal)
                    .map(process::signal_name)
                    .as_deref(),
            )
            .maybe("max_rss_kib", self.usage.peak_kib)
            .number("user_ms", self.usage.user_ms)
            .number("system_ms", self.usage.system_ms)
            .number("left_behind", family.found);
        if let Some(within) = self.died_within {
            line = line.number("died_within_us", within.as_micros() as u64);
        }
        if family.stuck > 0 {
            line = line.number("stuck", family.stuck);
        }
        if cause == Cause::LeaseLapsed {
            line = line.yes("lease_lapsed");
        }
        let line = line.end();
        status.write(&line)?;
        control.end(&line);
        Ok(())
    }
}

fn ready_pause(since_start: Duration) -> Duration {
    READY_EVERY
        .iter()
        .find(|(until, _)| since_start < *until)
        .map_or(LOOK_EVERY, |(_, pause)| *pause)
}

/// Where the end will be written. Made at the start: making a file can take a
/// millisecond, which a confirmed death must not wait for.
struct Status(File);

impl Status {
    fn prepare() -> Result<Self> {
        // Of a life before in the same folder.
        let _ = fs::remove_file(STATUS);
        File::create(STATUS_NEW)
            .doing(|| format!("create {STATUS_NEW}"))
            .map(Self)
    }

    fn write(mut self, line: &str) -> Result<()> {
        self.0
            .write_all(line.as_bytes())
            .doing(|| format!("write {STATUS_NEW}"))?;
        fs::rename(STATUS_NEW, STATUS).doing(|| format!("rename {STATUS_NEW} to {STATUS}"))
    }
}
