//! Programs that are starting while files are written.
//!
//! Between `fork` and `exec` a child has a copy of every descriptor of this process,
//! also of a file that is being written, and a file that anybody has open for writing
//! cannot be executed ("Text file busy"). An sshd has a process for each connection
//! and never meets this; the embedded servers of all hosts share one. So whoever has
//! closed a file that it wrote waits for the programs that were starting then.

use std::io;
use std::sync::{PoisonError, RwLock};

static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program: `spawn` returns once it is executed, or cannot be.
pub(super) fn start<T>(spawn: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _starting = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    spawn()
}

/// Waits until no program has a copy of a descriptor that is closed by now.
pub(super) fn wait_for_started() {
    drop(STARTING.write().unwrap_or_else(PoisonError::into_inner));
}
