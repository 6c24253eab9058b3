//! One direction of one connection: what was read and not yet written.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Read and written at once.
pub const PIECE_BYTES: usize = 64 << 10;
/// On the way at once through a delayed direction: more than a link of 1 Gbit/s and
/// 200 ms can hold.
const DELAYED_BYTES_MAX: usize = 32 << 20;

/// What was read, with the moment from which it may be written.
#[derive(Default)]
pub struct Way {
    delay: Duration,
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// Written of the first piece.
    at: usize,
    /// In all pieces.
    bytes: usize,
    /// How reading ended, and when that may be passed on.
    ending: Option<(Instant, Ending)>,
    /// The end has been passed on.
    pub ended: bool,
}

/// How a sender ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It sends no more.
    InOrder,
    /// It is gone.
    Reset,
}

/// What is to be passed on next.
pub enum Next<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The end.
    End(Ending),
    /// Nothing before that.
    Later(Instant),
    /// Nothing until something is read.
    Nothing,
}

impl Way {
    /// Carries everything this much later; `first` goes before all that is read.
    pub fn new(delay: Duration, first: Vec<u8>, now: Instant) -> Self {
        let mut way = Self {
            delay,
            ..Self::default()
        };
        if !first.is_empty() {
            way.push(first, now);
        }
        way
    }

    /// There is room, and more may come.
    pub fn wants_to_read(&self) -> bool {
        let max = match self.delay.is_zero() {
            // One piece at a time, so that a slow receiver slows the sender.
            true => 1,
            false => DELAYED_BYTES_MAX,
        };
        self.ending.is_none() && self.bytes < max
    }

    /// Reads once, if there is room; whether it got on.
    pub fn read(&mut self, from: &mut TcpStream, scratch: &mut [u8], now: Instant) -> bool {
        if !self.wants_to_read() {
            return false;
        }
        loop {
            match from.read(scratch) {
                Ok(0) => self.ending = Some((now + self.delay, Ending::InOrder)),
                Ok(some) => self.push(scratch[..some].to_vec(), now + self.delay),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => self.ending = Some((now + self.delay, Ending::Reset)),
            }
            return true;
        }
    }

    /// What comes next.
    pub fn next(&self, now: Instant) -> Next<'_> {
        match (self.pieces.front(), self.ending) {
            (Some((due, _)), _) if *due > now => Next::Later(*due),
            (Some((_, piece)), _) => Next::Bytes(&piece[self.at..]),
            (None, Some((due, _))) if due > now => Next::Later(due),
            (None, Some((_, ending))) if !self.ended => Next::End(ending),
            (None, _) => Next::Nothing,
        }
    }

    /// So many bytes of it went.
    pub fn advance(&mut self, written: usize) {
        self.at += written;
        self.bytes -= written;
        if self
            .pieces
            .front()
            .is_some_and(|(_, piece)| piece.len() <= self.at)
        {
            self.pieces.pop_front();
            self.at = 0;
        }
    }

    fn push(&mut self, piece: Vec<u8>, due: Instant) {
        self.bytes += piece.len();
        self.pieces.push_back((due, piece));
    }
}

/// Writes without waiting; 0 when the socket takes nothing now.
pub fn write(to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use std::io::Write;
    loop {
        match to.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A socket that takes nothing, though there is something, does not exist.
            other => return other,
        }
    }
}
