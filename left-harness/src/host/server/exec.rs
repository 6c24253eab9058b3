//! A program of the embedded server: a real process behind a channel.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Shared, starting, stopped};

/// How long a program may go on after its channel is gone.
const GRACE: Duration = Duration::from_secs(2);

/// Input that a program has not taken. Beyond it the rest waits in the connection.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// How long a program with so much input may take none of it before it is killed.
const STALL_MAX: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// One read from a pipe, which holds 64 KiB.
const PIECE_BYTES: usize = 64 << 10;

/// What is to run.
pub(super) enum Program {
    /// `sh -c LINE`
    Line(Vec<u8>),
    /// `sh` that reads its standard input.
    Shell,
}

/// Runs a program to its end, or to the end of its channel.
pub(super) async fn run(shared: &Shared, session: Handle, channel: Channel<Msg>, program: Program) {
    let id = channel.id();
    let (read, write) = channel.split();
    let mut child = match start(shared, program) {
        Ok(child) => child,
        Err(error) => {
            let text = format!("cannot start /bin/sh: {error}\n");
            let _ = write.extended_data_bytes(1, text.into_bytes()).await;
            return farewell(&write, Some(127)).await;
        }
    };
    let stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());

    let ended = {
        // Both pipes are read to their end before the exit is reported: what was
        // said last would be lost otherwise.
        let life = async {
            tokio::join!(
                say(&write, stdout.as_mut(), None),
                say(&write, stderr.as_mut(), Some(1))
            );
            child.wait().await
        };
        let mut stopping = shared.stopping.clone();
        tokio::select! {
            ended = life => Some(ended),
            () = listen(read, stdin) => None,
            () = stopped(&mut stopping) => None,
        }
    };
    match ended {
        Some(Ok(status)) => tell_exit(&session, id, &write, status).await,
        Some(Err(_)) => farewell(&write, None).await,
        None => {
            let muted = async { tokio::join!(mute(stdout), mute(stderr)) };
            tokio::select! {
                () = end(child, shared.stopping.clone()) => {}
                never = async { muted.await; std::future::pending::<Infallible>().await } => {
                    match never {}
                }
            }
            farewell(&write, None).await;
        }
    }
}

/// Reports how a program ended, and ends its channel.
pub(super) async fn tell_exit(
    session: &Handle,
    id: ChannelId,
    write: &ChannelWriteHalf<Msg>,
    status: ExitStatus,
) {
    let Some(signal) = status.signal() else {
        return farewell(write, Some(status.code().unwrap_or(255) as u32)).await;
    };
    let (signal, core) = (name(signal), status.core_dumped());
    let (text, language) = (String::new(), "en".into());
    let _ = session
        .exit_signal_request(id, signal, core, text, language)
        .await;
    farewell(write, None).await;
}

fn start(shared: &Shared, program: Program) -> std::io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    match program {
        Program::Line(line) => command.arg("-c").arg(std::ffi::OsString::from_vec(line)),
        Program::Shell => command.arg("-s"),
    };
    command
        .current_dir(&shared.spec.home)
        .env_clear()
        .envs(shared.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that all of it can be ended and nothing else.
        .process_group(0);
    starting::start(|| command.spawn())
}

