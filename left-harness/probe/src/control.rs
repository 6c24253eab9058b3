//! The daemon's ear: lines from everybody who is connected, and answers to all of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::fail::{Doing, Result};
use crate::json::Line;

/// The socket's name in the daemon's folder. Always used as a relative name, from
/// inside the folder: a socket's path may have 108 bytes, a folder's many more.
pub const SOCKET: &str = "control";
/// One daemon a folder.
const LOCK: &str = "lock";
/// A harness and somebody looking over its shoulder.
const CONNECTIONS_MAX: usize = 8;
/// The longest order has three words.
const ORDER_BYTES_MAX: usize = 4096;

/// Everybody we talk to.
pub struct Control {
    listener: UnixListener,
    connections: Vec<Connection>,
    /// All said so far, for those who come later. A daemon says only a few lines in its life.
    said: String,
    /// Held for as long as we live; never given to a child.
    lock: File,
}

struct Connection {
    stream: UnixStream,
    pending: Vec<u8>,
    open: bool,
}

/// What woke us.
pub struct Woken {
    /// The descriptor that was waited for besides.
    pub other: bool,
    /// Orders, in order.
    pub orders: Vec<String>,
}

impl Control {
    /// Listens in the current folder; our standard input is who started us.
    /// `None` when another daemon lives here, which the one who started us was told.
    pub fn open() -> Result<Option<Self>> {
        let mut first = first_connection()?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(LOCK);
        let lock = lock.doing(|| format!("open {LOCK}"))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let line = Line::new()
                .text("failed", "another daemon lives in this folder")
                .end();
            first.write_all(line.as_bytes()).doing(|| "refuse".into())?;
            return Ok(None);
        }
        // We hold the lock, so this socket is nobody's.
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).doing(|| "remove the old socket".into());
            }
            _ => {}
        }
        let listener = UnixListener::bind(SOCKET).doing(|| format!("listen on {SOCKET}"))?;
        listener
            .set_nonblocking(true)
            .doing(|| format!("listen on {SOCKET}"))?;
        let mut control = Self {
            listener,
            connections: Vec::new(),
            said: String::new(),
            lock,
        };
        control.welcome(first);
        Ok(Some(control))
    }

    /// Waits for an order, for `other` to become readable, or for the time to pass.
    pub fn wait(&mut self, other: Option<BorrowedFd<'_>>, timeout: Duration) -> Result<Woken> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.extend(
            self.connections
                .iter()
                .map(|connection| PollFd::new(&connection.stream, PollFlags::IN)),
        );
        if let Some(other) = &other {
            fds.push(PollFd::new(other, PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(Errno::INTR) => {
                return Ok(Woken {
                    other: false,
                    orders: Vec::new(),
                });
            }
            Err(error) => return Err(error).doing(|| "wait for orders".into()),
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let mut orders = Vec::new();
        for (connection, _) in self
            .connections
            .iter_mut()
            .zip(&ready[1..])
            .filter(|(_, ready)| **ready)
        {
            connection.read(&mut orders);
        }
        self.connections.retain(|connection| connection.open);
        if ready[0] {
            while let Ok((stream, _)) = self.listener.accept() {
                self.welcome(stream);
            }
        }
        let other = other.is_some() && ready.last() == Some(&true);
        Ok(Woken { other, orders })
    }

    /// Tells everybody, now and later.
    pub fn say(&mut self, line: &str) {
        self.said.push_str(line);
        for connection in &mut self.connections {
            connection.write(line.as_bytes());
        }
        self.connections.retain(|connection| connection.open);
    }

    /// The last line. The folder is free before it is said, so that who hears
    /// it can start the next daemon there at once.
    pub fn end(mut self, last_words: &str) {
        // Gone is gone; a stale socket only costs the next daemon the removal.
        let _ = fs::remove_file(SOCKET);
        drop(self.lock);
        for connection in &mut self.connections {
            connection.write(last_words.as_bytes());
            let _ = connection.stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn welcome(&mut self, stream: UnixStream) {
        if self.connections.len() >= CONNECTIONS_MAX || stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut connection = Connection {
            stream,
            pending: Vec::new(),
            open: true,
        };
        connection.write(self.said.as_bytes());
        self.connections.push(connection);
    }
}

impl Connection {
    fn read(&mut self, orders: &mut Vec<String>) {
        let mut buffer = [0; ORDER_BYTES_MAX];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break self.open = false,
                Ok(some) => self.pending.extend_from_slice(&buffer[..some]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break self.open = false,
            }
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.pending.drain(..=end).collect();
                orders.push(String::from_utf8_lossy(&line).trim().to_string());
            }
            if self.pending.len() > ORDER_BYTES_MAX {
                break self.open = false;
            }
        }
    }

    /// The socket's buffer takes all we ever say; who does not read at all is let go.
    fn write(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).is_err() {
            self.open = false;
        }
    }
}

/// Our standard input as the connection it is.
fn first_connection() -> Result<UnixStream> {
    let fd = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)
        .doing(|| "take over the channel".into())?;
    Ok(UnixStream::from(fd))
}
