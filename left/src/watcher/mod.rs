//! Notices what changes in the share by inotify, one watch a folder.
//!
//! It only marks what is to be looked at; the scanner decides what is so. A
//! folder is watched before it is listed, so whatever appears in it is in the
//! list or makes an event, and a folder that appears is walked to its end in
//! the same way. Watches are made by descriptor: no link is ever followed, and
//! `.left` is never watched.
//!
//! When that cannot be had, or events were lost, everything is forgotten and
//! the share is looked at in turn, until a watcher can be made again.

mod agenda;
mod reader;
mod table;
mod trouble;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use agenda::Agenda;
pub use agenda::Mark;
use table::{Table, Wd};
pub use trouble::Trouble;

use crate::disk::{Disk, Handle};
use crate::path::RelPath;
use crate::scanner::Watch;
use crate::share::Share;

/// What is asked of each folder.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// Watches the share, or says why not.
pub struct Watcher {
    share: Arc<Share>,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
    /// Folders to watch at most, beside what the system allows.
    watches_max: usize,
}

struct Shared {
    state: Mutex<State>,
    wake: SyncSender<()>,
    /// The engine wants a look soon.
    asked: AtomicBool,
}

#[derive(Default)]
struct State {
    table: Table,
    agenda: Agenda,
    /// What moved away a moment ago, and the number of that move.
    moving: Option<(u32, RelPath)>,
    /// Why watching does not work, since it was begun last.
    trouble: Option<Trouble>,
}

/// One inotify instance and the thread that reads it.
struct Running {
    instance: Arc<OwnedFd>,
    /// Closing it ends the thread.
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// A watcher that does not watch yet. Whoever looks is woken by `wake`.
    pub fn new(share: Arc<Share>, wake: SyncSender<()>) -> Self {
        Self {
            share,
            shared: Arc::new(Shared {
                state: Mutex::default(),
                wake,
                asked: AtomicBool::new(false),
            }),
            running: Mutex::new(None),
            watches_max: usize::MAX,
        }
    }

    /// Begins to watch what is listed from now on. A look at everything must
    /// follow.
    pub fn begin(&self) -> Result<(), Trouble> {
        self.end();
        if let Some(deaf) = Trouble::of_file_system(self.share.state()) {
            return Err(deaf);
        }
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        let instance = Arc::new(inotify::init(flags).map_err(Trouble::of)?);
        let system =
            |error: std::io::Error| Trouble::of(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let (end, told) = UnixStream::pair().map_err(system)?;
        let (shared, read) = (self.shared.clone(), instance.clone());
        let thread = std::thread::Builder::new()
            .name("watcher".into())
            .spawn(move || reader::read_events(&shared, &read, &told))
            .map_err(system)?;
        *lock(&self.running) = Some(Running {
            instance,
            end: Some(end),
            thread: Some(thread),
        });
        Ok(())
    }

    /// Stops watching and forgets what was marked: everything is looked at now.
    pub fn end(&self) {
        *lock(&self.running) = None;
        let mut state = self.shared.lock();
        state.table = Table::default();
        state.agenda.forget_marks();
        state.moving = None;
        state.trouble = None;
    }

    /// Why it does not work any more, if so; then [`Watcher::end`] it.
    pub fn trouble(&self) -> Option<Trouble> {
        self.shared.lock().trouble
    }

    /// Whether there were more changes than can be named; asked once.
    pub fn take_everything(&self) -> bool {
        self.shared.lock().agenda.take_everything()
    }

    /// What is to be looked at now.
    pub fn take_due(&self, now: Instant) -> Vec<Mark> {
        self.shared.lock().agenda.take_due(now)
    }

    /// When something is due next.
    pub fn next_due(&self) -> Option<Instant> {
        self.shared.lock().agenda.next_due()
    }

    /// Looks at these had something to tell, or could not tell yet.
    pub fn look_again(&self, paths: Vec<RelPath>, now: Instant) {
        let mut state = self.shared.lock();
        for path in paths {
            state.agenda.look_again(path, now);
        }
    }

    /// Whoever was told of something wants it looked at again soon.
    pub fn ask(&self) {
        self.shared.asked.store(true, Ordering::Relaxed);
        self.shared.wake();
    }

    /// Whether somebody asked; asked once.
    pub fn take_asked(&self) -> bool {
        self.shared.asked.swap(false, Ordering::Relaxed)
    }

    /// What was told of can be looked at again.
    pub fn hasten(&self, now: Instant) {
        self.shared.lock().agenda.hasten(now);
    }

    /// This program is about to change these paths itself; until they are
    /// released, a look would only see half of that.
    pub fn hold(&self, paths: &[RelPath]) {
        self.shared.lock().agenda.hold(paths.iter().cloned());
    }

    /// The opposite of [`Watcher::hold`].
    pub fn release(&self, paths: &[RelPath]) {
        self.shared.lock().agenda.release(paths, Instant::now());
        self.shared.wake();
    }

    fn is_at(&self, path: Option<&RelPath>, folder: &OwnedFd) -> bool {
        let Some(path) = path else { return true };
        match (self.share.stat(path), folder.stat()) {
            (Ok(named), Ok(opened)) => (named.dev, named.ino) == (opened.dev, opened.ino),
            _ => false,
        }
    }
}

impl Watch<OwnedFd> for Watcher {
    fn watch(&self, path: Option<&RelPath>, folder: &OwnedFd) {
        let running = lock(&self.running);
        let Some(Running { instance, .. }) = running.as_ref() else {
            return;
        };
        // Made and noted under one lock, see the reader.
        let mut state = self.shared.lock();
        if state.trouble.is_some() {
            return;
        }
        let is_new = state.table.find(path).is_none();
        let added = if is_new && state.table.len() >= self.watches_max {
            Err(Errno::NOSPC)
        } else {
            // The only way to name a descriptor to this call.
            inotify::add_watch(
                instance,
                format!("/proc/self/fd/{}", folder.as_raw_fd()),
                EVENTS,
            )
        };
        let wd = match added {
            Ok(wd) => wd,
            Err(errno) => {
                state.trouble = Some(Trouble::of(errno));
                return;
            }
        };
        if state.table.find(path) == Some(wd) {
            return;
        }
        // It may have moved before it was watched; then nothing would tell that
        // this name is another folder's by now.
        let put = if self.is_at(path, folder) {
            state.table.put(path, wd)
        } else {
            None
        };
        let unwatched = match put {
            Some(replaced) => replaced,
            // Under its other name it is watched rightly.
            None if state.table.path(wd).is_some() => Vec::new(),
            None => vec![wd],
        };
        for wd in unwatched {
            let _ = inotify::remove_watch(instance, wd);
        }
    }

    fn unwatch(&self, path: &RelPath) {
        let running = lock(&self.running);
        let mut state = self.shared.lock();
        let (Some(running), Some(wd)) = (running.as_ref(), state.table.find(Some(path))) else {
            return;
        };
        for wd in state.table.forget(wd) {
            let _ = inotify::remove_watch(&running.instance, wd);
        }
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        let state = self.shared.lock();
        state.trouble.is_none() && state.table.find(Some(path)).is_some()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whoever looks is woken; one that is at work comes back by itself.
    fn wake(&self) {
        let _ = self.wake.try_send(());
    }

    fn fail(&self, trouble: Trouble) {
        self.lock().trouble = Some(trouble);
        self.wake();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
