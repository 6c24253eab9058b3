//! Whole files there and back, many requests at once.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use russh_sftp::client::error::Error;
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use tokio::task::JoinHandle;

use super::blocks::Source;
use super::channel::{Opened, Temporary, read_block};
use super::writes::Writes;
use super::{Sftp, permissions};
use crate::host::remote::{OnBytes, RemoteError};
use crate::host::ssh::readable;

/// Reads on their way at once.
const READS_MAX: usize = 16;

/// Bytes that are written and not yet answered for. A near host always has something to
/// do with them; more only lies in its sshd's buffers, which costs it time: measured, a
/// tenth more at 1.5 MiB, half as much again at 2.3 MiB.
const WRITING_BYTES_NEAR: usize = 1 << 20;

/// The same with a far host. They fit into the 2 MiB that an SSH channel's window allows.
const WRITING_BYTES_FAR: usize = 1536 << 10;

/// A host is near that answers within this: 1 MiB on its way is then still 100 MiB/s.
const NEAR: Duration = Duration::from_millis(10);

impl Sftp {
    /// Sends a local file; see [`Remote::upload`](crate::host::remote::Remote::upload).
    pub(in crate::host) async fn upload(
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
        self.put(to, mode, Source::File(file), on_bytes, &local)
            .await
    }

    /// Sends bytes in memory.
    pub(in crate::host) async fn write(
        &self,
        to: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), RemoteError> {
        let local = |_: &std::io::Error| self.failed(format!("writing {}", to.display()), "");
        self.put(to, mode, Source::Memory(bytes), &|_| {}, &local)
            .await
    }

    async fn put(
        &self,
        to: &Path,
        mode: u32,
        source: Source<'_>,
        on_bytes: OnBytes<'_>,
        local: &(dyn Fn(&std::io::Error) -> RemoteError + Sync),
    ) -> Result<(), RemoteError> {
        let channel = self.channel().await?;
        let at = self.at(to)?;
        let temporary = Temporary::beside(&channel, &at.text);
        let session = &channel.session;

        let flags = OpenFlags::CREATE | OpenFlags::EXCLUDE | OpenFlags::WRITE;
        let private = permissions(0o600);
        let opening = session.open(&temporary.path, flags, private);
        let asked = Instant::now();
        let opened = match self.answer(opening).await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "create", &at).await),
        };
        let writing_bytes_max = match asked.elapsed() <= NEAR {
            true => WRITING_BYTES_NEAR,
            false => WRITING_BYTES_FAR,
        };
        let handle = opened.handle.clone();
        let sent = async {
            let mut blocks = source.blocks(channel.block_bytes);
            let mut writes = Writes::new();
            let writes_max = writing_bytes_max / channel.block_bytes;
            let (mut offset, mut done) = (0_u64, 0_u64);
            loop {
                let block = blocks.next().await;
                let block = block.map_err(|error| Err::<Error, _>(local(&error)))?;
                if block.is_empty() {
                    break;
                }
                if writes.len() >= writes_max {
                    done += self.answer(writes.answered()).await.map_err(Ok)?;
                    on_bytes(done);
                }
                let length = block.len() as u64;
                let handle = handle.clone();
                let written = async move {
                    let written = session.write(handle, offset, block).await;
                    written.map(|_| length)
                };
                writes.send(written).await;
                offset += length;
            }
            // As long as answers come, however slowly, an upload goes on.
            while writes.len() > 0 {
                done += self.answer(writes.answered()).await.map_err(Ok)?;
                on_bytes(done);
            }
            if channel.fsync {
                self.answer(session.fsync(&handle)).await.map_err(Ok)?;
            }
            let mode = permissions(mode);
            self.answer(session.fsetstat(&handle, mode))
                .await
                .map_err(Ok)?;
            Ok(())
        };
        let sent = sent.await;
        // Waited for also when a write failed, so that nothing of the file is open any
        // more when the caller hears of it; but not if the host answers nothing.
        let silent = matches!(sent, Err(Ok(Error::Timeout)));
        let sent = match silent {
            true => sent,
            false => sent.and(self.answer(opened.close()).await.map_err(Ok)),
        };
        match sent {
            Ok(()) => {}
            Err(Ok(error)) => return Err(self.explain(&channel, error, "write", &at).await),
            Err(Err(local)) => return Err(local),
        }
        let renaming = channel.rename_over(&temporary.path, &at.text);
        match self.answer(renaming).await {
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
    pub(in crate::host) async fn download(
        &self,
        from: &Path,
        to: &Path,
    ) -> Result<(), RemoteError> {
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
    pub(in crate::host) async fn read(
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
        let opened = match self.answer(opened).await {
            Ok(opened) => Opened::new(&channel, opened.handle),
            Err(error) => return Err(self.explain(&channel, error, "open", &at).await),
        };
        let end = offset.saturating_add(length);
        let mut ahead = Ahead(VecDeque::new());
        let mut next = offset;
        let result = loop {
            while ahead.0.len() < READS_MAX && next < end {
                let bytes = (end - next).min(channel.block_bytes as u64) as u32;
                let reading = read_block(channel.clone(), opened.handle.clone(), next, bytes);
                ahead.0.push_back((bytes, tokio::spawn(reading)));
                next += u64::from(bytes);
            }
            let Some((asked, reading)) = ahead.0.pop_front() else {
                break Ok(());
            };
            let mut reading = reading;
            let read = self
                .answer(async { joined(Some((&mut reading).await)) })
                .await;
            if read.is_err() {
                reading.abort();
            }
            match read {
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
        self.close(opened, result.is_err()).await;
        result
    }
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
