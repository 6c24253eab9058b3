//! Beginning again: a failed index is opened by a new process, which finds on
//! the disk all there is to know. That is the same way as after a kill.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use crate::index::Index;
use crate::share::Share;

/// Until it is looked whether there is room again. It becomes longer each time that
/// a new process fails soon: what is in its way is not always room.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// Twice as long for so many times.
const ROOM_EVERY_DOUBLINGS: u32 = 5;

/// A process that lived this long did not fail soon.
const SOON: Duration = Duration::from_secs(60);

/// How many processes before this one failed soon, in the environment.
const FAILED_SOON: &str = "LEFT_FAILED_SOON";

static BEGAN: OnceLock<Instant> = OnceLock::new();

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
        .env(FAILED_SOON, (failed_soon() + 1).to_string())
        .exec()
}

/// How many processes in a row, this one not counted, failed soon.
fn failed_soon() -> u32 {
    let lived = BEGAN.get_or_init(Instant::now).elapsed();
    let before = std::env::var(FAILED_SOON).ok();
    match before.filter(|_| lived < SOON) {
        Some(text) => text.parse::<u32>().unwrap_or(0).min(ROOM_EVERY_DOUBLINGS),
        None => 0,
    }
}

/// The database panics on some damage. Then it is marked, and a new process
/// sets it aside; any other panic is a fault of this program and ends it.
pub(super) fn expect_panics(index: PathBuf) {
    BEGAN.get_or_init(Instant::now);
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
    let every = ROOM_EVERY * 2u32.pow(failed_soon());
    if alarm.set_read_timeout(Some(every)).is_err() {
        return false;
    }
    loop {
        let mut byte = [FAILED];
        match alarm.read(&mut byte) {
            // The index cannot be asked; there is no status to write. Nor does it
            // matter that other workers failed as well.
            Ok(1) if [CHANGED, FAILED].contains(&byte[0]) => continue,
            Ok(_) => return false,
            Err(_) => {}
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
