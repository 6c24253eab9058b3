//! What outlives a process: the disk, its users, and the clock.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::disk::SimDisk;
use super::dump::Tree;
use super::fault::{Faults, Meanwhile, On};
pub(crate) use super::inode::DataLoss;
use super::names::NameOrder;
use super::tree::FileSystem;
use super::user::User;

/// What kind of machine it is.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// By how much times on the disk step. That of Linux is a timer tick, that
    /// of old file systems whole seconds.
    pub(crate) timestamp_step: Duration,
    /// How long each call takes.
    pub(crate) tick: Duration,
    /// Permissions are not asked for.
    pub(crate) is_root: bool,
    /// Renames can be told not to replace, and to exchange.
    pub(crate) has_rename_flags: bool,
    /// Small and capital letters are the same in names.
    pub(crate) folds_case: bool,
    /// What a power cut does to names.
    pub(crate) name_order: NameOrder,
    /// What a power cut does to files.
    pub(crate) data_loss: DataLoss,
    /// Syncs say that they are done, and do nothing.
    pub(crate) lies_about_syncs: bool,
    /// All there is, of the users and of the process.
    pub(crate) capacity_bytes: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timestamp_step: Duration::from_millis(4),
            tick: Duration::from_micros(20),
            is_root: false,
            has_rename_flags: true,
            folds_case: false,
            name_order: NameOrder::Reordered,
            data_loss: DataLoss::Torn,
            lies_about_syncs: false,
            capacity_bytes: None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fs: FileSystem,
    pub(super) faults: Faults,
    /// Which process may call; handles of others are of no use.
    pub(super) process: u64,
    /// How often the power has gone.
    pub(super) boots: u64,
    pub(super) born: Instant,
}

/// A machine. Its clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Machine(Arc<Mutex<Shared>>);

impl Machine {
    /// An empty disk. The seed decides what a failed sync leaves.
    pub(crate) fn new(seed: u64, config: Config) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            fs: FileSystem::new(seed, config),
            faults: Faults::default(),
            process: 0,
            boots: 0,
            // Only differences of times are ever used.
            born: Instant::now(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Another machine in the same state, with no process.
    pub(crate) fn fork(&self) -> Self {
        let shared = self.lock();
        Self(Arc::new(Mutex::new(Shared {
            fs: shared.fs.clone(),
            faults: Faults::default(),
            process: 0,
            boots: 0,
            born: shared.born,
        })))
    }

    /// The disk is again what it was when this machine was forked from it. Time
    /// goes on.
    pub(crate) fn put_back(&self, snapshot: &Self) {
        let then = snapshot.lock().fs.clone();
        let mut shared = self.lock();
        let now = std::mem::replace(&mut shared.fs, then);
        shared.fs.config = now.config;
        shared.fs.elapsed_nanos = now.elapsed_nanos;
        shared.fs.wall_nanos = now.wall_nanos;
    }

    /// Starts a process that opens the share; one that there was is gone.
    pub(crate) fn start(&self) -> Result<SimDisk, Errno> {
        {
            let mut shared = self.lock();
            shared.process += 1;
            shared.faults.is_dead = false;
            shared.faults.crash_at = None;
            shared.faults.intrusion = None;
            shared.faults.changes = 0;
            shared.faults.deeds = None;
            for inode in shared.fs.inodes.values_mut() {
                inode.open = 0;
            }
        }
        SimDisk::open(self)
    }

    /// Names this boot.
    pub(crate) fn boot(&self) -> u64 {
        self.lock().boots
    }

    /// Somebody else at the same machine.
    pub(crate) fn user(&self) -> User<'_> {
        User(self)
    }

    /// Changes the kind of machine.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.lock().fs.config);
    }

    /// Has the process die before its change number `change` from its start on.
    pub(crate) fn crash_at(&self, change: u64) {
        self.lock().faults.crash_at = Some(change);
    }

    /// Lets something happen before the process' change number `change`.
    pub(crate) fn meanwhile(&self, change: u64, what: impl FnOnce(&Machine) + Send + 'static) {
        let meanwhile = Meanwhile(Box::new(what));
        self.lock().faults.meanwhile = Some((change, meanwhile));
    }

    /// Has something happen before a call of the process: the one after `calls` others.
    pub(crate) fn before_call(&self, calls: u64, what: Box<dyn FnOnce(&Machine) + Send>) {
        self.lock().faults.intrusion = Some((calls, Meanwhile(what)));
    }

    /// How many changes the process has made since its start.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().faults.changes
    }

    /// Lists the changes of the process from now on.
    pub(crate) fn record_deeds(&self) {
        self.lock().faults.deeds = Some(Vec::new());
    }

    /// The changes since then, by name; a process that died did not make its last one.
    pub(crate) fn take_deeds(&self) -> Vec<&'static str> {
        self.lock().faults.deeds.take().unwrap_or_default()
    }

    /// Whether the process is dead.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().faults.is_dead
    }

    /// Kills the process. What it did stays done.
    pub(crate) fn kill(&self) {
        self.lock().faults.is_dead = true;
    }

    /// The power goes, and with it the process, and some of what was not
    /// durable; then the machine is up again.
    pub(crate) fn crash(&self, seed: u64) {
        let mut shared = self.lock();
        shared.faults.is_dead = true;
        shared.cut_power(seed);
    }

    /// Lets a call of the process fail: of that kind, after `calls` others.
    pub(crate) fn fail(&self, on: On, calls: u64, errno: Errno) {
        self.lock().faults.errors.push((on, calls, errno));
    }

    /// Whether a failure that was planned has not come yet.
    pub(crate) fn is_to_fail(&self) -> bool {
        !self.lock().faults.errors.is_empty()
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        let mut shared = self.lock();
        shared.faults.errors.clear();
        shared.faults.denied.clear();
        shared.fs.config.capacity_bytes = None;
    }

    /// The process cannot open what is at `path` any more.
    pub(crate) fn deny(&self, path: impl AsRef<[u8]>) {
        let path = path.as_ref().to_vec();
        self.lock().faults.denied.insert(path);
    }

    /// Time passes.
    pub(crate) fn advance(&self, time: Duration) {
        self.lock().fs.elapsed_nanos += time.as_nanos() as u64;
    }

    /// The clock on the wall is set back.
    pub(crate) fn set_clock_back(&self, time: Duration) {
        self.lock().fs.wall_nanos -= time.as_nanos() as i128;
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.lock().fs.used_bytes()
    }

    /// Everything in the share but the state folder.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of_machine(&self.lock().fs)
    }
}
