//! Brings everything up, waits for a signal, and takes everything down.

mod again;
mod answer;
mod drive;
mod error;
mod looking;
mod places;
mod telling;
mod work;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

pub use again::begin_again;
use again::{CHANGED, FAILED, expect_panics, wait_for_room};
use answer::Answering;
pub use answer::answer_from_disk;
pub use drive::Input;
use drive::{Hands, drive};
pub use error::DaemonError;
use looking::Looking;
use places::{open_events, refuse_log_inside, share_path};
use telling::Telling;
use work::Working;

use crate::events::Reporter;
use crate::index::Index;
use crate::log::{Level, Log};
use crate::part::{any_parts, settle_intents, settle_removing};
use crate::path::{STATE_DIR, shown};
use crate::scanner::Scanner;
use crate::session::{Hub, SessionContext, accept_all, dial_always, random};
use crate::share::Share;
use crate::transfer::blocks::ListCache;
use crate::transfer::send::SendContext;
use crate::trash::unix_seconds;
use crate::version::ReplicaId;
use crate::watcher::Watcher;
use crate::wire::socket::listen;

/// The status file is not written more often.
const STATUS_EVERY: Duration = Duration::from_millis(250);

/// What is under way gets this long at the end; it resumes at the next start.
const GRACE: Duration = Duration::from_millis(1500);

/// Inputs waiting for the engine.
const INPUTS_MAX: usize = 1024;

/// Batches of observations among them, each of up to 512: what the scanner sees must not
/// pile up in memory while a slow disk holds up the engine.
const OBSERVED_MAX: usize = 8;

/// Jobs waiting for the applier or copier; more than the engine ever has on their way.
const JOBS_MAX: usize = 1024;

/// The name of the index inside the state folder.
pub const INDEX_FILE: &str = "index";

/// How to run; checked and complete.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the peer is.
    pub peer: SocketAddr,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The share as the user gave it; without one, `./share` is made.
    pub share: Option<PathBuf>,
    /// Where events go.
    pub events: Option<PathBuf>,
    /// What is logged.
    pub log_level: Level,
}

/// How a daemon ended that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By a signal.
    Told,
    /// The index failed, and can be used or built anew, or is to be opened as
    /// another replica: [`begin_again`].
    ToBeginAgain,
}

/// Runs until a signal ends it.
pub fn run(settings: &Settings) -> Result<Ended, DaemonError> {
    let share_path = share_path(settings)?;
    expect_panics(share_path.join(STATE_DIR).join(INDEX_FILE));
    let events = settings
        .events
        .as_deref()
        .map(|path| open_events(path, &share_path))
        .transpose()?;
    refuse_log_inside(&share_path)?;
    let log = Log::to_stderr(settings.log_level);
    let reporter = Arc::new(Reporter::logging(events, log));
    let ended = run_reporting(settings, &share_path, &reporter);
    if let Err(error) = &ended {
        reporter.problem(b"", &error.to_string());
    }
    reporter.update(|activity| activity.ending = true);
    reporter.logged().draw("");
    ended
}

fn run_reporting(
    settings: &Settings,
    share_path: &Path,
    reporter: &Arc<Reporter>,
) -> Result<Ended, DaemonError> {
    let share = Arc::new(Share::open(share_path)?);
    let listener = listen(settings.listen).map_err(|source| DaemonError::Bind {
        address: settings.listen,
        source,
    })?;
    // A file that may not grow is an error of that file, and does not end this.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let (mut alarm, alarm_end) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, alarm_end.try_clone()?)?;
    }
    let changed = alarm_end.try_clone()?;
    reporter.wake_by(move || {
        // Whoever reads it takes the mark away first, so there never are many.
        let _ = (&changed).write_all(&[CHANGED]);
    });
    let index_path = share.path().join(STATE_DIR).join(INDEX_FILE);
    let ended = run_on(
        settings,
        &share,
        listener,
        &index_path,
        (&mut alarm, &alarm_end),
        reporter,
    );
    if matches!(ended, Err(DaemonError::ToBeginAgain)) {
        return Ok(Ended::ToBeginAgain);
    }
    let Err(DaemonError::Index(error)) = &ended else {
        return ended.map(|()| Ended::Told);
    };
    let again = if error.is_damage() {
        Index::mark_damaged(&index_path).is_ok()
    } else if reporter.activity().opened {
        error.is_of_the_moment()
    } else {
        // Whoever starts it is there to be told of anything else.
        error.is_lack_of_room()
    };
    if !again {
        return ended.map(|()| Ended::Told);
    }
    reporter.problem(
        b"",
        &format!("{error}; it goes on by itself when that is over"),
    );
    reporter.update(|activity| {
        activity.ending = false;
        activity.recovering = true;
    });
    Ok(match wait_for_room(&share, &mut alarm) {
        true => Ended::ToBeginAgain,
        false => Ended::Told,
    })
}

