//! Why changes are found by looking instead of watching, and what mends it.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::fstatfs;
use rustix::io::Errno;

/// Why there is no watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No more folders can be watched.
    NoWatches,
    /// No more watchers can be made.
    NoInstances,
    /// Events came faster than they were read, and some were lost.
    Overflow,
    /// Changes made elsewhere cause no events on this file system.
    Deaf(&'static str),
    /// Anything else.
    System(Errno),
}

impl Trouble {
    /// What a failed attempt to make a watcher or a watch means.
    pub(super) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC => Trouble::NoWatches,
            Errno::MFILE | Errno::NFILE => Trouble::NoInstances,
            other => Trouble::System(other),
        }
    }

    /// Whether the file system that holds `folder` keeps changes to itself.
    pub(super) fn of_file_system(folder: impl AsFd) -> Option<Self> {
        let kind = fstatfs(folder).ok()?.f_type as u32;
        let (_, name) = DEAF.iter().find(|(magic, _)| *magic == kind)?;
        Some(Trouble::Deaf(name))
    }
}

/// File systems whose content others change behind this kernel's back, by the
/// numbers of `statfs`.
const DEAF: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "VMware's hgfs"),
];

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoWatches => {
                f.write_str("out of inotify watches")?;
                polling(f)?;
                raise(f, "max_user_watches")
            }
            Trouble::NoInstances => {
                f.write_str("out of inotify instances")?;
                polling(f)?;
                raise(f, "max_user_instances")
            }
            Trouble::Overflow => {
                f.write_str("events came faster than they could be read")?;
                polling(f)?;
                raise(f, "max_queued_events")
            }
            Trouble::Deaf(name) => {
                write!(f, "{name} does not tell of changes made elsewhere")?;
                polling(f)?;
                f.write_str("a share on a local file system is watched")
            }
            Trouble::System(errno) => {
                let why = std::io::Error::from(*errno);
                write!(f, "cannot watch the share: {why}")?;
                polling(f)?;
                f.write_str("it is tried again and again")
            }
        }
    }
}

fn polling(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("; changes are found by looking at everything in turn, which is slower: ")
}

fn raise(f: &mut fmt::Formatter<'_>, setting: &str) -> fmt::Result {
    let now = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{setting}"));
    match now.ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(now) => write!(
            f,
            "`sysctl fs.inotify.{setting}={}` mends it (it is {now}), and it is tried again by itself",
            now.saturating_mul(2)
        ),
        None => write!(f, "a larger fs.inotify.{setting} mends it"),
    }
}
