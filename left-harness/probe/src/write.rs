//! Puts generated content on the disk: `write`, `tree`, `overwrite`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::content::{Content, Kind};
use crate::digest::{READ_BYTES, hash_reader};
use crate::fail::{Doing, Fail, Result};
use crate::json::Line;

/// Generated, hashed and written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Twenty lines a second are enough for a bar.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);
/// Files in one generated tree; more than any scenario needs.
const TREE_FILES_MAX: u64 = 1_000_000;
/// Every so many files of a tree share a folder.
const FILES_A_FOLDER: u64 = 10;

/// Setuid, setgid and sticky.
const SPECIAL_BITS: u32 = 0o7000;

/// A file to be written.
pub struct Wanted {
    /// Where it belongs.
    pub dest: PathBuf,
    /// What its content follows from.
    pub seed: String,
    /// In bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// What it is filled with.
    pub kind: Kind,
    /// How it appears.
    pub how: How,
}

/// How a file appears under its name.
pub enum How {
    /// Complete, by a rename from this name outside the share.
    Renamed(PathBuf),
    /// Growing.
    InPlace,
}

/// Writes one file.
pub fn write(wanted: &Wanted, out: &mut impl Write) -> Result<()> {
    make_parents(&wanted.dest)?;
    let hash = match &wanted.how {
        How::InPlace => fill(&wanted.dest, wanted, out)?,
        How::Renamed(temp) => {
            let done = fill(temp, wanted, out).and_then(|hash| {
                fs::rename(temp, &wanted.dest).doing(|| between("rename", temp, &wanted.dest))?;
                Ok(hash)
            });
            if done.is_err() {
                // What is left of a failed write is of no use to anybody.
                let _ = fs::remove_file(temp);
            }
            done?
        }
    };
    say(
        out,
        Line::new()
            .yes("written")
            .number("size", wanted.size)
            .text("blake3", &hash.to_hex()),
    )
}

fn fill(path: &Path, wanted: &Wanted, out: &mut impl Write) -> Result<blake3::Hash> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32);
    let mut file = options
        .open(path)
        .doing(|| format!("create {}", path.display()))?;
    // Set apart from creating it, so that the umask has no say.
    let set_mode = |file: &File| {
        file.set_permissions(Permissions::from_mode(wanted.mode))
            .doing(|| format!("set the mode of {}", path.display()))
    };
    set_mode(&file)?;
    let mut content = Content::new(wanted.kind, &wanted.seed);
    let mut hasher = blake3::Hasher::new();
    let mut progress = Progress::new();
    pour(&mut content, wanted.size, |bytes, done| {
        hasher.update(bytes);
        file.write_all(bytes)
            .doing(|| format!("write {}", path.display()))?;
        progress.at(done, out)
    })?;
    if wanted.mode & SPECIAL_BITS != 0 {
        // The kernel takes setuid and setgid from a file that its user writes.
        set_mode(&file)?;
    }
    Ok(hasher.finalize())
}

/// Hands out `size` bytes of content in pieces, with the bytes done after each.
fn pour(
    content: &mut Content,
    size: u64,
    mut take: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES.min(size as usize)];
    let mut done = 0;
    while done < size {
        let some = buffer
            .len()
            .min((size - done).try_into().unwrap_or(usize::MAX));
        content.fill(&mut buffer[..some]);
        done += some as u64;
        take(&buffer[..some], done)?;
    }
    Ok(())
}

/// Generates a folder of files and renames it into place.
pub fn tree(
    dest: &Path,
    seed: &str,
    files: u64,
    size: u64,
    temp: &Path,
    out: &mut impl Write,
) -> Result<()> {
    if files > TREE_FILES_MAX {
        return Err(Fail(format!(
            "--files {files} is more than {TREE_FILES_MAX}"
        )));
    }
    make_parents(dest)?;
    let done = grow(temp, seed, files, size, out)
        .and_then(|()| fs::rename(temp, dest).doing(|| between("rename", temp, dest)));
    if done.is_err() {
        let _ = fs::remove_dir_all(temp);
    }
    done?;
    say(
        out,
        Line::new()
            .yes("written")
            .number("files", files)
            .number("bytes", files * size),
    )
}

