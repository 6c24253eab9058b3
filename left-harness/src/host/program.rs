//! One program on one channel of a connection.
//!
//! russh's loop waits for a channel whose messages nobody takes, and every other
//! channel with it. So a task takes them all the time and keeps what the caller
//! does not want yet, up to a bound.

use std::collections::VecDeque;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::remote::{Command, Exit, RemoteError, Running, Said};
use super::shell;
use super::spares::Lease;
use super::ssh::{Link, Purpose};

/// What a program may have said that its caller has not taken. Beyond it the
/// connection waits for the caller.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// How long a caller may hold up the whole connection before it loses the program.
const STALL_MAX: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// Small pieces are put together up to this size.
const PIECE_BYTES: usize = 32 << 10;

/// Starts `command` once a session is free. Dropping the future undoes it.
pub(super) async fn start(
    lease: Lease,
    command: &Command,
    doing: &str,
) -> Result<Running, RemoteError> {
    let link = lease.link.clone();
    let line = shell::line(command).map_err(|why| RemoteError::Failed {
        host: link.name.clone(),
        doing: doing.into(),
        why,
    })?;
    let (started, starting) = oneshot::channel();
    // A task of its own, because a channel does not close by being dropped:
    // whatever the caller does meanwhile, the task sees the channel to its end.
    tokio::spawn(live(lease, line, doing.to_string(), started));
    match starting.await {
        Ok(running) => running,
        Err(_) => Err(link.lost(doing).await),
    }
}

async fn live(
    lease: Lease,
    line: String,
    doing: String,
    mut started: oneshot::Sender<Result<Running, RemoteError>>,
) {
    let link = lease.link.clone();
    let session = tokio::select! {
        session = link.sessions.clone().acquire_owned() => session,
        _ = started.closed() => return,
    };
    let Ok(session) = session else { return };
    let (read, write) = match open(&link, &line, &doing).await {
        Ok(channel) => channel.split(),
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let (stdin, input) = mpsc::channel(16);
    let (output, said) = mpsc::channel(16);
    if started.send(Ok(Running { stdin, said })).is_err() {
        let _ = write.close().await;
        return;
    }
    let feeding = feed(&write, input);
    let taking = take(&link, read, output, &doing, session);
    tokio::pin!(feeding, taking);
    let end = tokio::select! {
        end = &mut taking => end,
        // The input is all there; only the output says when it is over. The other
        // way round a channel that has ended would wait for its window for ever.
        _ = &mut feeding => taking.await,
    };
    match end {
        End::Closed => lease.ended(),
        End::GivenUp => {
            let _ = write.close().await;
        }
    }
}

async fn open(link: &Link, line: &str, doing: &str) -> Result<Channel<Msg>, RemoteError> {
    let opened = link.open(Purpose::Program(line), doing).await?;
    opened.ok_or_else(|| RemoteError::Failed {
        host: link.name.clone(),
        doing: doing.into(),
        why: "the host does not start programs".into(),
    })
}

/// Sends the input as the program takes it, then its end.
async fn feed(write: &ChannelWriteHalf<Msg>, mut input: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = input.recv().await {
        if write.data_bytes(bytes).await.is_err() {
            return;
        }
    }
    let _ = write.eof().await;
}

/// Why a channel needs no more care.
enum End {
    /// The host closed it, or the connection is gone.
    Closed,
    /// Nobody wants it any more; the host does not know yet.
    GivenUp,
}

async fn take(
    link: &Link,
    mut read: ChannelReadHalf,
    output: mpsc::Sender<Said>,
    doing: &str,
    session: OwnedSemaphorePermit,
) -> End {
    let mut waiting = Waiting::default();
    let mut exit = None;
    let mut stalled_at = None;
    let (end, last) = loop {
        let full = waiting.bytes >= WAITING_BYTES_MAX;
        let stall_end = match full {
            true => *stalled_at.get_or_insert_with(Instant::now) + STALL_MAX,
            false => Instant::now(),
        };
        tokio::select! {
            message = read.wait(), if !full => match message {
                Some(ChannelMsg::Data { data }) => waiting.push(Said::Stdout(data.into())),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    waiting.push(Said::Stderr(data.into()));
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = Some(Exit::Code(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    exit = Some(Exit::Signal(name(&signal_name)));
                }
                // Neither Eof nor the exit status is the end: output may follow.
                Some(_) => {}
                None => break match exit {
                    Some(exit) => (End::Closed, Said::Exit(exit)),
                    None => (End::Closed, Said::Lost(link.lost(doing).await)),
                },
            },
            room = output.reserve(), if !waiting.pieces.is_empty() => match room {
                Ok(room) => {
                    if let Some(said) = waiting.pop() {
                        room.send(said);
                    }
                    stalled_at = None;
                }
                Err(_) => return End::GivenUp,
            },
            _ = output.closed() => return End::GivenUp,
            _ = tokio::time::sleep_until(stall_end), if full => {
                let lost = Said::Lost(RemoteError::Failed {
                    host: link.name.clone(),
                    doing: doing.into(),
                    why: format!("nobody took the last {} MiB that it said", waiting.bytes >> 20),
                });
                waiting = Waiting::default();
                break (End::GivenUp, lost);
            }
        }
    };
    // The host has closed its side, or will; another session may be opened.
    drop(session);
    waiting.pieces.push_back(last);
    // The caller may be slow, and russh need not wait for it.
    tokio::spawn(hand_over(waiting, output));
    end
}

async fn hand_over(mut waiting: Waiting, output: mpsc::Sender<Said>) {
    while let Some(said) = waiting.pop() {
        if output.send(said).await.is_err() {
            return;
        }
    }
}

/// What was said and not yet taken.
#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Said>,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, said: Said) {
        let (Said::Stdout(new) | Said::Stderr(new)) = &said else {
            return;
        };
        self.bytes += new.len();
        match (self.pieces.back_mut(), &said) {
            (Some(Said::Stdout(last)), Said::Stdout(new))
            | (Some(Said::Stderr(last)), Said::Stderr(new))
                if last.len() + new.len() <= PIECE_BYTES =>
            {
                last.extend_from_slice(new);
            }
            _ => self.pieces.push_back(said),
        }
    }

    fn pop(&mut self) -> Option<Said> {
        let said = self.pieces.pop_front()?;
        if let Said::Stdout(bytes) | Said::Stderr(bytes) = &said {
            self.bytes -= bytes.len();
        }
        Some(said)
    }
}

/// `KILL`
fn name(signal: &Sig) -> String {
    match signal {
        Sig::Custom(name) => name.clone(),
        known => format!("{known:?}"),
    }
}
