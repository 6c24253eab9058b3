//! What a host can do, as its probe tells it.

use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// Longer answers are no answers.
const TEXT_BYTES_MAX: usize = 4096;

/// What a host can do, as far as that can be told without changing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// `uname -m`: `x86_64`
    pub machine: String,
    /// Of the kernel: `6.1.0-18-amd64`
    pub release: String,
    /// Who we are there; 0 is root.
    pub euid: u32,
    /// How many things it can do at once.
    pub processors: u64,
    /// In the folder that was asked for.
    pub free_bytes: u64,
    /// Nothing in that folder can be executed.
    pub noexec: bool,
    /// Our own cgroup (version 2), where there is one.
    pub cgroup: Option<Cgroup>,
    /// Processes can be held by a descriptor.
    pub pidfd: bool,
    /// Processes can be looked at.
    pub proc: bool,
    /// Where they are, if they are there.
    pub tc: Option<String>,
    /// See `tc`.
    pub nft: Option<String>,
    /// See `tc`.
    pub strace: Option<String>,
    /// See `tc`.
    pub sudo: Option<String>,
    /// The kernel can delay and lose packets; `None` where nobody can tell.
    pub netem: Option<bool>,
    /// Folders that a user may watch.
    pub watches: Option<u64>,
    /// Files that a process may have open; `None` is as many as it likes.
    pub open_files: Option<u64>,
    /// What it may raise that to.
    pub open_files_max: Option<u64>,
    /// By the host's clock, when it was asked.
    pub clock: SystemTime,
    /// How far the host's clock is from ours, ahead if positive, in nanoseconds; known
    /// to half of `clock_error`.
    pub clock_offset_ns: i128,
    /// The time that asking took.
    pub clock_error: Duration,
}

/// A cgroup of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder.
    pub folder: String,
    /// Groups can be made in it.
    pub is_writable: bool,
    /// A group can be killed at once.
    pub can_kill: bool,
    /// A group can be made to stand still.
    pub can_freeze: bool,
}

/// As the probe says it.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    machine: String,
    release: String,
    euid: u32,
    processors: u64,
    free_bytes: u64,
    noexec: bool,
    #[serde(default)]
    cgroup: String,
    cgroup_writable: bool,
    cgroup_kill: bool,
    cgroup_freeze: bool,
    pidfd: bool,
    proc: bool,
    tc: Option<String>,
    nft: Option<String>,
    strace: Option<String>,
    sudo: Option<String>,
    netem: Option<bool>,
    watches: Option<u64>,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
    clock_ns: u64,
}

impl Capabilities {
    /// Asked and answered at these moments of our own clock.
    pub(super) fn of(told: Told, asked: SystemTime, answered: SystemTime) -> Result<Self, String> {
        let texts = [&told.machine, &told.release, &told.cgroup];
        let paths = [&told.tc, &told.nft, &told.strace, &told.sudo];
        if texts
            .into_iter()
            .chain(paths.into_iter().flatten())
            .any(|text| text.len() > TEXT_BYTES_MAX || text.contains(char::is_control))
        {
            return Err("a name that is none".into());
        }
        let clock_error = answered.duration_since(asked).unwrap_or_default();
        let middle = asked + clock_error / 2;
        let ours = middle
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as i128);
        Ok(Self {
            cgroup: (!told.cgroup.is_empty()).then_some(Cgroup {
                folder: told.cgroup,
                is_writable: told.cgroup_writable,
                can_kill: told.cgroup_kill,
                can_freeze: told.cgroup_freeze,
            }),
            machine: told.machine,
            release: told.release,
            euid: told.euid,
            processors: told.processors,
            free_bytes: told.free_bytes,
            noexec: told.noexec,
            pidfd: told.pidfd,
            proc: told.proc,
            tc: told.tc,
            nft: told.nft,
            strace: told.strace,
            sudo: told.sudo,
            netem: told.netem,
            watches: told.watches,
            open_files: told.open_files,
            open_files_max: told.open_files_max,
            clock: SystemTime::UNIX_EPOCH + Duration::from_nanos(told.clock_ns),
            clock_offset_ns: i128::from(told.clock_ns) - ours,
            clock_error,
        })
    }
}
