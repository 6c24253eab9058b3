//! `left-harness lab-guard`: a process that lives as long as the harness that has a lab
//! up, and takes the lab's keys away when it is gone, however it went.
//!
//! It needs no lease: the two are on one machine, and the pipe between them ends with
//! the harness.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::is_id;

/// The other end of the pipe is in here.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts the guard of a lab.
    pub(super) fn start(id: &str) -> Result<Self> {
        // This program, also if its file has been replaced by a newer one.
        let child = Command::new("/proc/self/exe")
            .arg0("left-harness")
            .args(["lab-guard", id])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the harness.
            .process_group(0)
            .spawn()
            .context("cannot start the guard of a lab's keys")?;
        Ok(Self { child })
    }

    /// Ends it; there is nothing left that it could take away.
    pub(super) fn end(mut self) {
        drop(self.child.stdin.take());
        // It is ours and ends of it.
        let _ = self.child.wait();
    }
}

/// Is the guard of a lab until standard input ends.
pub(super) fn run(id: &str, take_away: impl FnOnce() -> Result<()>) -> Result<()> {
    if !is_id(id) {
        bail!("{id:?} is no lab");
    }
    // Nothing is ever said: this ends when the other end is closed, or was never there.
    let mut said = [0; 64];
    while std::io::stdin()
        .read(&mut said)
        .is_ok_and(|length| length > 0)
    {}
    take_away()
}
