//! `hold`: one process under a parent of our own that outlives the channel.
//!
//! Three processes: the foreground one passes lines (see `bridge`), the holder
//! is the daemon, and the held one begins as a stage of ourselves that prepares
//! itself and then becomes the program. No fork in our own code: the stages are
//! ourselves, executed again with another verb.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bridge::{self, Ended};
use crate::fail::{Doing, Fail, Result};

/// Ourselves, also when the file was replaced meanwhile.
pub const SELF: &str = "/proc/self/exe";
/// What a daemon itself complains about.
const OWN_LOG: &str = "holder.log";

/// Makes the folder, starts the daemon in it and talks for it.
pub fn start(
    daemon_verb: &str,
    folder: &Path,
    options: &[OsString],
    argv: &[OsString],
) -> Result<()> {
    let (ours, theirs) = UnixStream::pair().doing(|| "make a channel".into())?;
    let mut log = OpenOptions::new();
    log.create(true).append(true).mode(0o600);
    let log_path = folder.join(OWN_LOG);
    let log = log
        .open(&log_path)
        .doing(|| format!("open {}", log_path.display()))?;
    let mut command = Command::new(SELF);
    command
        .arg(daemon_verb)
        .arg("--dir")
        .arg(folder)
        .args(options)
        .arg("--")
        .args(argv);
    command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    command.spawn().doing(|| "start the daemon".into())?;
    // It holds the daemon's end of the channel, whose closing is the daemon's end.
    drop(command);
    match bridge::bridge(ours)? {
        Ended::Silent => Err(Fail(format!(
            "the daemon in {} ended without a word: {}",
            folder.display(),
            complaint(&log_path)
        ))),
        Ended::Left | Ended::Told => Ok(()),
    }
}

/// Makes a daemon's folder, for us alone, and gives its full path.
pub fn make_folder(folder: &Path) -> Result<PathBuf> {
    let mut builder = DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .doing(|| format!("make folder {}", folder.display()))?;
    fs::canonicalize(folder).doing(|| format!("find folder {}", folder.display()))
}

fn complaint(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .next_back()
        .unwrap_or("it was killed")
        .to_string()
}
