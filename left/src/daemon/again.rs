//! Beginning again: a failed index is opened by a new process, which finds on
//! the disk all there is to know. That is the same way as after a kill.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::index::Index;
use crate::share::Share;

/// Between two looks whether there is room again.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// What the index may need to go on.
const ROOM_BYTES: usize = 1024 * 1024;

/// What a worker that failed says on the alarm; a signal says something else.
pub(super) const FAILED: u8 = 1;

/// What is said on the alarm when the status changed.
pub(super) const CHANGED: u8 = 2;

/// Replaces this process by a new one with the same command line. Returns only
/// if that cannot be done.
pub fn begin_again() -> std::io::Error {
    Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .exec()
}

/// The database panics on some damage. Then it is marked, and a new process
/// sets it aside; any other panic is a fault of this program and ends it.
pub(super) fn expect_panics(index: PathBuf) {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let in_database = panic
            .location()
            .is_some_and(|location| location.file().contains("redb"));
        if in_database && Index::mark_damaged(&index).is_ok() {
            begin_again();
        }
        std::process::abort();
    }));
}

/// Waits until something can be written beside the index again; `false` when a
/// signal came first.
pub(super) fn wait_for_room(share: &Share, alarm: &mut UnixStream) -> bool {
    if alarm.set_read_timeout(Some(ROOM_EVERY)).is_err() {
        return false;
    }
    loop {
        let mut byte = [FAILED];
        match alarm.read(&mut byte) {
            // The index cannot be asked; there is no status to write.
            Ok(_) if byte == [CHANGED] => continue,
            Ok(_) if byte != [FAILED] => return false,
            _ => {}
        }
        if has_room(share) {
            return true;
        }
    }
}

fn has_room(share: &Share) -> bool {
    const TRIAL: &str = "room";
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tried = openat(share.state(), TRIAL, flags, Mode::from(0o600)).is_ok_and(|file| {
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &vec![1; ROOM_BYTES]).is_ok()
            && file.sync_all().is_ok()
    });
    let _ = unlinkat(share.state(), TRIAL, AtFlags::empty());
    tried
}
