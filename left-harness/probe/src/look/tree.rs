//! `look tree`: what is there, one line an entry, sorted, files hashed by several threads.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{FileType, Mode, Stat};

use crate::beneath::{self, Stamp};
use crate::digest::{READ_BYTES, hash_reader};
use crate::fail::{Doing, Fail, Result, reason};
use crate::json::Line;
use crate::look::ordered::Ordered;
use crate::look::walk::{Found, Walk};

/// Jobs waiting for a thread. Each keeps its folder open, so this also bounds descriptors.
const QUEUED_JOBS: usize = 64;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only what `stat` says.
    Quick,
    /// Also the content.
    Hashed,
}

struct Job {
    place: u64,
    path: Vec<u8>,
    folder: Arc<OwnedFd>,
    name: CString,
    stat: Stat,
}

#[derive(Default)]
struct Counts {
    entries: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Writes the manifest of `root`.
pub fn tree(root: &Path, skip: Vec<OsString>, depth: Depth, out: impl Write + Send) -> Result<()> {
    let skip: Vec<_> = skip.into_iter().map(OsStringExt::into_vec).collect();
    let walk = Walk::new(beneath::open_root(root)?, &skip)
        .doing(|| format!("list folder {}", root.display()))?;
    let ordered = Ordered::new(BufWriter::with_capacity(READ_BYTES, out));
    let counts = Counts::default();
    let (jobs, todo) = sync_channel(QUEUED_JOBS);
    let todo = Mutex::new(todo);
    thread::scope(|scope| {
        if depth == Depth::Hashed {
            for _ in 0..threads() {
                scope.spawn(|| work(&todo, &ordered));
            }
        }
        walk_all(walk, depth, &ordered, &counts, jobs);
    });
    let mut out = ordered
        .finish()
        .map_err(|why| Fail(format!("cannot write the manifest: {why}")))?;
    let end = Line::new()
        .yes("end")
        .number("entries", counts.entries.into_inner())
        .number("files", counts.files.into_inner())
        .number("bytes", counts.bytes.into_inner());
    out.write_all(end.end().as_bytes())
        .and_then(|()| out.flush())
        .doing(|| "write the manifest".into())
}

/// Two even on one processor, so that reading and hashing overlap; more than eight only wait for the disk.
fn threads() -> usize {
    thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 8)
}

fn walk_all<W: Write>(
    walk: Walk,
    depth: Depth,
    ordered: &Ordered<W>,
    counts: &Counts,
    jobs: SyncSender<Job>,
) {
    for found in walk {
        let Some(place) = ordered.reserve() else {
            return;
        };
        counts.entries.fetch_add(1, Ordering::Relaxed);
        let Found {
            path,
            place: at,
            what,
        } = found;
        let (stat, (folder, name)) = match (what, at) {
            (Ok(stat), Some(at)) => (stat, at),
            (Ok(_), None) => {
                ordered.put(place, problem(&path, "it has no place"));
                continue;
            }
            (Err(why), _) => {
                ordered.put(place, problem(&path, &why));
                continue;
            }
        };
        let is_file = beneath::is_file(&stat);
        if is_file {
            counts.files.fetch_add(1, Ordering::Relaxed);
            counts
                .bytes
                .fetch_add(stat.st_size as u64, Ordering::Relaxed);
        }
        if is_file && depth == Depth::Hashed {
            // Fails only when every worker is gone, and then nobody reads us either.
            if jobs
                .send(Job {
                    place,
                    path,
                    folder,
                    name,
                    stat,
                })
                .is_err()
            {
                return;
            }
        } else {
            ordered.put(place, plain_line(&path, &folder, &name, &stat, depth));
        }
    }
}

fn work<W: Write>(todo: &Mutex<Receiver<Job>>, ordered: &Ordered<W>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let line = match hash_unchanged(&job, &mut buffer) {
            Ok(hash) => basics(&job.path, &job.stat)
                .text("blake3", &hash.to_hex())
                .end(),
            Err(why) => problem(&job.path, &why),
        };
        ordered.put(job.place, line);
    }
}

fn hash_unchanged(job: &Job, buffer: &mut [u8]) -> std::result::Result<blake3::Hash, String> {
    const CHANGED: &str = "changed while it was read";
    let opened = rustix::fs::openat(
        &job.folder,
        job.name.as_c_str(),
        beneath::FILE,
        Mode::empty(),
    );
    let file = File::from(opened.map_err(|error| reason(&error.into()))?);
    let stamp = |file: &File| {
        rustix::fs::fstat(file)
            .map(|stat| Stamp::of(&stat))
            .map_err(|error| reason(&error.into()))
    };
    if stamp(&file)? != Stamp::of(&job.stat) {
        return Err(CHANGED.into());
    }
    let (hash, size) = hash_reader(&file, buffer).map_err(|error| reason(&error))?;
    if stamp(&file)? != Stamp::of(&job.stat) || size != job.stat.st_size as u64 {
        return Err(CHANGED.into());
    }
    Ok(hash)
}

fn plain_line(path: &[u8], folder: &OwnedFd, name: &CString, stat: &Stat, depth: Depth) -> String {
    let mut line = basics(path, stat);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        match rustix::fs::readlinkat(folder, name.as_c_str(), Vec::new()) {
            Ok(target) => line = line.name("target", target.as_bytes()),
            Err(error) => return problem(path, &reason(&error.into())),
        }
    }
    if depth == Depth::Quick {
        line = line
            .number("ino", stat.st_ino)
            .number("ctime_s", stat.st_ctime)
            .number("ctime_ns", stat.st_ctime_nsec as i64);
    }
    line.end()
}

fn basics(path: &[u8], stat: &Stat) -> Line {
    Line::new()
        .name("path", path)
        .text("kind", beneath::kind_word(stat))
        .number("mode", stat.st_mode & 0o7777)
        .number("mtime_s", stat.st_mtime)
        .number("mtime_ns", stat.st_mtime_nsec as i64)
        .number("size", stat.st_size)
}

fn problem(path: &[u8], why: &str) -> String {
    Line::new().name("path", path).text("problem", why).end()
}
