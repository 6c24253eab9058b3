//! What each SFTP request does to the file system.

use std::collections::HashMap;
use std::fs::{self, File, ReadDir};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use russh_sftp::protocol::{
    Attrs, Data, File as Entry, FileAttributes, Handle, Name, OpenFlags, Packet, StatusCode,
    Version,
};
use rustix::fs::{CWD, OFlags, RenameFlags, Timespec, Timestamps, renameat_with};

use crate::host::server::starting::wait_for_started;

/// Files and folders that one channel may have open.
const HANDLES_MAX: usize = 256;

/// Bytes of one answer to a read; the whole answer then fits into 256 KiB.
const READ_BYTES_MAX: u32 = 255 << 10;

/// Names in one answer to a listing.
const NAMES_PER_ANSWER: usize = 128;

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";

/// The open files of one channel.
pub(super) struct Files {
    home: PathBuf,
    open: HashMap<String, Open>,
    next: u64,
}

enum Open {
    File(File),
    Folder(PathBuf, ReadDir),
}

/// Why a request fails.
enum Refusal {
    System(io::Error),
    End,
    Text(&'static str),
    Unsupported,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<rustix::io::Errno> for Refusal {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}

type Answer = Result<Packet, Refusal>;

impl Files {
    pub(super) fn new(home: PathBuf) -> Self {
        Self {
            home,
            open: HashMap::new(),
            next: 0,
        }
    }

    /// Does what is asked; never fails, but may answer with a refusal.
    pub(super) fn answer(&mut self, request: Packet) -> Packet {
        let id = request.get_request_id();
        match self.perform(id, request) {
            Ok(answer) => answer,
            Err(refusal) => {
                let (code, text) = explain(refusal);
                Packet::status(id, code, &text, "en")
            }
        }
    }

    fn perform(&mut self, id: u32, request: Packet) -> Answer {
        match request {
            Packet::Init(_) => Ok(hello()),
            Packet::Open(open) => {
                let path = self.at(&open.filename);
                self.open_file(id, &path, open.pflags, &open.attrs)
            }
            Packet::Close(close) => match self.open.remove(&close.handle) {
                Some(open) => {
                    drop(open);
                    // Whoever hears that it is closed may execute it.
                    wait_for_started();
                    Ok(done(id))
                }
                None => Err(Refusal::Text("no such handle")),
            },
            Packet::Read(read) => {
                let mut data = vec![0; read.len.min(READ_BYTES_MAX) as usize];
                let length = self.file(&read.handle)?.read_at(&mut data, read.offset)?;
                if length == 0 && read.len > 0 {
                    return Err(Refusal::End);
                }
                data.truncate(length);
                Ok(Data { id, data }.into())
            }
            Packet::Write(write) => {
                let file = self.file(&write.handle)?;
                file.write_all_at(&write.data, write.offset)?;
                Ok(done(id))
            }
            Packet::Lstat(stat) => {
                let attrs = attributes(&fs::symlink_metadata(self.at(&stat.path))?);
                Ok(Attrs { id, attrs }.into())
            }
            Packet::Stat(stat) => {
                let attrs = attributes(&fs::metadata(self.at(&stat.path))?);
                Ok(Attrs { id, attrs }.into())
            }
            Packet::Fstat(stat) => {
                let attrs = attributes(&self.file(&stat.handle)?.metadata()?);
                Ok(Attrs { id, attrs }.into())
            }
            Packet::SetStat(set) => {
                let path = self.at(&set.path);
                if let Some(size) = set.attrs.size {
                    File::options().write(true).open(&path)?.set_len(size)?;
                }
                if let Some((uid, gid)) = set.attrs.uid.zip(set.attrs.gid) {
                    std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
                }
                // After the owner, whose change clears bits of the mode.
                if let Some(mode) = set.attrs.permissions {
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o7777))?;
                }
                if let Some(times) = times(&set.attrs) {
                    rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty())?;
                }
                Ok(done(id))
            }
            Packet::FSetStat(set) => {
                let file = self.file(&set.handle)?;
                if let Some(size) = set.attrs.size {
                    file.set_len(size)?;
                }
                if let Some((uid, gid)) = set.attrs.uid.zip(set.attrs.gid) {
                    std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
                }
                if let Some(mode) = set.attrs.permissions {
                    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
                }
                if let Some(times) = times(&set.attrs) {
                    rustix::fs::futimens(file, &times)?;
                }
                Ok(done(id))
            }
            Packet::OpenDir(open) => {
                let path = self.at(&open.path);
                let entries = fs::read_dir(&path)?;
                self.keep(id, Open::Folder(path, entries))
            }
            Packet::ReadDir(read) => self.names(id, &read.handle),
            Packet::Remove(remove) => {
                fs::remove_file(self.at(&remove.filename))?;
                Ok(done(id))
            }
            Packet::MkDir(make) => {
                let mode = make.attrs.permissions.unwrap_or(0o777) & 0o7777;
                let path = self.at(&make.path);
                fs::DirBuilder::new().mode(mode).create(path)?;
                Ok(done(id))
            }
            Packet::RmDir(remove) => {
                fs::remove_dir(self.at(&remove.path))?;
                Ok(done(id))
            }
            Packet::RealPath(real) => {
                let path = self.at(&real.path);
                // What does not exist yet still has a name.
                let path = fs::canonicalize(&path).unwrap_or(path);
                one_name(id, &path)
            }
            Packet::ReadLink(link) => one_name(id, &fs::read_link(self.at(&link.path))?),
            Packet::Symlink(link) => {
                // OpenSSH sends the target first, against the letter of the
                // draft, and everybody follows it.
                let (target, link) = (link.linkpath, self.at(&link.targetpath));
                std::os::unix::fs::symlink(target, link)?;
                Ok(done(id))
            }
            Packet::Rename(rename) => {
                let (old, new) = (self.at(&rename.oldpath), self.at(&rename.newpath));
                // The rename of version 3 never replaces.
                renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE)?;
                Ok(done(id))
            }
            Packet::Extended(extended) => self.extended(id, &extended.request, &extended.data),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn extended(&mut self, id: u32, request: &str, data: &[u8]) -> Answer {
        const BAD: Refusal = Refusal::Text("the request is cut short");
        match request {
            POSIX_RENAME => {
                let (old, rest) = text(data).ok_or(BAD)?;
                let (new, _) = text(rest).ok_or(BAD)?;
                fs::rename(self.at(old), self.at(new))?;
                Ok(done(id))
            }
            FSYNC => {
                let (handle, _) = text(data).ok_or(BAD)?;
                self.file(handle)?.sync_all()?;
                Ok(done(id))
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn open_file(
        &mut self,
        id: u32,
        path: &Path,
        flags: OpenFlags,
        attrs: &FileAttributes,
    ) -> Answer {
        let mode = attrs.permissions.unwrap_or(0o666) & 0o7777;
        let file = fs::OpenOptions::from(flags)
            .mode(mode)
            // Opening a pipe that nobody else has open would wait for ever.
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)?;
        if file.metadata()?.is_dir() {
            return Err(Refusal::Text("it is a folder"));
        }
        self.keep(id, Open::File(file))
    }

    fn keep(&mut self, id: u32, open: Open) -> Answer {
        if self.open.len() >= HANDLES_MAX {
            return Err(Refusal::Text("too many open files"));
        }
        self.next += 1;
        let handle = self.next.to_string();
        self.open.insert(handle.clone(), open);
        Ok(Handle { id, handle }.into())
    }

    fn file(&self, handle: &str) -> Result<&File, Refusal> {
        match self.open.get(handle) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(Refusal::Text("no such handle")),
        }
    }

    fn names(&mut self, id: u32, handle: &str) -> Answer {
        let Some(Open::Folder(path, entries)) = self.open.get_mut(handle) else {
            return Err(Refusal::Text("no such handle"));
        };
        let mut files = Vec::new();
        for entry in entries.take(NAMES_PER_ANSWER) {
            let name = entry?.file_name();
            let attrs = match fs::symlink_metadata(path.join(&name)) {
                Ok(metadata) => attributes(&metadata),
                // It went meanwhile, or may not be looked at: its name is true.
                Err(_) => FileAttributes::empty(),
            };
            // The crate keeps names as text: one that is none is shown changed,
            // with U+FFFD in it, and cannot be opened by that name.
            files.push(Entry::new(name.to_string_lossy(), attrs));
        }
        if files.is_empty() {
            return Err(Refusal::End);
        }
        Ok(Name { id, files }.into())
    }

    fn at(&self, path: &str) -> PathBuf {
        // Joining an absolute path replaces the home.
        self.home.join(path)
    }
}

fn hello() -> Packet {
    let mut version = Version::new();
    for extension in [POSIX_RENAME, FSYNC] {
        version.extensions.insert(extension.into(), "1".into());
    }
    version.into()
}

fn done(id: u32) -> Packet {
    Packet::status(id, StatusCode::Ok, "", "en")
}

fn one_name(id: u32, path: &Path) -> Answer {
    match path.to_str() {
        Some(path) => {
            let files = vec![Entry::dummy(path)];
            Ok(Name { id, files }.into())
        }
        None => Err(Refusal::Text("the name is not UTF-8")),
    }
}

fn attributes(metadata: &fs::Metadata) -> FileAttributes {
    let seconds = |time: i64| Some(u32::try_from(time).unwrap_or(0));
    FileAttributes {
        size: Some(metadata.len()),
        uid: Some(metadata.uid()),
        user: None,
        gid: Some(metadata.gid()),
        group: None,
        permissions: Some(metadata.mode()),
        atime: seconds(metadata.atime()),
        mtime: seconds(metadata.mtime()),
    }
}

fn times(attrs: &FileAttributes) -> Option<Timestamps> {
    let (accessed, modified) = attrs.atime.zip(attrs.mtime)?;
    let at = |seconds: u32| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    Some(Timestamps {
        last_access: at(accessed),
        last_modification: at(modified),
    })
}

/// One text with its length before it, and what follows.
fn text(data: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

fn explain(refusal: Refusal) -> (StatusCode, String) {
    match refusal {
        Refusal::System(error) => {
            let code = match error.kind() {
                io::ErrorKind::NotFound => StatusCode::NoSuchFile,
                io::ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
                _ => StatusCode::Failure,
            };
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default();
            (code, text.into())
        }
        Refusal::End => (StatusCode::Eof, "end of file".into()),
        Refusal::Text(text) => (StatusCode::Failure, text.into()),
        Refusal::Unsupported => (StatusCode::OpUnsupported, "not supported".into()),
    }
}
