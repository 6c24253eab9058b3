//! Files of a host, over one SFTP channel that is opened when first needed.
//!
//! A file arrives under a temporary name beside its target and is renamed over
//! it when it is complete and synced, so nobody ever sees half of it. The
//! protocol's crate keeps names as text: a name that is not UTF-8 cannot be
//! addressed here, and is refused instead of being mistaken for another one.

mod channel;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags, Status, StatusCode};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

use super::remote::{OnBytes, RemoteError, Stat};
use super::ssh::{Link, readable};
use channel::{ANSWER_DEADLINE, Channel, Opened, Temporary, open, read_block};

/// Requests on their way at once: measured to double the speed of `scp`.
const IN_FLIGHT_MAX: usize = 16;

/// For opening the channel.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// Names in one folder that [`Sftp::list`] keeps in memory.
const NAMES_MAX: usize = 1_000_000;

/// The files of one host.
pub(super) struct Sftp {
    link: Arc<Link>,
    channel: Mutex<Option<Arc<Channel>>>,
}

impl Sftp {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            channel: Mutex::new(None),
        }
    }

    /// Sends a local file; see [`Remote::upload`](super::remote::Remote::upload).
    pub(super) async fn upload(
        &self,
        from: &Path,
        to: &Path,
        mode: u32,
        on_bytes: OnBytes<'_>,
    ) -> Result<(), RemoteError> {
        let local = |error: &std::io::Error| RemoteError::Failed {
            host: self.link.name.clone(),
            doing: format!("sending {} to {}", from.display(), to.display()),
            why: format!("cannot read the local file: {}", readable(error)),
        };
        let file = std::fs::File::open(from).map_err(|error| local(&error))?;
        let mut blocks = Blocks::of_file(file);
        self.put(to, mode, &mut blocks, on_bytes, &local).await
    }

    /// Sends bytes in memory.
    pub(super) async fn write(
        &self,
        to: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), RemoteError> {
        let mut blocks = Blocks::Memory(bytes);
        let local = |_: &std::io::Error| self.failed(format!("writing {}", to.display()), "");
        self.put(to, mode, &mut blocks, &|_| {}, &local).await
    }

    async fn put(
        &self,
        to: &Path,
        mode: u32,
        blocks: &mut Blocks<'_>,
        on_bytes: OnBytes<'_>,
        local: &(dyn Fn(&std::io::Error) -> RemoteError + Sync),
    ) -> Result<(), RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(to)?;
        let temporary = Temporary::beside(&channel, &at.text);
        let session = &channel.session;

        let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
        let private = permissions(0o600);
        let opened = match session.open(&temporary.path, flags, private).await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "create", &at).await),
        };
        let handle = opened.handle.clone();
        let sent = async {
            let mut writes = JoinSet::new();
            let (mut offset, mut done) = (0_u64, 0_u64);
            loop {
                let block = blocks.next(channel.block_bytes).await;
                let block = block.map_err(|error| Err::<Error, _>(local(&error)))?;
                if block.is_empty() {
                    break;
                }
                if writes.len() >= IN_FLIGHT_MAX {
                    done += joined(writes.join_next().await).map_err(Ok)?;
                    on_bytes(done);
                }
                let (channel, handle) = (channel.clone(), handle.clone());
                let length = block.len() as u64;
                writes.spawn(async move {
                    let written = channel.session.write(handle, offset, block).await;
                    written.map(|_| length)
                });
                offset += length;
            }
            while !writes.is_empty() {
                done += joined(writes.join_next().await).map_err(Ok)?;
                on_bytes(done);
            }
            if channel.fsync {
                session.fsync(&handle).await.map_err(Ok)?;
            }
            let mode = permissions(mode);
            session.fsetstat(&handle, mode).await.map_err(Ok)?;
            Ok(())
        };
        let sent = sent.await;
        let closed = opened.close().await;
        match sent.and(closed.map_err(Ok)) {
            Ok(()) => {}
            Err(Ok(error)) => return Err(self.explain(&channel, error, "write", &at).await),
            Err(Err(local)) => return Err(local),
        }
        match channel.rename_over(&temporary.path, &at.text).await {
            Ok(()) => {
                temporary.gone();
                Ok(())
            }
            Err(error) => Err(self
                .explain(&channel, error, "rename a new file to", &at)
                .await),
        }
    }

    /// Fetches a file; under its name only when it is complete.
    pub(super) async fn download(&self, from: &Path, to: &Path) -> Result<(), RemoteError> {
        let local = |error: &std::io::Error| RemoteError::Failed {
            host: self.link.name.clone(),
            doing: format!("fetching {} to {}", from.display(), to.display()),
            why: format!("cannot write the local file: {}", readable(error)),
        };
        let name = to.file_name().unwrap_or_default().to_string_lossy();
        let part = to.with_file_name(format!(".{name}.tmp-{:08x}", rand::random::<u32>()));
        let mut file = std::fs::File::create_new(&part).map_err(|error| local(&error))?;
        let fetched = self
            .fetch(from, 0, u64::MAX, |bytes| {
                file.write_all(&bytes).map_err(|error| local(&error))
            })
            .await;
        let placed =
            fetched.and_then(|()| std::fs::rename(&part, to).map_err(|error| local(&error)));
        if placed.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        placed
    }

    /// Up to `length` bytes from `offset`.
    pub(super) async fn read(
        &self,
        from: &Path,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, RemoteError> {
        let mut all = Vec::new();
        self.fetch(from, offset, length as u64, |bytes| {
            all.extend_from_slice(&bytes);
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// Reads ahead, and hands over what it read in order, up to the file's end.
    async fn fetch(
        &self,
        from: &Path,
        offset: u64,
        length: u64,
        mut take: impl FnMut(Vec<u8>) -> Result<(), RemoteError>,
    ) -> Result<(), RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(from)?;
        let opened = channel
            .session
            .open(&at.text, OpenFlags::READ, FileAttributes::empty());
        let opened = match opened.await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "open", &at).await),
        };
        let end = offset.saturating_add(length);
        let mut ahead = Ahead(VecDeque::new());
        let mut next = offset;
        let result = loop {
            while ahead.0.len() < IN_FLIGHT_MAX && next < end {
                let bytes = (end - next).min(channel.block_bytes as u64) as u32;
                let reading = read_block(channel.clone(), opened.handle.clone(), next, bytes);
                ahead.0.push_back((bytes, tokio::spawn(reading)));
                next += u64::from(bytes);
            }
            let Some((asked, reading)) = ahead.0.pop_front() else {
                break Ok(());
            };
            match joined(Some(reading.await)) {
                Ok(bytes) => {
                    let short = bytes.len() < asked as usize;
                    if let Err(error) = take(bytes) {
                        break Err(error);
                    }
                    if short {
                        break Ok(());
                    }
                }
                Err(error) => break Err(self.explain(&channel, error, "read", &at).await),
            }
        };
        drop(ahead);
        let _ = opened.close().await;
        result
    }

    /// What is there, without following a link; `None` for nothing.
    pub(super) async fn stat(&self, path: &Path) -> Result<Option<Stat>, RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(path)?;
        match channel.session.lstat(&at.text).await {
            Ok(attrs) => {
                let mode = attrs.attrs.permissions.unwrap_or(0);
                Ok(Some(Stat {
                    size: attrs.attrs.size.unwrap_or(0),
                    mode: mode & 0o7777,
                    is_dir: mode & FORMAT == FORMAT_DIR,
                }))
            }
            Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => Ok(None),
            Err(error) => Err(self.explain(&channel, error, "look at", &at).await),
        }
    }

    /// Sorted names.
    pub(super) async fn list(&self, path: &Path) -> Result<Vec<String>, RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(path)?;
        let opened = match channel.session.opendir(&at.text).await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "list", &at).await),
        };
        let mut names = Vec::new();
        let listed = loop {
            match channel.session.readdir(&opened.handle).await {
                Ok(some) => names.extend(some.files.into_iter().map(|file| file.filename)),
                Err(Error::Status(status)) if status.status_code == StatusCode::Eof => {
                    break Ok(());
                }
                Err(error) => break Err(self.explain(&channel, error, "list", &at).await),
            }
            if names.len() > NAMES_MAX {
                break Err(self.file(&at, "list", format!("more than {NAMES_MAX} names")));
            }
        };
        let _ = opened.close().await;
        listed?;
        // Bytes that are not UTF-8 arrive as this character: there is no way to
        // name such a file, and a wrong name would be worse than none.
        if let Some(name) = names.iter().find(|name| name.contains('\u{fffd}')) {
            return Err(self.file(&at, "list", format!("the name {name:?} is not UTF-8")));
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// `mkdir -p` with mode 0700 for what is new.
    pub(super) async fn make_dir(&self, path: &Path) -> Result<(), RemoteError> {
        let channel = self.channel().await?;
        // Upwards to the first folder that can be made, then down again.
        let mut missing = vec![path];
        while let Some(&path) = missing.last() {
            let at = self.at(path)?;
            let error = match channel.session.mkdir(&at.text, permissions(0o700)).await {
                Ok(_) => {
                    missing.pop();
                    continue;
                }
                Err(error) => error,
            };
            let nothing = |status: &Status| status.status_code == StatusCode::NoSuchFile;
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            match (&error, parent) {
                (Error::Status(status), Some(parent))
                    if nothing(status) && missing.len() < DEPTH_MAX =>
                {
                    missing.push(parent);
                }
                (Error::Status(_), _) => {
                    // Perhaps it is there already, be it through a link.
                    let there = channel.session.stat(&at.text).await;
                    let mode = there.ok().and_then(|there| there.attrs.permissions);
                    match mode.map(|mode| mode & FORMAT == FORMAT_DIR) {
                        Some(true) => drop(missing.pop()),
                        Some(false) => {
                            let why = "a file is in the way".into();
                            return Err(self.file(&at, "make the folder", why));
                        }
                        None => {
                            return Err(self
                                .explain(&channel, error, "make the folder", &at)
                                .await);
                        }
                    }
                }
                _ => return Err(self.explain(&channel, error, "make the folder", &at).await),
            }
        }
        Ok(())
    }

    /// The open channel, or a new one.
    async fn channel(&self) -> Result<Arc<Channel>, RemoteError> {
        let mut kept = self.channel.lock().await;
        if let Some(channel) = &*kept {
            return Ok(channel.clone());
        }
        let doing = "opening its file channel";
        let link = self.link.clone();
        // A task of its own: whoever gives up waiting leaves no half-open channel.
        let opening = tokio::spawn(async move { open(&link, doing).await });
        let channel = match tokio::time::timeout(OPEN_DEADLINE, opening).await {
            Ok(Ok(opened)) => Arc::new(opened?),
            Ok(Err(_)) => return Err(self.link.lost(doing).await),
            Err(_) => {
                return Err(RemoteError::Deadline {
                    host: self.link.name.clone(),
                    doing: doing.into(),
                    seconds: OPEN_DEADLINE.as_secs_f64(),
                });
            }
        };
        *kept = Some(channel.clone());
        Ok(channel)
    }

    fn at(&self, path: &Path) -> Result<At, RemoteError> {
        match path.to_str() {
            Some(text) if !text.contains('\0') => Ok(At {
                path: path.into(),
                text: text.into(),
            }),
            _ => Err(RemoteError::File {
                host: self.link.name.clone(),
                doing: "address",
                path: path.into(),
                why: "its name is not UTF-8, which SFTP cannot carry here".into(),
            }),
        }
    }

    fn file(&self, at: &At, doing: &'static str, why: String) -> RemoteError {
        RemoteError::File {
            host: self.link.name.clone(),
            doing,
            path: at.path.clone(),
            why,
        }
    }

    fn failed(&self, doing: String, why: &str) -> RemoteError {
        RemoteError::Failed {
            host: self.link.name.clone(),
            doing,
            why: why.into(),
        }
    }

    async fn explain(
        &self,
        channel: &Arc<Channel>,
        error: Error,
        doing: &'static str,
        at: &At,
    ) -> RemoteError {
        let status = match error {
            Error::Status(status) => status,
            Error::Timeout => {
                return RemoteError::Deadline {
                    host: self.link.name.clone(),
                    doing: format!("its answer to \"{doing} {}\"", at.text),
                    seconds: ANSWER_DEADLINE.as_secs_f64(),
                };
            }
            Error::Limited(why) => return self.file(at, doing, why),
            _ => {
                // The channel is of no use any more; the next call opens another.
                let mut kept = self.channel.lock().await;
                if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, channel)) {
                    *kept = None;
                }
                drop(kept);
                return self
                    .link
                    .lost(format!("it had to {doing} {}", at.text))
                    .await;
            }
        };
        let why = match status.status_code {
            StatusCode::NoSuchFile => "no such file".into(),
            StatusCode::PermissionDenied => "permission denied".into(),
            _ if channel.is_full(&status, &at.path).await => "no space left on device".into(),
            _ => decapitalised(&status.error_message),
        };
        self.file(at, doing, why)
    }
}

