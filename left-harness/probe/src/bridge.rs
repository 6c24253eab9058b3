//! The foreground end of a daemon: its socket becomes our standard input and output.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::control::SOCKET;
use crate::fail::{Doing, Fail, Result};

/// How a daemon's last line begins. Without one it ended before its time.
const LAST_WORDS: [&str; 6] = [
    "{\"exited\"",
    "{\"failed\"",
    "{\"healed\"",
    "{\"dismissed\"",
    "{\"lapsed\"",
    "{\"refused\"",
];
/// Where `hold` leaves how it ended.
pub const STATUS: &str = "status.json";

/// How the conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Our own input did: the daemon lives on.
    Left,
    /// The daemon did, and said so.
    Told,
    /// The daemon did, without its last words.
    Silent,
}

/// Passes lines both ways until one side ends.
pub fn bridge(mut daemon: UnixStream) -> Result<Ended> {
    let stdin = io::stdin();
    let mut tail = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [
            PollFd::new(&daemon, PollFlags::IN),
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).doing(|| "wait for the daemon".into()),
        }
        let [from_daemon, from_stdin] =
            [!fds[0].revents().is_empty(), !fds[1].revents().is_empty()];
        if from_daemon {
            match daemon.read(&mut buffer) {
                Ok(0) => {
                    return Ok(if spoke_last_words(&tail) {
                        Ended::Told
                    } else {
                        Ended::Silent
                    });
                }
                Ok(some) => {
                    let mut out = io::stdout().lock();
                    out.write_all(&buffer[..some])
                        .and_then(|()| out.flush())
                        .doing(|| "pass on an answer".into())?;
                    tail.extend_from_slice(&buffer[..some]);
                    keep_last_line(&mut tail);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A reset is an end like any other.
                Err(_) => {
                    return Ok(if spoke_last_words(&tail) {
                        Ended::Told
                    } else {
                        Ended::Silent
                    });
                }
            }
        }
        if from_stdin {
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) => return Ok(Ended::Left),
                // When the daemon has just ended, its last words still come.
                Ok(some) => drop(daemon.write_all(&buffer[..some])),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).doing(|| "read orders".into()),
            }
        }
    }
}

/// `ctl`: talks to the daemon of a folder, or tells how it ended.
pub fn reconnect(folder: &Path) -> Result<()> {
    std::env::set_current_dir(folder).doing(|| format!("enter {}", folder.display()))?;
    let ended = match UnixStream::connect(SOCKET) {
        Ok(daemon) => bridge(daemon)?,
        Err(_) => Ended::Silent,
    };
    if ended != Ended::Silent {
        return Ok(());
    }
    match fs::read(STATUS) {
        Ok(status) => io::stdout()
            .write_all(&status)
            .doing(|| "write the answer".into()),
        Err(_) => Err(Fail(format!(
            "nothing lives in {}, and nothing says how it ended",
            folder.display()
        ))),
    }
}

/// The text after the last but one line end.
fn keep_last_line(tail: &mut Vec<u8>) {
    let body = tail.strip_suffix(b"\n").unwrap_or(tail);
    if let Some(end) = body.iter().rposition(|byte| *byte == b'\n') {
        tail.drain(..=end);
    }
}

fn spoke_last_words(tail: &[u8]) -> bool {
    LAST_WORDS
        .iter()
        .any(|words| tail.starts_with(words.as_bytes()))
}