fn grow(temp: &Path, seed: &str, files: u64, size: u64, out: &mut impl Write) -> Result<()> {
    make_folder(temp)?;
    let mut quiet = std::io::sink();
    for number in 0..files {
        let name = tree_name(number, files);
        let path = temp.join(&name);
        if let Some(folder) = path.parent()
            && folder != temp
            && number.is_multiple_of(FILES_A_FOLDER)
        {
            make_folder(folder)?;
        }
        let wanted = Wanted {
            dest: path.clone(),
            seed: format!("{seed}/{name}"),
            size,
            mode: 0o644,
            kind: Kind::Random,
            how: How::InPlace,
        };
        let hash = fill(&path, &wanted, &mut quiet)?;
        say(
            out,
            Line::new()
                .text("path", &name)
                .number("size", size)
                .text("blake3", &hash.to_hex()),
        )?;
    }
    Ok(())
}

/// `f0007`, or `d1/f0013`: every second ten lies in a folder of its own.
fn tree_name(number: u64, files: u64) -> String {
    let width = files.saturating_sub(1).to_string().len().max(4);
    let ten = number / FILES_A_FOLDER;
    if ten % 2 == 1 {
        format!("d{}/f{number:0width$}", ten / 2)
    } else {
        format!("f{number:0width$}")
    }
}

/// New bytes over a part of a file, under its own name.
pub fn overwrite(path: &Path, seed: &str, at: u64, size: u64, out: &mut impl Write) -> Result<()> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    let mut file = options
        .open(path)
        .doing(|| format!("open {}", path.display()))?;
    let meta = file
        .metadata()
        .doing(|| format!("look at {}", path.display()))?;
    if !meta.is_file() {
        return Err(Fail(format!("{} is no regular file", path.display())));
    }
    if at > meta.len() {
        return Err(Fail(format!(
            "cannot overwrite {} at {at}: it ends at {}",
            path.display(),
            meta.len()
        )));
    }
    seek(&mut file, at, path)?;
    pour(&mut Content::new(Kind::Random, seed), size, |bytes, _| {
        file.write_all(bytes)
            .doing(|| format!("write {}", path.display()))
    })?;
    seek(&mut file, 0, path)?;
    let (hash, total) = hash_reader(&file, &mut vec![0; READ_BYTES])
        .doing(|| format!("read {}", path.display()))?;
    say(
        out,
        Line::new()
            .yes("written")
            .number("size", total)
            .text("blake3", &hash.to_hex()),
    )
}

fn seek(file: &mut File, to: u64, path: &Path) -> Result<()> {
    file.seek(SeekFrom::Start(to))
        .doing(|| format!("seek in {}", path.display()))
        .map(|_| ())
}

fn make_parents(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .doing(|| format!("make folder {}", parent.display())),
        None => Ok(()),
    }
}

fn make_folder(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o755).create(path) {
        // A folder of an attempt before; what is in it would become part of the tree.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Fail(format!(
            "cannot make folder {}: it is already there",
            path.display()
        ))),
        other => other.doing(|| format!("make folder {}", path.display())),
    }
}

fn between(doing: &str, from: &Path, to: &Path) -> String {
    format!("{doing} {} to {}", from.display(), to.display())
}

fn say(out: &mut impl Write, line: Line) -> Result<()> {
    out.write_all(line.end().as_bytes())
        .and_then(|()| out.flush())
        .doing(|| "write the answer".into())
}

/// Lines for a bar, not too many.
struct Progress(Instant);

impl Progress {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn at(&mut self, done: u64, out: &mut impl Write) -> Result<()> {
        if self.0.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        self.0 = Instant::now();
        say(out, Line::new().number("done", done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_tree_fit_their_number_and_some_lie_in_folders() {
        let names: Vec<_> = [0, 9, 10, 19, 20, 31]
            .map(|number| tree_name(number, 50))
            .into();
        assert_eq!(
            names,
            [
                "f0000", "f0009", "d0/f0010", "d0/f0019", "f0020", "d1/f0031"
            ]
        );
        assert_eq!(tree_name(12345, 100_000), "f12345");
    }
}
