//! A program of the embedded server on a terminal: for people who look around.
//!
//! Nothing here runs between fork and exec: `setsid` makes the session, and its
//! first program opens the terminal, which thereby becomes the session's own.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Weak};

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::process::{Child, Command};

use super::exec::{Program, end, farewell, tell_exit};
use super::{Shared, starting, stopped};

/// One read from a terminal, which holds 4 KiB.
const PIECE_BYTES: usize = 4 << 10;

/// Rows and columns that anybody can have.
const SIDE_MAX: u32 = 10_000;

/// A terminal.
pub(super) struct Terminal {
    /// Whoever runs on it takes it over, and hangs up at the end.
    kept: Option<Arc<OwnedFd>>,
    master: Weak<OwnedFd>,
    path: PathBuf,
    /// What the client's terminal is: `xterm`.
    kind: String,
}

impl Terminal {
    /// A new one, if this machine has them and `setsid`.
    pub(super) fn open(kind: &str) -> std::io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("setsid").is_file()) {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        let master = Arc::new(master);
        Ok(Self {
            master: Arc::downgrade(&master),
            kept: Some(master),
            path: OsString::from_vec(name.into_bytes()).into(),
            kind: match !kind.is_empty() && kind.chars().all(plain) {
                true => kind.into(),
                false => "dumb".into(),
            },
        })
    }

    /// Tells it how large the client's window is.
    pub(super) fn resize(&self, columns: u32, rows: u32) {
        let size = Winsize {
            ws_row: rows.min(SIDE_MAX) as u16,
            ws_col: columns.min(SIDE_MAX) as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        if let Some(master) = self.master.upgrade() {
            // A terminal of another size is better than none.
            let _ = tcsetwinsize(&*master, size);
        }
    }

    /// The terminal for a program; this one can only be resized from now on.
    pub(super) fn take(&mut self) -> Option<(Arc<OwnedFd>, Place)> {
        let place = Place {
            path: self.path.clone(),
            kind: self.kind.clone(),
        };
        Some((self.kept.take()?, place))
    }
}

/// Where a terminal is and what it can show.
pub(super) struct Place {
    path: PathBuf,
    kind: String,
}

/// Runs a program to its end, or to the end of its channel.
pub(super) async fn run(
    shared: &Shared,
    session: Handle,
    channel: Channel<Msg>,
    program: Program,
    (master, place): (Arc<OwnedFd>, Place),
) {
    let id = channel.id();
    let (read, write) = channel.split();
    let started = start(shared, program, &place);
    let halves = halves(&master);
    drop(master);
    let (mut child, (mut shown, mut typed)) = match (started, halves) {
        (Ok(child), Ok(halves)) => (child, halves),
        (Err(error), _) | (_, Err(error)) => {
            let text = format!("cannot start a shell on a terminal: {error}\r\n");
            let _ = write.data_bytes(text.into_bytes()).await;
            return farewell(&write, Some(127)).await;
        }
    };
    let mut stopping = shared.stopping.clone();
    let ended = tokio::select! {
        // What was said last is read before the exit is reported.
        ended = async {
            say(&mut shown, &write).await;
            child.wait().await
        } => Some(ended),
        () = listen(&mut typed, read) => None,
        () = stopped(&mut stopping) => None,
    };
    // Hangs up: whatever still runs on it is told so.
    drop((shown, typed));
    match ended {
        Some(Ok(status)) => tell_exit(&session, id, &write, status).await,
        Some(Err(_)) => farewell(&write, None).await,
        None => {
            end(child, shared.stopping.clone()).await;
            farewell(&write, None).await;
        }
    }
}

fn start(shared: &Shared, program: Program, place: &Place) -> std::io::Result<Child> {
    /// The first program of the session makes the terminal its own by opening it.
    const OPEN: &str = "exec <>\"$0\" >&0 2>&0; exec \"$@\"";
    let slave = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits() as i32)
        .open(&place.path)?;
    let mut command = Command::new("setsid");
    command.args(["/bin/sh", "-c", OPEN]).arg(&place.path);
    match program {
        Program::Line(line) => command
            .args(["/bin/sh", "-c"])
            .arg(OsString::from_vec(line)),
        Program::Shell => command.args(["/bin/sh", "-i"]),
    };
    command
        .current_dir(&shared.spec.home)
        .env_clear()
        .envs(shared.environment())
        .env("TERM", &place.kind)
        .stdin(Stdio::from(slave.try_clone()?))
        .stdout(Stdio::from(slave.try_clone()?))
        .stderr(Stdio::from(slave));
    starting::start(|| command.spawn())
}

/// Both directions of a terminal. They are no pipes, but read and written like some.
fn halves(master: &OwnedFd) -> std::io::Result<(Receiver, Sender)> {
    Ok((
        Receiver::from_owned_fd_unchecked(master.try_clone()?)?,
        Sender::from_owned_fd_unchecked(master.try_clone()?)?,
    ))
}

/// Carries what is shown to the channel, until nothing has the terminal open.
async fn say(shown: &mut Receiver, write: &ChannelWriteHalf<Msg>) {
    let mut piece = vec![0; PIECE_BYTES];
    // Its end is an error: nobody has it open any more.
    while let Ok(length @ 1..) = shown.read(&mut piece).await {
        if write.data_bytes(piece[..length].to_vec()).await.is_err() {
            return;
        }
    }
}

/// Carries what is typed to the terminal, until the channel is gone.
async fn listen(typed: &mut Sender, mut read: ChannelReadHalf) {
    /// Control-D: the end of what is typed.
    const END: &[u8] = &[4];
    while let Some(message) = read.wait().await {
        let bytes = match &message {
            ChannelMsg::Data { data } => &data[..],
            ChannelMsg::Eof => END,
            ChannelMsg::Close => return,
            _ => continue,
        };
        // An error: nobody has it open any more, so that the program ends soon.
        let _ = typed.write_all(bytes).await;
    }
}
