//! Which session there is, and which of two stays.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::handshake::HANDSHAKE;
use crate::events::Reporter;
use crate::version::ReplicaId;
use crate::wire::message::Hello;

/// Dropped connections are logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// The session there is, if there is one.
#[derive(Default)]
pub struct Hub {
    current: Mutex<Option<Current>>,
    ended: Condvar,
    pub(super) last_id: AtomicU64,
    pub(super) handshakes: AtomicU32,
    complained: Mutex<Option<Instant>>,
}

pub(super) struct Current {
    pub(super) id: u64,
    pub(super) peer_replica: u64,
    pub(super) peer_instance: u64,
    pub(super) token: u64,
    pub(super) dialled_here: bool,
    pub(super) since: Instant,
    pub(super) streams: Vec<TcpStream>,
    /// Held by each thread of the session, so that its end can be awaited.
    pub(super) members: SyncSender<()>,
}

impl Hub {
    /// Logs what a stranger can cause, but not as often as a stranger can.
    pub(super) fn complain(&self, reporter: &Reporter, text: &str) {
        let mut last = self
            .complained
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
            *last = Some(Instant::now());
            reporter.warn(text);
        }
    }

    pub(super) fn is_current(&self, id: u64) -> bool {
        self.lock().as_ref().is_some_and(|current| current.id == id)
    }

    pub(super) fn is_up(&self) -> bool {
        self.lock().is_some()
    }

    /// Waits for the end of the session there is, but not longer than `most`.
    pub(super) fn wait_while_up(&self, most: Duration) {
        let is_up = |current: &mut Option<Current>| current.is_some();
        let _ = self.ended.wait_timeout_while(self.lock(), most, is_up);
    }

    /// Ends the session, whoever's it is.
    pub fn end_all(&self) {
        if let Some(current) = self.lock().take() {
            current.hang_up();
            self.ended.notify_all();
        }
    }

    pub(super) fn end(&self, id: u64) {
        let mut guard = self.lock();
        if let Some(current) = guard.take_if(|current| current.id == id) {
            current.hang_up();
            self.ended.notify_all();
        }
    }

    /// Makes this the session, unless the one there is should stay.
    pub(super) fn register(&self, mine: ReplicaId, new: Current) -> Result<(), Superfluous> {
        let mut guard = self.lock();
        if let Some(old) = guard.as_ref() {
            let same =
                (old.peer_replica, old.peer_instance) == (new.peer_replica, new.peer_instance);
            // Only when both dialled at the same moment there is a choice, and
            // both sides make the same one. Otherwise whoever dials again has
            // lost the old session, even if we have not noticed.
            let both_dialled =
                old.dialled_here != new.dialled_here && old.since.elapsed() < HANDSHAKE;
            let lower_dialled_new = new.dialled_here == (mine.0 < new.peer_replica);
            if same && both_dialled && !lower_dialled_new {
                return Err(Superfluous);
            }
        }
        if let Some(old) = guard.replace(new) {
            old.hang_up();
        }
        Ok(())
    }

    /// Adds a file connection to the session of this token.
    pub(super) fn attach(
        &self,
        hello: &Hello,
        stream: &TcpStream,
    ) -> io::Result<Option<(u64, SyncSender<()>)>> {
        let mut guard = self.lock();
        let ours = |current: &&mut Current| {
            current.token == hello.token
                && current.peer_replica == hello.replica
                && current.peer_instance == hello.instance
                && current.streams.len() < 3
        };
        let Some(current) = guard.as_mut().filter(ours) else {
            return Ok(None);
        };
        current.streams.push(stream.try_clone()?);
        Ok(Some((current.id, current.members.clone())))
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Option<Current>> {
        self.current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// There is a session already, and it stays.
pub(super) struct Superfluous;

impl Current {
    pub(super) fn hang_up(&self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
