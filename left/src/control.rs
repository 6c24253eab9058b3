//! Asking a daemon to do something: a socket in the state folder, which only
//! the share's owner can enter. A line of JSON goes in, another comes out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::path::STATE_DIR;

/// The name of the socket inside the state folder.
const SOCKET: &str = "control";

/// A longer question is none of ours.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A daemon that is alive answers well before.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// This set of deletions, which is held back, is meant.
    Confirm {
        /// Its name, from the status.
        set: String,
    },
    /// Put back what was removed last at this path.
    Restore {
        /// As [`crate::path::RelPath::to_wire`] writes it.
        path: String,
    },
    /// What can be put back.
    Trash,
    /// How two shares compare that meet for the first time.
    Join {
        /// They are to be joined.
        is_meant: bool,
    },
    /// Whoever the share was paired with is to be forgotten.
    ForgetPeer,
    /// How things are.
    Status,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done; for a person.
    Done(String),
    /// Why not.
    Refused(String),
    /// What can be put back, the latest first.
    Trash(Vec<TrashItem>),
    /// How things are.
    Status {
        /// For a program: [`crate::status::Status`].
        json: String,
        /// For a person.
        text: String,
    },
}

/// Something in the trash, for a person or a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashItem {
    /// Where it was.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// When it was removed, in seconds since 1970.
    pub removed: u64,
}

/// The place of the socket by descriptor: the name of a share may be longer than
/// the address of a socket can.
fn address(state: &OwnedFd) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", state.as_raw_fd())
}

/// Listens in the state folder; the share is locked, so what lies there is left
/// over.
pub fn listen(state: &OwnedFd) -> io::Result<UnixListener> {
    match unlinkat(state, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    UnixListener::bind(address(state))
}

/// Answers until the process ends, and marks the time in which it does: who was asked
/// to end or to begin again says so first.
pub fn serve(listener: &UnixListener, answering: &AtomicBool, answer: impl Fn(Request) -> Answer) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Out of descriptors, most likely; asking at once would only spin.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        // Whoever hangs up before the end gets no answer.
        answering.store(true, Ordering::SeqCst);
        let _ = converse(&stream, &answer);
        answering.store(false, Ordering::SeqCst);
    }
}

fn converse(mut stream: &UnixStream, answer: &impl Fn(Request) -> Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => answer(request),
        Err(error) => Answer::Refused(format!("the question is not understood: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Asks the daemon on the share at `share`.
pub fn ask(share: &Path, request: &Request) -> io::Result<Answer> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let state = openat(CWD, share.join(STATE_DIR), flags, Mode::empty())?;
    let mut stream = UnixStream::connect(address(&state))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
