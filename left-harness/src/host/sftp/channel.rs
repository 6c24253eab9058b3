//! The open SFTP channel, and what must not be left behind on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use russh_sftp::client::error::Error;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{Packet, Status, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::host::remote::RemoteError;
use crate::host::ssh::{Link, Purpose};

/// One read or write with OpenSSH's server, whose messages are up to 256 KiB.
const BLOCK_BYTES: usize = 255 << 10;

/// What every SFTP server must take.
const BLOCK_BYTES_SMALL: usize = 32 << 10;

/// After which the protocol's crate forgets a request. Whoever waits for an answer has
/// given up long before.
const FORGET: Duration = Duration::from_secs(600);

const POSIX_RENAME: &str = "posix-rename@openssh.com";
const FSYNC: &str = "fsync@openssh.com";
const STATVFS: &str = "statvfs@openssh.com";

/// An open SFTP channel and what the server can do beyond version 3.
pub(super) struct Channel {
    pub(super) session: RawSftpSession,
    /// Of one read or write.
    pub(super) block_bytes: usize,
    posix_rename: bool,
    /// It can be told to put a file on the disk.
    pub(super) fsync: bool,
    statvfs: bool,
    _session_permit: OwnedSemaphorePermit,
}

impl Channel {
    /// Replaces what is at `to`, in one move where the server can.
    pub(super) async fn rename_over(&self, from: &str, to: &str) -> Result<(), Error> {
        if self.posix_rename {
            let mut names = Vec::new();
            for name in [from, to] {
                names.extend_from_slice(&(name.len() as u32).to_be_bytes());
                names.extend_from_slice(name.as_bytes());
            }
            return match self.session.extended(POSIX_RENAME, names).await? {
                Packet::Status(status) if status.status_code == StatusCode::Ok => Ok(()),
                Packet::Status(status) => Err(Error::Status(status)),
                _ => Err(Error::UnexpectedPacket),
            };
        }
        // The rename of version 3 refuses to replace. For a moment there is
        // nothing under the name: better than half a file, and all it offers.
        match self.session.remove(to).await {
            Ok(_) => {}
            Err(Error::Status(status)) if status.status_code == StatusCode::NoSuchFile => {}
            Err(error) => return Err(error),
        }
        self.session.rename(from, to).await.map(drop)
    }

    /// OpenSSH says only "Failure" where space is short: asks whether it is.
    pub(super) async fn is_full(&self, status: &Status, path: &Path) -> bool {
        let says_nothing = status.status_code == StatusCode::Failure
            && status.error_message.eq_ignore_ascii_case("failure");
        let Some(folder) = path.parent().and_then(Path::to_str) else {
            return false;
        };
        if !says_nothing || !self.statvfs {
            return false;
        }
        let folder = if folder.is_empty() { "." } else { folder };
        let space = self.session.statvfs(folder).await;
        // Some file systems have no number of files that they could run out of.
        space.is_ok_and(|space| {
            space.blocks_avail == 0 || (space.inodes > 0 && space.inodes_avail == 0)
        })
    }
}

/// Opens the channel and asks what the server can do.
pub(super) async fn open(link: &Arc<Link>, doing: &str) -> Result<Channel, RemoteError> {
    let Ok(permit) = link.sessions.clone().acquire_owned().await else {
        return Err(link.lost(doing).await);
    };
    let Some(channel) = link.open(Purpose::Files, doing).await? else {
        return Err(no_server(link, doing, "the host has no sftp subsystem"));
    };
    let config = Config {
        request_timeout_secs: FORGET.as_secs(),
        ..Config::default()
    };
    let session = RawSftpSession::new_with_config(channel.into_stream(), config);
    let version = match session.init().await {
        Ok(version) => version,
        Err(_) if link.handle.is_closed() => return Err(link.lost(doing).await),
        Err(_) => {
            let why = "the host's sftp server does not start, or its login shell says something \
                       before it does";
            return Err(no_server(link, doing, why));
        }
    };
    let can = |extension: &str| version.extensions.contains_key(extension);
    Ok(Channel {
        session,
        // Who knows this extension is OpenSSH or made like it.
        block_bytes: if can(POSIX_RENAME) {
            BLOCK_BYTES
        } else {
            BLOCK_BYTES_SMALL
        },
        posix_rename: can(POSIX_RENAME),
        fsync: can(FSYNC),
        statvfs: can(STATVFS),
        _session_permit: permit,
    })
}

fn no_server(link: &Link, doing: &str, why: &str) -> RemoteError {
    RemoteError::Failed {
        host: link.name.clone(),
        doing: doing.into(),
        why: format!(
            "{why}: files are moved by SFTP; OpenSSH needs `Subsystem sftp internal-sftp` in its \
             sshd_config, dropbear the program /usr/lib/sftp-server (Debian: openssh-sftp-server)"
        ),
    }
}

/// Reads until the block is full or the file ends.
pub(super) async fn read_block(
    channel: Arc<Channel>,
    handle: String,
    offset: u64,
    length: u32,
) -> Result<Vec<u8>, Error> {
    let mut block = Vec::new();
    while block.len() < length as usize {
        let rest = length - block.len() as u32;
        let at = offset + block.len() as u64;
        match channel.session.read(&handle, at, rest).await {
            Ok(data) if data.data.is_empty() => break,
            Ok(data) if data.data.len() > rest as usize => return Err(Error::UnexpectedPacket),
            Ok(data) if block.is_empty() => block = data.data,
            Ok(data) => block.extend_from_slice(&data.data),
            Err(Error::Status(status)) if status.status_code == StatusCode::Eof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(block)
}

/// An open file or folder on the host: closed when dropped, also when the call
/// that opened it is given up half-way.
pub(super) struct Opened {
    channel: Arc<Channel>,
    pub(super) handle: String,
}

impl Opened {
    pub(super) fn new(channel: &Arc<Channel>, handle: String) -> Self {
        Self {
            channel: channel.clone(),
            handle,
        }
    }

    pub(super) async fn close(mut self) -> Result<(), Error> {
        let handle = std::mem::take(&mut self.handle);
        self.channel.session.close(handle).await.map(drop)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let handle = std::mem::take(&mut self.handle);
        if handle.is_empty() {
            return;
        }
        let channel = self.channel.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { channel.session.close(handle).await.is_ok() });
        }
    }
}

/// A file on the host that must not stay: removed when dropped, also when the
/// whole upload is given up half-way.
pub(super) struct Temporary {
    channel: Option<Arc<Channel>>,
    pub(super) path: String,
}

impl Temporary {
    /// `.NAME.tmp-<random>` in the folder of `target`.
    pub(super) fn beside(channel: &Arc<Channel>, target: &str) -> Self {
        let (folder, name) = match target.rfind('/') {
            Some(slash) => target.split_at(slash + 1),
            None => ("", target),
        };
        // Of the 255 bytes that a name may have, the rest needs 14.
        let mut end = name.len().min(240);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let name = &name[..end];
        Self {
            channel: Some(channel.clone()),
            path: format!("{folder}.{name}.tmp-{:08x}", rand::random::<u32>()),
        }
    }

    /// It was renamed: nothing is left to remove.
    pub(super) fn gone(mut self) {
        self.channel = None;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        let path = std::mem::take(&mut self.path);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Sent behind all writes, so it is the last that happens to the file.
            runtime.spawn(async move {
                let _ = channel.session.remove(path).await;
            });
        }
    }
}
