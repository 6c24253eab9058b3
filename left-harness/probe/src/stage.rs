//! `exec-stage`: the held process before it becomes the program.
//!
//! Everything that must be set in the child itself is set here, in safe code,
//! after an exec of ourselves instead of between fork and exec.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, Signal};

use crate::fail::{Doing, Fail, Result, reason};

/// Becomes the program. Returns only when that fails, after the holder has been told.
///
/// Our standard input is the holder's ear: it closes when the program runs, and
/// carries the reason when it does not.
pub fn stage(holder: i32, folder: &Path, open_files: Option<u64>, argv: &[OsString]) -> Result<()> {
    let ear = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)
        .doing(|| "keep the holder's ear".into())?;
    let failed = become_program(holder, folder, open_files, argv);
    // When the holder is gone, nobody wants to know.
    let _ = std::fs::File::from(ear).write_all(failed.0.as_bytes());
    Err(failed)
}

fn become_program(holder: i32, folder: &Path, open_files: Option<u64>, argv: &[OsString]) -> Fail {
    match prepare(holder, folder, open_files) {
        Err(fail) => fail,
        Ok(()) => match argv.split_first() {
            None => Fail("no program is given".into()),
            Some((program, arguments)) => {
                let error = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::null())
                    .exec();
                Fail(format!(
                    "cannot execute {}: {}",
                    program.display(),
                    reason(&error)
                ))
            }
        },
    }
}

fn prepare(holder: i32, folder: &Path, open_files: Option<u64>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "tie us to the holder".into())?;
    // The holder may have died before that; then the signal never comes.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(holder) {
        return Err(Fail("the holder is gone".into()));
    }
    if let Some(files) = open_files {
        let limit = Rlimit {
            current: Some(files),
            maximum: Some(files),
        };
        rustix::process::setrlimit(Resource::Nofile, limit)
            .doing(|| format!("limit open files to {files}"))?;
    }
    std::env::set_current_dir(folder).doing(|| format!("enter {}", folder.display()))
}
