//! The channel: orders in, lines out, neither ever waited for.

use std::io::{self, Write};
use std::net::SocketAddr;

use rustix::io::Errno;

use super::door::TOKEN_BYTES;
use super::lane::Hold;
use crate::fail::{Doing, Fail, Result};
use crate::json::unhex;

/// The longest order is a token with an address.
const ORDER_BYTES_MAX: usize = 4096;
/// What a channel takes without waiting once it takes anything (`PIPE_BUF`).
const WRITE_BYTES_MAX: usize = 4096;
/// Lines that wait for a harness that does not read.
const UNREAD_BYTES_MAX: usize = 1 << 20;

/// The other end of the wire.
pub struct Join {
    /// What a tunnel begins with, both ways.
    pub token: blake3::Hash,
    /// Where the other relay is.
    pub peer: SocketAddr,
}

/// What the harness wants.
pub enum Order {
    /// Live on.
    Renew,
    /// Be one end of a wire.
    Join(Join),
    /// Tell when so many bytes more have gone.
    Arm {
        /// Its name.
        point: u64,
        /// From now on.
        bytes: u64,
        /// And then?
        hold: Hold,
    },
    /// The harness knows that it has fired.
    Noticed(u64),
    /// Stand still for a point of the other end.
    Stand(u64),
    /// Forget a point, and do not stand still for it.
    Release(u64),
    /// Stand still.
    Cut,
    /// And move again.
    Heal,
    /// Tell how much went.
    Count,
    /// Drop everything.
    End,
}

/// What was heard and not yet understood, what is to be said and not yet written.
#[derive(Default)]
pub struct Talk {
    heard: Vec<u8>,
    unsaid: Vec<u8>,
}

impl Talk {
    /// To be written when the channel takes it.
    pub fn say(&mut self, line: &str) {
        self.unsaid.extend_from_slice(line.as_bytes());
    }

    /// Something is to be written.
    pub fn has_words(&self) -> bool {
        !self.unsaid.is_empty()
    }

    /// Writes what the channel takes; it must be ready.
    pub fn write(&mut self) -> Result<()> {
        if self.unsaid.len() > UNREAD_BYTES_MAX {
            return Err(Fail("nobody reads what is said".into()));
        }
        let some = self.unsaid.len().min(WRITE_BYTES_MAX);
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(&self.unsaid[..some])
            .and_then(|()| stdout.flush())
            .doing(|| "answer".into())?;
        self.unsaid.drain(..some);
        Ok(())
    }

    /// Orders with their tags; `None` when the channel has ended. It must be ready.
    pub fn read(&mut self) -> Result<Option<Vec<(u64, Order)>>> {
        let mut buffer = [0; ORDER_BYTES_MAX];
        match rustix::io::read(io::stdin(), &mut buffer[..]) {
            Ok(0) => return Ok(None),
            Ok(some) => self.heard.extend_from_slice(&buffer[..some]),
            Err(Errno::INTR) => return Ok(Some(Vec::new())),
            Err(error) => return Err(error).doing(|| "read orders".into()),
        }
        let mut orders = Vec::new();
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = self.heard.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            orders.push(parse(&words).ok_or_else(|| Fail("no such order".into()))?);
        }
        if self.heard.len() > ORDER_BYTES_MAX {
            return Err(Fail("an order is too long".into()));
        }
        Ok(Some(orders))
    }
}

/// `TAG VERB WORD...`
fn parse(words: &[&str]) -> Option<(u64, Order)> {
    let (tag, words) = words.split_first()?;
    let order = match *words {
        ["renew"] => Order::Renew,
        ["join", token, peer] => Order::Join(Join {
            token: token_of(token)?,
            peer: peer.parse().ok()?,
        }),
        ["arm", point, bytes, hold] => Order::Arm {
            point: point.parse().ok()?,
            bytes: bytes.parse().ok()?,
            hold: match hold {
                "hold" => Hold::UntilReleased,
                "flow" => Hold::No,
                _ => return None,
            },
        },
        ["noticed", point] => Order::Noticed(point.parse().ok()?),
        ["stand", point] => Order::Stand(point.parse().ok()?),
        ["release", point] => Order::Release(point.parse().ok()?),
        ["cut"] => Order::Cut,
        ["heal"] => Order::Heal,
        ["count"] => Order::Count,
        ["end"] => Order::End,
        _ => return None,
    };
    Some((tag.parse().ok()?, order))
}

fn token_of(digits: &str) -> Option<blake3::Hash> {
    let bytes: [u8; TOKEN_BYTES] = unhex(digits.as_bytes())?.try_into().ok()?;
    Some(blake3::Hash::from_bytes(bytes))
}
