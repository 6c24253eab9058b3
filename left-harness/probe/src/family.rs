//! Ends everything below us, however deep, until nothing is left.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, wait};

use crate::process;

/// Even a fork bomb dies within this; a process in an uninterruptible wait does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look for children born meanwhile, when nothing else wakes us.
const ROUND: Duration = Duration::from_millis(10);

/// How the family went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Alive when we began.
    pub found: u64,
    /// Alive still: not ours to kill, or stuck in the kernel.
    pub stuck: u64,
}

/// Kills and reaps all descendants of this process, which must be their subreaper.
pub fn end() -> Ended {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let deadline = Instant::now() + PATIENCE;
    // The kernel says for certain when nobody is left: orphans become our children.
    if reap() == Left::Nobody {
        return Ended { found: 0, stuck: 0 };
    }
    let mut living = process::descendants(own);
    let found = living.len() as u64;
    loop {
        let fds: Vec<_> = living
            .iter()
            .map(|(pid, start)| process::descriptor(*pid, *start))
            .collect();
        for ((pid, start), fd) in living.iter().zip(&fds) {
            // A process that is not ours to kill is counted as stuck below.
            let _ = process::signal(*pid, *start, fd.as_ref(), Signal::KILL);
        }
        let mut waits: Vec<_> = fds
            .iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: ROUND.subsec_nanos().into(),
        };
        // Interrupted or not, the next round looks again.
        let _ = poll(&mut waits, Some(&timeout));
        if reap() == Left::Nobody {
            return Ended { found, stuck: 0 };
        }
        living = process::descendants(own);
        if Instant::now() >= deadline {
            return Ended {
                found,
                stuck: living.len() as u64,
            };
        }
    }
}

#[derive(PartialEq, Eq)]
enum Left {
    Nobody,
    Somebody,
}

/// Takes leave of every child that has ended.
fn reap() -> Left {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Left::Somebody,
            Err(_) => return Left::Nobody,
        }
    }
}

/// Reaps orphans that ended while the main process lives on, which is left alone.
pub fn reap_orphans(main: i32) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for pid in process::ended_children(own)
        .into_iter()
        .filter(|pid| *pid != main)
    {
        // Nobody else waits for our children, so there is nothing to lose here.
        let _ = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
    }
}