fn run_on(
    settings: &Settings,
    share: &Arc<Share>,
    listener: std::net::TcpListener,
    index_path: &Path,
    (alarm, alarm_end): (&mut UnixStream, &UnixStream),
    reporter: &Arc<Reporter>,
) -> Result<(), DaemonError> {
    let (index, aside) = Index::open(index_path, (ReplicaId(random()), random()))?;
    index.use_in_boot(boot())?;
    let index = Arc::new(index);
    if let Some(aside) = aside {
        reporter.problem(
            b"",
            &format!(
                "{}; it is kept as {} and built anew",
                aside.why,
                aside.path.display()
            ),
        );
    }
    reporter.log(&format!(
        "share {} as replica {}, listening on {}, peer {}, INSECURE: nothing is encrypted",
        shown(share.path().as_os_str().as_encoded_bytes()),
        index.replica(),
        settings.listen,
        settings.peer
    ));
    if let Some(why) = index.renewed() {
        reporter.log(&format!(
            "{why}: from now on this side is replica {}, and both sides list everything again",
            index.replica()
        ));
    }
    reporter.update(|activity| {
        activity.opened = true;
        activity.recovering = any_parts(&**share);
    });
    settle_intents(&**share, &*index, reporter)?;
    settle_removing(&**share, &*index, reporter, unix_seconds(&**share))?;
    reporter.update(|activity| activity.recovering = false);

    let mut daemon = Daemon::up(
        settings,
        share.clone(),
        index,
        reporter.clone(),
        listener,
        alarm_end,
    )?;
    let ended = daemon.wait(alarm);
    daemon.down();
    ended
}

/// Names this boot of the machine; always the same where the system does not say.
fn boot() -> u64 {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hash = blake3::hash(&id);
    let first = hash.as_bytes().first_chunk().copied();
    u64::from_le_bytes(first.unwrap_or_default())
}

struct Daemon {
    reporter: Arc<Reporter>,
    telling: Telling,
    context: Arc<SessionContext>,
    stop: Arc<AtomicBool>,
    inputs: SyncSender<Input>,
    /// The engine, the copier, the applier and the scanner: what writes.
    workers: Vec<JoinHandle<()>>,
    /// Somebody is being answered.
    talking: Arc<AtomicBool>,
    /// Why a worker ended by itself.
    failed: Arc<std::sync::Mutex<Option<DaemonError>>>,
}

