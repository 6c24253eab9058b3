//! `caps`: what this host can do, as far as it can be told without changing anything.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use rustix::process::{PidfdFlags, Resource, getpid, getrlimit, pidfd_open};

use crate::fail::{Doing, Fail, Result};
use crate::json::Line;

/// Programs that faults may need.
const PROGRAMS: [&str; 4] = ["tc", "nft", "strace", "sudo"];
/// Where those of the administrator lie, which an ordinary user's PATH leaves out.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// The list of a distribution's modules has about half a MiB.
const MODULE_LIST_BYTES_MAX: u64 = 16 << 20;
/// Other files of /proc and /sys are much shorter.
const SMALL_BYTES_MAX: u64 = 256 << 10;

/// Tells it in one line; the space is that of `folder`, or of where it would be made.
pub fn caps(folder: &Path, mut out: impl Write) -> Result<()> {
    let place = existing(folder)?;
    let space = statvfs(&place).doing(|| format!("look at {}", place.display()))?;
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let files = getrlimit(Resource::Nofile);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let groups = Groups::look(&release);
    let mut line = Line::new()
        .text("machine", &system.machine().to_string_lossy())
        .text("release", &release)
        .number("euid", rustix::process::geteuid().as_raw())
        .number(
            "processors",
            std::thread::available_parallelism().map_or(1, usize::from) as u64,
        )
        .number("free_bytes", space.f_bavail.saturating_mul(space.f_frsize))
        .truth("noexec", space.f_flag.contains(StatVfsMountFlags::NOEXEC))
        .name(
            "cgroup",
            groups
                .folder
                .as_deref()
                .map_or(b"", |folder| folder.as_os_str().as_bytes()),
        )
        .truth("cgroup_writable", groups.is_writable)
        .truth("cgroup_kill", groups.can_kill)
        .truth("cgroup_freeze", groups.can_freeze)
        .truth("pidfd", pidfd_open(getpid(), PidfdFlags::empty()).is_ok())
        .truth(
            "proc",
            crate::process::stat(getpid().as_raw_nonzero().get()).is_some(),
        );
    for program in PROGRAMS {
        let found = find(program).map(|path| path.to_string_lossy().into_owned());
        line = line.maybe_text(program, found.as_deref());
    }
    line = match netem(&release) {
        Some(netem) => line.truth("netem", netem),
        None => line.maybe("netem", None::<u64>),
    };
    line = line
        .maybe("watches", number("/proc/sys/fs/inotify/max_user_watches"))
        .maybe("open_files", files.current)
        .maybe("open_files_max", files.maximum)
        .maybe("clock_ns", clock.ok().map(|now| now.as_nanos() as i128));
    out.write_all(line.end().as_bytes())
        .and_then(|()| out.flush())
        .doing(|| "write the answer".into())
}

/// The folder itself, or the nearest above it that is there.
fn existing(folder: &Path) -> Result<PathBuf> {
    let full = std::path::absolute(folder).doing(|| "find the current folder".into())?;
    let there = full.ancestors().find(|place| place.exists());
    there
        .map(Path::to_owned)
        .ok_or_else(|| Fail(format!("there is no folder above {}", full.display())))
}

/// The cgroup we are in, of version 2.
#[derive(Default)]
struct Groups {
    folder: Option<PathBuf>,
    /// We may make groups of our own in it.
    is_writable: bool,
    can_kill: bool,
    can_freeze: bool,
}

impl Groups {
    fn look(release: &str) -> Self {
        let Some(folder) = Self::folder() else {
            return Self::default();
        };
        // The topmost group cannot be killed or frozen and so has no such files; any
        // other shows what the kernel can do, and where there is none, its age does.
        let below = fs::read_dir(&folder).into_iter().flatten().flatten();
        let first_below = below
            .map(|entry| entry.path())
            .find(|path| path.join("cgroup.procs").exists());
        let has = |name: &str, since: (u32, u32)| {
            let mut places = [Some(&folder), first_below.as_ref()].into_iter().flatten();
            places.any(|place| place.join(name).exists())
                || (first_below.is_none() && version(release) >= Some(since))
        };
        Self {
            is_writable: access(&folder, Access::WRITE_OK).is_ok(),
            can_kill: has("cgroup.kill", (5, 14)),
            can_freeze: has("cgroup.freeze", (5, 2)),
            folder: Some(folder),
        }
    }

    fn folder() -> Option<PathBuf> {
        let mounts = read("/proc/self/mounts", SMALL_BYTES_MAX)?;
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| fields.get(1).copied())?
        })?;
        let own = read("/proc/self/cgroup", SMALL_BYTES_MAX)?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let folder = Path::new(mount).join(own);
        folder.is_dir().then_some(folder)
    }
}

/// `6.1` of `6.1.0-18-amd64`
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// The kernel can delay and lose packets; `None` where nobody can tell.
fn netem(release: &str) -> Option<bool> {
    if Path::new("/sys/module/sch_netem").exists() {
        return Some(true);
    }
    let modules = Path::new("/lib/modules").join(release);
    let lists = ["modules.dep", "modules.builtin"].map(|list| {
        let path = modules.join(list);
        read(path.to_str()?, MODULE_LIST_BYTES_MAX)
    });
    if lists.iter().all(Option::is_none) {
        return None;
    }
    let mut lists = lists.iter().flatten();
    Some(lists.any(|list| list.contains("/sch_netem.ko")))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut places = folders
        .chain(ADMIN_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program));
    places.find(|place| place.is_file() && access(place, Access::EXEC_OK).is_ok())
}

fn number(path: &str) -> Option<u64> {
    read(path, SMALL_BYTES_MAX)?.trim().parse().ok()
}

fn read(path: &str, bytes_max: u64) -> Option<String> {
    let mut text = Vec::new();
    File::open(path)
        .ok()?
        .take(bytes_max)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
