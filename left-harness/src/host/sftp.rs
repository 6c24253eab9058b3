//! Files of a host, over one SFTP channel that is opened when first needed.
//!
//! A file arrives under a temporary name beside its target and is renamed over
//! it when it is complete and synced, so nobody ever sees half of it. The
//! protocol's crate keeps names as text: a name that is not UTF-8 cannot be
//! addressed here, and is refused instead of being mistaken for another one.

mod blocks;
mod channel;
mod transfer;
mod writes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, Status, StatusCode};
use tokio::sync::Mutex;

use super::remote::{RemoteError, Stat};
use super::ssh::Link;
use channel::{Channel, Opened, open};

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

    /// What is there, without following a link; `None` for nothing.
    pub(super) async fn stat(&self, path: &Path) -> Result<Option<Stat>, RemoteError> {
        match self.stat_once(path).await {
            Err(error) if self.may_repeat(&error) => self.stat_once(path).await,
            done => done,
        }
    }

    /// Whether only the file channel broke, so that what changes nothing, or the same
    /// when done twice, is worth another try over a new one.
    fn may_repeat(&self, error: &RemoteError) -> bool {
        matches!(error, RemoteError::Lost { .. }) && !self.link.handle.is_closed()
    }

    async fn stat_once(&self, path: &Path) -> Result<Option<Stat>, RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(path)?;
        match self.answer(channel.session.lstat(&at.text)).await {
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
        match self.list_once(path).await {
            Err(error) if self.may_repeat(&error) => self.list_once(path).await,
            done => done,
        }
    }

    async fn list_once(&self, path: &Path) -> Result<Vec<String>, RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(path)?;
        let opened = match self.answer(channel.session.opendir(&at.text)).await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "list", &at).await),
        };
        let mut names = Vec::new();
        let listed = loop {
            match self.answer(channel.session.readdir(&opened.handle)).await {
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
        self.close(opened, listed.is_err()).await;
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
        match self.make_dir_once(path).await {
            Err(error) if self.may_repeat(&error) => self.make_dir_once(path).await,
            done => done,
        }
    }

    async fn make_dir_once(&self, path: &Path) -> Result<(), RemoteError> {
        let channel = self.channel().await?;
        // Upwards to the first folder that can be made, then down again.
        let mut missing = vec![path];
        while let Some(&path) = missing.last() {
            let at = self.at(path)?;
            let making = channel.session.mkdir(&at.text, permissions(0o700));
            let error = match self.answer(making).await {
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
                    let there = self.answer(channel.session.stat(&at.text)).await;
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

    /// The open channel, or a new one. Whoever waits for somebody else's opening has its
    /// own deadline all the same: many at once give a silent host up together, not one
    /// after the other.
    async fn channel(&self) -> Result<Arc<Channel>, RemoteError> {
        const DOING: &str = "opening its file channel";
        let opened = tokio::time::timeout(self.link.answer_deadline, self.open(DOING)).await;
        opened.unwrap_or_else(|_| Err(self.link.late(DOING)))
    }

    async fn open(&self, doing: &'static str) -> Result<Arc<Channel>, RemoteError> {
        let mut kept = self.channel.lock().await;
        if let Some(channel) = &*kept {
            return Ok(channel.clone());
        }
        let link = self.link.clone();
        // A task of its own: whoever gives up waiting leaves no half-open channel.
        let opening = tokio::spawn(async move { open(&link, doing).await });
        let channel = match opening.await {
            Ok(opened) => Arc::new(opened?),
            Err(_) => return Err(self.link.lost(doing).await),
        };
        *kept = Some(channel.clone());
        Ok(channel)
    }

    /// Closes what was only read: whether that works says nothing of what was read. After
    /// a failure nobody waits for it, because the host may answer nothing any more.
    async fn close(&self, opened: Opened, failed: bool) {
        if !failed {
            let _ = self.answer(opened.close()).await;
        }
    }

    /// Waits for one answer, but not for ever.
    async fn answer<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let answered = tokio::time::timeout(self.link.answer_deadline, asked).await;
        answered.unwrap_or(Err(Error::Timeout))
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

    async fn is_full(&self, channel: &Channel, status: &Status, at: &At) -> bool {
        let asked = channel.is_full(status, &at.path);
        let answered = tokio::time::timeout(self.link.answer_deadline, asked).await;
        answered.unwrap_or(false)
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
                let doing = format!("its answer to \"{doing} {}\"", at.text);
                return self.link.late(doing);
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
            _ if self.is_full(channel, &status, at).await => "no space left on device".into(),
            _ => decapitalised(&status.error_message)
                .escape_debug()
                .to_string(),
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
