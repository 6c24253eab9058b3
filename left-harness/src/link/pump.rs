//! One connection through the link: both its directions, its end and its resets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lane::{Lane, WRITE_BYTES_MAX, Written};

/// Read at once. Two writes' worth, so that reading is not done for every write.
const READ_BYTES: usize = 2 * WRITE_BYTES_MAX;
/// Pieces on the way at once through a delayed direction; with full ones that
/// is 32 MiB, more than a link of 1 Gbit/s and 200 ms can hold.
const DELAYED_PIECES_MAX: usize = 512;
/// The longest piece of a delayed direction.
const DELAYED_PIECE_BYTES: usize = WRITE_BYTES_MAX;

/// The lanes of a connection, as seen from who dialled.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    /// From the dialler.
    pub there: Arc<Lane>,
    /// To the dialler.
    pub back: Arc<Lane>,
}

/// Carries a connection to its end: from `near`, who dialled, to `far` and
/// back. Both sockets come with a linger of zero, so that dropping them, for
/// whatever reason and also when this task is aborted, resets both sides. Only
/// what ended in order on both sides is closed in order.
pub(super) async fn carry(near: TcpStream, far: TcpStream, lanes: &Lanes, delay: Option<Duration>) {
    // Both directions in one task: the first to see a reset ends the other
    // before that one can mistake the dead socket for one that was closed.
    let there = one_way(&near, &far, &lanes.there, delay);
    let back = one_way(&far, &near, &lanes.back, delay);
    if tokio::try_join!(there, back).is_ok() {
        for socket in [&near, &far] {
            // A socket that refuses is dead already, with nobody left to tell.
            let _ = rustix::net::sockopt::set_socket_linger(socket, None);
        }
    }
}

async fn one_way(
    from: &TcpStream,
    to: &TcpStream,
    lane: &Lane,
    delay: Option<Duration>,
) -> io::Result<()> {
    match delay {
        None => at_once(from, to, lane).await,
        Some(delay) => delayed(from, to, lane, delay).await,
    }
}

async fn at_once(from: &TcpStream, to: &TcpStream, lane: &Lane) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = match read(from, &mut buffer).await {
            Ok(read) => read,
            Err(error) => {
                // A reset does not cross a wire that stands still either.
                lane.wire().moves().await;
                return Err(error);
            }
        };
        if read == 0 {
            return end(to, lane).await;
        }
        write_all(to, &buffer[..read], lane).await?;
    }
}

/// Something on its way through a delayed direction, with the moment it is due.
enum Delayed {
    Piece(Instant, Vec<u8>),
    End(Instant),
    Reset(Instant, io::Error),
}

async fn delayed(from: &TcpStream, to: &TcpStream, lane: &Lane, delay: Duration) -> io::Result<()> {
    let (way_in, mut way_out) = mpsc::channel(DELAYED_PIECES_MAX);
    let reading = async move {
        let mut buffer = vec![0; DELAYED_PIECE_BYTES];
        loop {
            let read = read(from, &mut buffer).await;
            let due = Instant::now() + delay;
            let (item, is_last) = match read {
                Ok(0) => (Delayed::End(due), true),
                Ok(read) => (Delayed::Piece(due, buffer[..read].to_vec()), false),
                Err(error) => (Delayed::Reset(due, error), true),
            };
            // The writer only leaves with an error, which ends the connection.
            if way_in.send(item).await.is_err() || is_last {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some(item) = way_out.recv().await {
            match item {
                Delayed::Piece(due, bytes) => {
                    tokio::time::sleep_until(due).await;
                    write_all(to, &bytes, lane).await?;
                }
                Delayed::End(due) => {
                    tokio::time::sleep_until(due).await;
                    end(to, lane).await?;
                }
                Delayed::Reset(due, error) => {
                    tokio::time::sleep_until(due).await;
                    lane.wire().moves().await;
                    return Err(error);
                }
            }
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Reads what there is, at least one byte; 0 at the end.
async fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.try_read(buffer) {
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => from.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

/// Passes the end of a direction on, unless the wire stands still.
async fn end(to: &TcpStream, lane: &Lane) -> io::Result<()> {
    lane.wire().moves().await;
    rustix::net::shutdown(to, rustix::net::Shutdown::Write)?;
    Ok(())
}

async fn write_all(to: &TcpStream, mut bytes: &[u8], lane: &Lane) -> io::Result<()> {
    let mut careful = false;
    while !bytes.is_empty() {
        let next = if careful { &bytes[..1] } else { bytes };
        match lane.write(next, |bytes| to.try_write(bytes))? {
            Written::Bytes(done) => {
                bytes = &bytes[done..];
                careful = false;
                // A busy connection must not starve what else the runtime does.
                tokio::task::coop::consume_budget().await;
            }
            Written::Full => to.writable().await?,
            Written::Still => {
                lane.wire().moves().await;
                // Whoever was killed meanwhile looks like one that has only
                // closed its sending half, and the kernel takes what is written
                // to it. The answer to a single byte tells, so that a
                // bufferful is not counted as delivered to the dead.
                careful = has_closed(to);
            }
            Written::Noticing(point, until) => {
                // Too late is as good: then it flows on.
                let _ = tokio::time::timeout_at(until.into(), point.is_noticed()).await;
            }
            Written::Later(when) => tokio::time::sleep_until(when.into()).await,
        }
    }
    Ok(())
}

/// The other end of this socket has closed at least its sending half, and all
/// that it sent before has been read.
pub(super) fn has_closed(socket: &TcpStream) -> bool {
    let mut byte = [0; 1];
    matches!(
        rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT),
        Ok((_, 0))
    )
}