/// Folders that one [`Sftp::make_dir`] makes.
const DEPTH_MAX: usize = 1_000;

/// The bits of a mode that tell the kind.
const FORMAT: u32 = 0o170_000;
const FORMAT_DIR: u32 = 0o040_000;

/// A path as its owner and as the protocol sees it.
struct At {
    path: PathBuf,
    text: String,
}

/// Reads that are under way, in order; stopped when nobody wants them.
struct Ahead(VecDeque<(u32, Reading)>);

type Reading = JoinHandle<Result<Vec<u8>, Error>>;

impl Drop for Ahead {
    fn drop(&mut self) {
        for (_, reading) in &self.0 {
            reading.abort();
        }
    }
}

fn joined<T>(ended: Option<Result<Result<T, Error>, tokio::task::JoinError>>) -> Result<T, Error> {
    match ended {
        Some(Ok(result)) => result,
        _ => Err(Error::UnexpectedBehavior("a request was cut off".into())),
    }
}

/// What is to be sent, block by block.
enum Blocks<'a> {
    Memory(&'a [u8]),
    File(Option<std::fs::File>),
}

impl Blocks<'_> {
    fn of_file(file: std::fs::File) -> Self {
        Self::File(Some(file))
    }

    /// The next block, full but for the last; empty at the end.
    async fn next(&mut self, bytes: usize) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Memory(rest) => {
                let (block, after) = rest.split_at(rest.len().min(bytes));
                *rest = after;
                Ok(block.to_vec())
            }
            Self::File(kept) => {
                let Some(file) = kept.take() else {
                    return Ok(Vec::new());
                };
                let reading = tokio::task::spawn_blocking(move || {
                    let mut block = Vec::with_capacity(bytes);
                    let read = (&file).take(bytes as u64).read_to_end(&mut block);
                    (file, read.map(|_| block))
                });
                let (file, block) = reading.await.map_err(std::io::Error::other)?;
                *kept = Some(file);
                block
            }
        }
    }
}

fn permissions(mode: u32) -> FileAttributes {
    FileAttributes {
        permissions: Some(mode),
        ..FileAttributes::empty()
    }
}

fn decapitalised(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    match chars.next() {
        Some(first) => first.to_lowercase().collect::<String>() + chars.as_str(),
        None => "the host gives no reason".into(),
    }
}
