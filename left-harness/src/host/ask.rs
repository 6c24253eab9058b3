//! Secrets: from the environment, else from whoever sits at the terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

const PASSPHRASE: &str = "LEFT_HARNESS_PASSPHRASE";
const PASSWORD: &str = "LEFT_HARNESS_PASSWORD";

/// Hosts hang up on a login after two minutes.
const ANSWER_DEADLINE: Duration = Duration::from_secs(100);

/// Longer lines are no secrets.
const SECRET_BYTES_MAX: usize = 4096;

/// One question at a time, whoever asks.
static TERMINAL: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What is wanted.
pub(super) enum Secret {
    /// For the key in this file.
    Passphrase(PathBuf),
    /// For this `user@host`.
    Password(String),
}

impl Secret {
    fn variable(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => PASSPHRASE,
            Self::Password(_) => PASSWORD,
        }
    }

    /// It comes from the environment: asking again brings nothing else.
    pub(super) fn is_given(&self) -> bool {
        std::env::var_os(self.variable()).is_some()
    }

    fn question(&self) -> String {
        match self {
            Self::Passphrase(path) => format!("Passphrase of the key {}: ", path.display()),
            Self::Password(whose) => format!("Password of {}: ", whose.escape_debug()),
        }
    }

    fn missing(&self) -> String {
        match self {
            Self::Passphrase(path) => format!(
                "the key {} needs its passphrase: set {PASSPHRASE}, run this in a terminal, \
                 or give the key to the agent (ssh-add)",
                path.display()
            ),
            Self::Password(_) => {
                format!("the password is needed: set {PASSWORD}, or run this in a terminal")
            }
        }
    }
}

/// Asks, and keeps count of the time that people took.
#[derive(Default)]
pub(super) struct Asker {
    waited: Mutex<Waited>,
}

#[derive(Default)]
struct Waited {
    done: Duration,
    since: Option<Instant>,
}

impl Asker {
    /// How long people have been waited for so far: no deadline should count it.
    pub(super) fn waited(&self) -> Duration {
        let Ok(waited) = self.waited.lock() else {
            return Duration::ZERO;
        };
        waited.done + waited.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The secret, or why there is none.
    pub(super) async fn ask(&self, secret: &Secret) -> Result<String, String> {
        if let Some(given) = std::env::var_os(secret.variable()) {
            let given = given.into_string();
            return given.map_err(|_| format!("{} is not UTF-8", secret.variable()));
        }
        self.count(true);
        let answer = self.ask_terminal(secret).await;
        self.count(false);
        answer
    }

    fn count(&self, begins: bool) {
        let Ok(mut waited) = self.waited.lock() else {
            return;
        };
        match waited.since.take() {
            Some(since) => waited.done += since.elapsed(),
            None if begins => waited.since = Some(Instant::now()),
            None => {}
        }
    }

    async fn ask_terminal(&self, secret: &Secret) -> Result<String, String> {
        let _alone = TERMINAL.lock().await;
        let question = secret.question();
        let given_up = GivenUp(Arc::new(AtomicBool::new(false)));
        let stop = given_up.0.clone();
        let asking = tokio::task::spawn_blocking(move || converse(&question, &stop));
        match asking.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(why.map_or_else(|| secret.missing(), str::to_owned)),
            Err(_) => Err(secret.missing()),
        }
    }
}

/// Tells the thread that nobody waits for the answer any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks on the terminal without showing the answer. `Err(None)`: there is none.
fn converse(question: &str, stop: &AtomicBool) -> Result<String, Option<&'static str>> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    let terminal = terminal.map_err(|_| None)?;
    let _quiet = Quiet::new(&terminal).map_err(|_| None)?;
    (&terminal)
        .write_all(question.as_bytes())
        .map_err(|_| None)?;
    let end = Instant::now() + ANSWER_DEADLINE;
    let mut answer = Vec::new();
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Some("it was interrupted"));
        }
        if Instant::now() > end {
            return Err(Some("nobody answered the question on the terminal"));
        }
        let mut fds = [PollFd::new(&terminal, PollFlags::IN)];
        let slice = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        if !poll(&mut fds, Some(&slice)).is_ok_and(|ready| ready > 0) {
            continue;
        }
        let mut byte = [0];
        match (&terminal).read(&mut byte) {
            Ok(1) if byte[0] != b'\n' && answer.len() < SECRET_BYTES_MAX => answer.push(byte[0]),
            Ok(1) => break,
            _ => return Err(Some("the terminal is gone")),
        }
    }
    String::from_utf8(answer).map_err(|_| Some("what was entered is not UTF-8"))
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> rustix::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
