//! The thread that reads events and marks what they are about.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, ReadFlags};
use rustix::io::Errno;

use super::agenda::Happened;
use super::trouble::Trouble;
use super::{Shared, Wd};
use crate::path::{RelPath, STATE_DIR};

/// Room for some hundred events.
const BUFFER_BYTES: usize = 16 * 1024;

/// Events that came together; more than this is a storm.
const STORM_EVENTS: usize = 64;

/// In a storm, events are left to gather in the kernel, which drops what
/// repeats itself. Its queue holds seconds of this.
const STORM_NAP: Duration = Duration::from_millis(5);

/// Reads until the other end of `told` is closed or events were lost.
pub(super) fn read_events(shared: &Arc<Shared>, instance: &OwnedFd, told: &UnixStream) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    loop {
        let mut ready = [
            PollFd::new(instance, PollFlags::IN),
            PollFd::new(told, PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return shared.fail(Trouble::System(errno)),
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        match read_some(shared, instance, &mut buffer) {
            Ok(events) => {
                shared.wake();
                if events > STORM_EVENTS {
                    std::thread::sleep(STORM_NAP);
                }
            }
            Err(trouble) => return shared.fail(trouble),
        }
    }
}

/// Takes one buffer full of events.
fn read_some(
    shared: &Shared,
    instance: &OwnedFd,
    buffer: &mut [MaybeUninit<u8>],
) -> Result<usize, Trouble> {
    let mut reader = inotify::Reader::new(instance.as_fd(), buffer);
    // The lock is taken before the first event is read: a watch is noted under
    // the same lock as it is made, so no event comes before its folder is known.
    let mut state = shared.lock();
    let now = Instant::now();
    let mut events = 0;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(events),
            Err(errno) => return Err(Trouble::System(errno)),
        };
        events += 1;
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(Trouble::Overflow);
        }
        let name = event.file_name().map(|name| name.to_bytes());
        let forgotten = state.take((event.wd(), event.events(), event.cookie()), name, now);
        for wd in forgotten {
            // It may be gone already.
            let _ = inotify::remove_watch(instance, wd);
        }
        if reader.is_buffer_empty() {
            return Ok(events);
        }
    }
}

impl super::State {
    /// Marks what an event is about. What is returned is no longer watched.
    fn take(
        &mut self,
        (wd, what, cookie): (Wd, ReadFlags, u32),
        name: Option<&[u8]>,
        now: Instant,
    ) -> Vec<Wd> {
        // Of a watch that was given up: what it was of has a mark already.
        let Some(folder) = self.table.path(wd) else {
            return Vec::new();
        };
        let Some(name) = name else {
            return self.take_of_itself(wd, what, folder, now);
        };
        if folder.is_none() && name == STATE_DIR.as_bytes() {
            // Whoever is woken looks whether the share is whole.
            return Vec::new();
        }
        let Ok(path) = RelPath::below(folder.as_ref(), name) else {
            // The look says what is wrong with the name.
            self.agenda.note_folder(folder, now);
            return Vec::new();
        };
        let is_folder = what.contains(ReadFlags::ISDIR);
        let gone = ReadFlags::DELETE | ReadFlags::MOVED_FROM;
        let mut forgotten = Vec::new();
        // What is watched under this name is another folder, or will be walked
        // again. One that was made and is watched is the same: a removal would
        // have been told in between.
        if is_folder && what.intersects(gone | ReadFlags::MOVED_TO) {
            let known = self.table.find(Some(&path));
            forgotten = known.map(|wd| self.table.forget(wd)).unwrap_or_default();
        }
        let complete = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::ATTRIB;
        let happened = if what.intersects(gone) {
            Happened::Gone
        } else if is_folder || what.intersects(complete) {
            Happened::Complete
        } else {
            Happened::Writing
        };
        // What was moved within the share is looked at together with where it
        // went; the other end of a move has the same number and follows at once.
        let left_behind = self.moving.take();
        if what.contains(ReadFlags::MOVED_FROM) {
            self.moving = Some((cookie, path.clone()));
        } else if let Some((moved, from)) = left_behind
            && what.contains(ReadFlags::MOVED_TO)
            && moved == cookie
        {
            self.agenda.note(from, Happened::Complete, now);
        }
        self.agenda.note(path, happened, now);
        forgotten
    }

    /// An event of the watched folder itself.
    fn take_of_itself(
        &mut self,
        wd: Wd,
        what: ReadFlags,
        folder: Option<RelPath>,
        now: Instant,
    ) -> Vec<Wd> {
        if !what.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
            // Its metadata, which the folder above tells of as well; the
            // share's own are nobody's.
            return Vec::new();
        }
        match folder {
            Some(path) => self.agenda.note(path, Happened::Gone, now),
            None => self.agenda.note_folder(None, now),
        }
        self.table.forget(wd)
    }
}