impl Daemon {
    fn up(
        settings: &Settings,
        share: Arc<Share>,
        index: Arc<Index>,
        reporter: Arc<Reporter>,
        listener: std::net::TcpListener,
        alarm: &UnixStream,
    ) -> Result<Self, DaemonError> {
        let stop = Arc::new(AtomicBool::new(false));
        let lists = Arc::new(ListCache::default());
        let (inputs, inputs_end) = sync_channel(INPUTS_MAX);
        let (observing, observed) = sync_channel(OBSERVED_MAX);
        let (jobs, jobs_end) = sync_channel(JOBS_MAX);
        let (copies, copies_end) = sync_channel(JOBS_MAX);
        let (wake, woken) = sync_channel(1);
        let failed = Arc::new(std::sync::Mutex::new(None));
        let fail = Failing {
            failed: failed.clone(),
            alarm: Arc::new(alarm.try_clone()?),
        };
        let mut workers = Vec::new();
        let watcher = Arc::new(Watcher::new(share.clone(), wake));

        let hands = Hands {
            share: share.clone(),
            index: index.clone(),
            reporter: reporter.clone(),
            applier: jobs,
            copier: copies,
            watcher: watcher.clone(),
        };
        let fail_engine = fail.clone();
        workers.push(spawn("engine", move || {
            if let Err(error) = drive(&hands, &inputs_end, &observed) {
                fail_engine.with(error);
            }
        })?);
        let applier = Arc::new(Working {
            share: share.clone(),
            index: index.clone(),
            inputs: inputs.clone(),
        });
        let (copier, ending) = (applier.clone(), stop.clone());
        workers.push(spawn("copier", move || {
            copier.copy_all(&copies_end, &|| !ending.load(Ordering::Relaxed));
        })?);
        let placing = watcher.clone();
        workers.push(spawn("applier", move || {
            applier.apply_all(&jobs_end, &*placing);
        })?);
        let scanner = Scanner::new(
            share.clone(),
            index.clone(),
            lists.clone(),
            reporter.clone(),
            stop.clone(),
        );
        let looking = Looking {
            scanner: scanner.watched_by(watcher.clone()),
            share: share.clone(),
            watcher: watcher.clone(),
            reporter: reporter.clone(),
            stop: stop.clone(),
            woken,
            inputs: inputs.clone(),
            observing,
        };
        workers.push(spawn("scanner", move || {
            if let Err(error) = looking.run() {
                fail.with(error);
            }
        })?);

        let context = Arc::new(SessionContext {
            share: share.clone(),
            index: index.clone(),
            reporter: reporter.clone(),
            send: SendContext {
                share: share.clone(),
                index: index.clone(),
                lists,
                reporter: reporter.clone(),
                look_again: {
                    let watcher = watcher.clone();
                    Box::new(move |path| {
                        watcher.look_again(vec![path], Instant::now());
                        watcher.ask();
                    })
                },
            },
            engine: inputs.clone(),
            peer: settings.peer,
            listen: settings.listen.ip(),
            instance: random(),
            stop: stop.clone(),
            hub: Hub::default(),
        });
        // These two wait in system calls and hold nothing; the end of the
        // process is theirs.
        let accepting = context.clone();
        spawn("listener", move || accept_all(&accepting, &listener))?;
        let dialling = context.clone();
        spawn("dialler", move || dial_always(&dialling))?;
        let answering = Answering {
            share: share.clone(),
            index: index.clone(),
            inputs: inputs.clone(),
            watcher,
            reporter: reporter.clone(),
        };
        let talking = Arc::new(AtomicBool::new(false));
        match crate::control::listen(share.state()) {
            Ok(control) => {
                let talking = talking.clone();
                spawn("control", move || {
                    crate::control::serve(&control, &talking, |request| answering.answer(request));
                })?;
            }
            // Not every file system has sockets; all else works without.
            Err(error) => reporter.problem(
                b"/control",
                &format!(
                    "cannot make {STATE_DIR}/control: {error}; `left confirm`, `left restore`, \
                     `left join` and `left forget-peer` cannot ask this left"
                ),
            ),
        }
        let (of_reporter, of_inputs) = (reporter.clone(), inputs.clone());
        Ok(Self {
            telling: Telling::new(share, index, of_reporter, of_inputs, settings.peer),
            reporter,
            context,
            stop,
            inputs,
            workers,
            talking,
            failed,
        })
    }

    /// Keeps the status file true until a signal comes or a worker fails, and
    /// sleeps while nothing changes.
    fn wait(&mut self, alarm: &mut UnixStream) -> Result<(), DaemonError> {
        // What changed before now was told to nobody.
        let mut is_changed = true;
        let mut next = Instant::now();
        loop {
            let pause = next.saturating_duration_since(Instant::now());
            if is_changed && pause.is_zero() {
                self.reporter.take_changed();
                is_changed = self.telling.tell();
                next = Instant::now() + STATUS_EVERY;
                continue;
            }
            alarm.set_read_timeout(is_changed.then_some(pause))?;
            let mut byte = [0];
            match alarm.read(&mut byte) {
                Ok(1) if byte == [CHANGED] => is_changed = true,
                Ok(_) => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => break,
            }
        }
        let failed = self
            .failed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        failed.map_or(Ok(()), Err)
    }

    fn down(mut self) {
        self.reporter.update(|activity| activity.ending = true);
        self.stop.store(true, Ordering::Relaxed);
        self.context.hub.end_all();
        let _ = self.inputs.try_send(Input::Stop);
        self.telling.tell();
        let deadline = Instant::now() + GRACE;
        let is_busy = || {
            self.talking.load(Ordering::SeqCst) || !self.workers.iter().all(JoinHandle::is_finished)
        };
        while Instant::now() < deadline && is_busy() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Whoever is not done is cut off by the end of the process, which is
        // as safe as a kill.
    }
}

/// Lets a worker end the daemon.
#[derive(Clone)]
struct Failing {
    failed: Arc<std::sync::Mutex<Option<DaemonError>>>,
    alarm: Arc<UnixStream>,
}

impl Failing {
    fn with(&self, error: DaemonError) {
        self.failed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            // The others follow from the first.
            .get_or_insert(error);
        let mut alarm: &UnixStream = &self.alarm;
        let _ = alarm.write_all(&[FAILED]);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}
