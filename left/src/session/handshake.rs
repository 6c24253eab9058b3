//! The first words on every connection.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::SessionContext;
use crate::pairing::ShareId;
use crate::wire::message::{
    HELLO_BYTES_MAX, Have, Hello, Message, PREFACE, Role, read_message, write_message,
};

/// A handshake that takes longer is dropped.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

pub(super) fn hello(context: &SessionContext, role: Role, token: u64) -> io::Result<Hello> {
    let heard = context.index.heard().map_err(io::Error::other)?;
    let share = context.index.share_id().map_err(io::Error::other)?;
    Ok(Hello {
        role,
        replica: context.index.replica().0,
        instance: context.instance,
        epoch: context.index.epoch(),
        run: context.index.run(),
        token,
        share: ShareId::number(share),
        have: Have {
            replica: heard.replica,
            epoch: heard.epoch,
            run: heard.run,
            upto: heard.upto,
            joined: heard.joined,
        },
    })
}

pub(super) fn say_hello(mut stream: &TcpStream, hello: Hello) -> io::Result<()> {
    stream.set_write_timeout(Some(HANDSHAKE))?;
    let mut bytes = PREFACE.to_vec();
    write_message(&mut bytes, &Message::Hello(hello))?;
    io::Write::write_all(&mut stream, &bytes)?;
    stream.set_write_timeout(None)
}

pub(super) fn hear_hello(stream: &TcpStream) -> io::Result<Hello> {
    let mut input = BeforeDeadline {
        stream,
        deadline: Instant::now() + HANDSHAKE,
    };
    let mut preface = [0; PREFACE.len()];
    input.read_exact(&mut preface)?;
    let (magic, version) = (&preface[..7], preface[7]);
    if magic != &PREFACE[..7] {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it does not speak left's protocol",
        ));
    }
    if version != PREFACE[7] {
        let text = format!(
            "it speaks protocol version {version}, this side {}; install the same version on both",
            PREFACE[7]
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    match read_message(&mut input, HELLO_BYTES_MAX)? {
        Message::Hello(hello) => Ok(hello),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it did not say hello",
        )),
    }
}

/// Reading that ends at a deadline, however slowly bytes drip in.
struct BeforeDeadline<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for BeforeDeadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}
