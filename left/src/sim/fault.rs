//! What goes wrong, and when.

use rustix::io::Errno;

use super::machine::Machine;

/// What every call answers once the process is dead. No file system does.
pub(crate) const DEAD: Errno = Errno::SHUTDOWN;

/// Calls that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// Reading content.
    Read,
    /// Writing content, and setting a length.
    Write,
    /// Making something durable.
    Sync,
    /// Listing a folder.
    List,
    /// Changing names.
    Names,
    /// Anything else that changes nothing: opening, looking.
    Look,
    /// Anything else that changes something.
    Meta,
}

impl On {
    /// Whether a crash before it differs from one after it.
    fn changes(self) -> bool {
        !matches!(self, On::Read | On::List | On::Look)
    }
}

/// One call: of which kind, and by which name the tables of crash points have it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub(super) on: On,
    pub(super) name: &'static str,
}

impl On {
    /// A call of this kind that has a name of its own.
    pub(super) fn named(self, name: &'static str) -> Deed {
        Deed { on: self, name }
    }
}

impl From<On> for Deed {
    fn from(on: On) -> Self {
        let name = match on {
            On::Read => "read",
            On::Write => "write",
            On::Sync => "sync",
            On::List => "list",
            On::Names => "name",
            On::Look => "look",
            On::Meta => "metadata",
        };
        Self { on, name }
    }
}

/// Something that happens between two calls of the process.
pub(super) struct Meanwhile(pub(super) Box<dyn FnOnce(&Machine) + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// The plan for one process.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Calls so far that changed something.
    pub(super) changes: u64,
    pub(super) crash_at: Option<u64>,
    /// The changes since somebody asked for a list of them; the last one was not made
    /// if the process is dead.
    pub(super) deeds: Option<Vec<&'static str>>,
    pub(super) is_dead: bool,
    /// What happens before which change.
    pub(super) meanwhile: Option<(u64, Meanwhile)>,
    /// What happens before which call of any kind, counted from then.
    pub(super) intrusion: Option<(u64, Meanwhile)>,
    /// Which call of its kind, counted from now, fails how.
    pub(super) errors: Vec<(On, u64, Errno)>,
    /// Paths that cannot be opened.
    pub(super) denied: std::collections::BTreeSet<Vec<u8>>,
}

impl Faults {
    /// What happens before this call, if anything does.
    pub(super) fn take_meanwhile(&mut self, on: On) -> Option<Meanwhile> {
        match &mut self.intrusion {
            Some((0, _)) => return self.intrusion.take().map(|(_, intrusion)| intrusion),
            Some((calls, _)) => *calls -= 1,
            None => {}
        }
        let changes = self.changes;
        let due = self
            .meanwhile
            .take_if(|(at, _)| on.changes() && *at == changes);
        due.map(|(_, meanwhile)| meanwhile)
    }

    /// At the beginning of each call of the process.
    pub(super) fn meet(&mut self, deed: Deed) -> Result<(), Errno> {
        let on = deed.on;
        if self.is_dead {
            return Err(DEAD);
        }
        if on.changes() {
            if let Some(deeds) = &mut self.deeds {
                deeds.push(deed.name);
            }
            if self.crash_at == Some(self.changes) {
                self.is_dead = true;
                return Err(DEAD);
            }
            self.changes += 1;
        }
        let mut failed = None;
        self.errors.retain_mut(|(kind, left, errno)| {
            if *kind != on {
                return true;
            }
            if *left == 0 && failed.is_none() {
                failed = Some(*errno);
                return false;
            }
            *left = left.saturating_sub(1);
            true
        });
        failed.map_or(Ok(()), Err)
    }
}