/// Carries one pipe to the channel, as fast as the channel's window allows.
async fn say(
    write: &ChannelWriteHalf<Msg>,
    pipe: Option<&mut (impl AsyncRead + Unpin)>,
    ext: Option<u32>,
) {
    let Some(pipe) = pipe else { return };
    let mut piece = BytesMut::new();
    loop {
        piece.reserve(PIECE_BYTES);
        match pipe.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let bytes = piece.split().freeze();
        let sent = match ext {
            None => write.data_bytes(bytes).await,
            Some(ext) => write.extended_data_bytes(ext, bytes).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Reads a pipe to nowhere.
async fn mute(pipe: Option<impl AsyncRead + Unpin>) {
    if let Some(mut pipe) = pipe {
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
}

/// Carries the channel to the program's input; returns when the channel is gone,
/// or when the program has held it up for too long.
///
/// Messages are taken while the program does not read, because the one that says
/// that the client is gone comes behind the input that nobody wants.
async fn listen(mut read: ChannelReadHalf, mut stdin: Option<ChildStdin>) {
    let mut waiting: VecDeque<Bytes> = VecDeque::new();
    let mut waiting_bytes = 0;
    let mut input_ended = false;
    let mut stalled_at = None;
    loop {
        if waiting.is_empty() && input_ended {
            stdin = None;
        }
        let full = waiting_bytes >= WAITING_BYTES_MAX;
        let stall_end = match full {
            true => *stalled_at.get_or_insert_with(Instant::now) + STALL_MAX,
            false => Instant::now(),
        };
        tokio::select! {
            message = read.wait(), if !full => match message {
                Some(ChannelMsg::Data { data }) if stdin.is_some() => {
                    waiting_bytes += data.len();
                    waiting.push_back(data);
                }
                Some(ChannelMsg::Eof) => input_ended = true,
                Some(ChannelMsg::Close) | None => return,
                Some(_) => {}
            },
            written = give(&mut stdin, waiting.front()), if !waiting.is_empty() => {
                stalled_at = None;
                match (written, waiting.front_mut()) {
                    (Ok(written), Some(first)) => {
                        waiting_bytes -= written;
                        let _ = first.split_to(written);
                        if first.is_empty() {
                            waiting.pop_front();
                        }
                    }
                    // It has closed its input; the rest of it goes nowhere.
                    _ => {
                        stdin = None;
                        waiting.clear();
                        waiting_bytes = 0;
                    }
                }
            }
            _ = tokio::time::sleep_until(stall_end), if full => return,
        }
    }
}

async fn give(stdin: &mut Option<ChildStdin>, bytes: Option<&Bytes>) -> std::io::Result<usize> {
    match (stdin, bytes) {
        (Some(stdin), Some(bytes)) => stdin.write(bytes).await,
        _ => Err(std::io::ErrorKind::BrokenPipe.into()),
    }
}

/// The end of a channel, in the order that every client understands.
pub(super) async fn farewell(write: &ChannelWriteHalf<Msg>, code: Option<u32>) {
    if let Some(code) = code {
        let _ = write.exit_status(code).await;
    }
    let _ = write.eof().await;
    let _ = write.close().await;
}

/// Ends a program whose channel is gone, with its whole process group, but not
/// what has made a session of its own. Its input is closed already.
pub(super) async fn end(mut child: Child, mut stopping: watch::Receiver<bool>) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) else {
        return;
    };
    tokio::select! {
        () = ended(pid) => {}
        () = tokio::time::sleep(GRACE) => {}
        () = stopped(&mut stopping) => {}
    }
    // The child has not been waited for, so its number still means its group.
    // There may be nobody left to kill, which is as good.
    let _ = kill_process_group(pid, Signal::KILL);
    let _ = child.wait().await;
}

/// Returns when the child has ended, and leaves it to be waited for.
async fn ended(pid: Pid) {
    const LOOK_INTERVAL: Duration = Duration::from_millis(10);
    let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while let Ok(None) = waitid(WaitId::Pid(pid), only_look) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// The signal's name as SSH wants it, without `SIG`.
fn name(signal: i32) -> Sig {
    let names = [
        (Signal::ABORT, "ABRT"),
        (Signal::ALARM, "ALRM"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::HUP, "HUP"),
        (Signal::ILL, "ILL"),
        (Signal::INT, "INT"),
        (Signal::KILL, "KILL"),
        (Signal::PIPE, "PIPE"),
        (Signal::QUIT, "QUIT"),
        (Signal::SEGV, "SEGV"),
        (Signal::SYS, "SYS"),
        (Signal::TERM, "TERM"),
        (Signal::TRAP, "TRAP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
    ];
    let known = names.iter().find(|(known, _)| known.as_raw() == signal);
    Sig::Custom(known.map_or_else(|| signal.to_string(), |(_, name)| (*name).into()))
}
