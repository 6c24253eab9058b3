//! Where connections come in, and what keeps strangers out of the tunnels.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::socket;

/// What a tunnel begins with.
pub const TOKEN_BYTES: usize = 32;
/// The other relay sends it with its first packet.
const TOKEN_DEADLINE: Duration = Duration::from_secs(5);
/// Who has not shown a token yet; one more and the oldest goes, so that idle
/// strangers cannot keep the other relay out.
const STRANGERS_MAX: usize = 16;

/// A listening socket with those who have not said who they are.
pub struct Door {
    listener: TcpListener,
    strangers: Vec<Stranger>,
}

struct Stranger {
    stream: TcpStream,
    shown: Vec<u8>,
    deadline: Instant,
}

impl Door {
    /// Nobody has come yet.
    pub fn open(listener: TcpListener) -> Self {
        Self {
            listener,
            strangers: Vec::new(),
        }
    }

    /// To wait for.
    pub fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// To wait for, in order.
    pub fn strangers(&self) -> impl Iterator<Item = &TcpStream> {
        self.strangers.iter().map(|stranger| &stranger.stream)
    }

    /// When the first stranger has been silent for too long.
    pub fn deadline(&self) -> Option<Instant> {
        self.strangers
            .iter()
            .map(|stranger| stranger.deadline)
            .min()
    }

    /// Those who have come, at most so many.
    pub fn accept(&self, max: usize) -> Vec<TcpStream> {
        let come = (0..max).map_while(|_| self.listener.accept().ok());
        // One that cannot be used is one that is gone.
        come.map(|(stream, _)| stream)
            .filter(|stream| socket::accepted(stream).is_ok())
            .collect()
    }

    /// Lets strangers in as far as the threshold.
    pub fn admit(&mut self, now: Instant) {
        for stream in self.accept(STRANGERS_MAX) {
            self.strangers.push(Stranger {
                stream,
                shown: Vec::new(),
                deadline: now + TOKEN_DEADLINE,
            });
        }
        let excess = self.strangers.len().saturating_sub(STRANGERS_MAX);
        self.strangers.drain(..excess);
    }

    /// Those who have shown the token by now; who shows another one or is too late
    /// is gone. `ready` are the strangers that were waited for, in order.
    pub fn known(&mut self, ready: &[bool], token: &blake3::Hash, now: Instant) -> Vec<TcpStream> {
        let mut known = Vec::new();
        let mut staying = Vec::new();
        for (index, mut stranger) in std::mem::take(&mut self.strangers).into_iter().enumerate() {
            // One that came just now was not waited for and may have shown it already.
            let is_ready = ready.get(index).copied().unwrap_or(true);
            let shown = match is_ready {
                true => stranger.look(token),
                false => Shown::Part,
            };
            match shown {
                Shown::Token => known.push(stranger.stream),
                Shown::Part if now < stranger.deadline => staying.push(stranger),
                Shown::Part | Shown::Wrong => {}
            }
        }
        self.strangers = staying;
        known
    }
}

enum Shown {
    /// It is the other relay.
    Token,
    /// Not yet.
    Part,
    /// It is not.
    Wrong,
}

impl Stranger {
    fn look(&mut self, token: &blake3::Hash) -> Shown {
        // No byte more: what follows belongs to the connection.
        let mut buffer = [0; TOKEN_BYTES];
        while self.shown.len() < TOKEN_BYTES {
            let missing = TOKEN_BYTES - self.shown.len();
            match self.stream.read(&mut buffer[..missing]) {
                Ok(0) => return Shown::Wrong,
                Ok(some) => self.shown.extend_from_slice(&buffer[..some]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Shown::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Shown::Wrong,
            }
        }
        buffer.copy_from_slice(&self.shown);
        // Hashes are compared in constant time.
        match blake3::Hash::from_bytes(buffer) == *token {
            true => Shown::Token,
            false => Shown::Wrong,
        }
    }
}
