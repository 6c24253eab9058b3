//! What an upload sends, block by block, a file read ahead.

use std::fs::File;
use std::io::{self, Read};

use tokio::sync::mpsc;

/// Bytes of a file that are read before they are asked for.
const AHEAD_BYTES_MAX: usize = 1 << 20;

/// What is to be sent.
pub(super) enum Source<'a> {
    Memory(&'a [u8]),
    /// From where it stands.
    File(File),
}

impl<'a> Source<'a> {
    /// In blocks of as many bytes, but for the last.
    pub(super) fn blocks(self, bytes: usize) -> Blocks<'a> {
        match self {
            Self::Memory(content) => Blocks::Memory(content, bytes),
            Self::File(file) => Blocks::File(read_ahead(file, bytes)),
        }
    }
}

/// The blocks of a source.
pub(super) enum Blocks<'a> {
    Memory(&'a [u8], usize),
    File(mpsc::Receiver<io::Result<Vec<u8>>>),
}

impl Blocks<'_> {
    /// The next block; empty at the end, behind which nobody may ask.
    pub(super) async fn next(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Memory(rest, bytes) => {
                let (block, after) = rest.split_at(rest.len().min(*bytes));
                *rest = after;
                Ok(block.to_vec())
            }
            Self::File(blocks) => {
                let stopped = || Err(io::Error::other("reading stopped before the end"));
                blocks.recv().await.unwrap_or_else(stopped)
            }
        }
    }
}

/// Reads on one thread for the whole file: to hand every block over and back again costs
/// more than to read it. It ends when nobody takes its blocks any more.
fn read_ahead(file: File, bytes: usize) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, blocks) = mpsc::channel((AHEAD_BYTES_MAX / bytes).max(1));
    tokio::task::spawn_blocking(move || {
        loop {
            let mut block = Vec::with_capacity(bytes);
            let read = (&file).take(bytes as u64).read_to_end(&mut block);
            let last = !matches!(read, Ok(1..));
            if sender.blocking_send(read.map(|_| block)).is_err() || last {
                break;
            }
        }
    });
    blocks
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn all(mut blocks: Blocks<'_>) -> io::Result<Vec<Vec<u8>>> {
        let mut all = Vec::new();
        loop {
            let block = blocks.next().await?;
            if block.is_empty() {
                return Ok(all);
            }
            all.push(block);
        }
    }

    #[tokio::test]
    async fn a_file_and_memory_come_in_the_same_blocks() {
        // More than is read ahead, so that the reader has to wait in between.
        let content: Vec<u8> = (0..(AHEAD_BYTES_MAX * 3 + 7))
            .map(|at| (at % 251) as u8)
            .collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&content).unwrap();
        for bytes in [64 << 10, AHEAD_BYTES_MAX, AHEAD_BYTES_MAX * 2] {
            let of_memory = all(Source::Memory(&content).blocks(bytes)).await.unwrap();
            let of_file = Source::File(file.reopen().unwrap()).blocks(bytes);
            assert!(of_memory == all(of_file).await.unwrap());
            assert!(of_memory.concat() == content);
            let (last, full) = of_memory.split_last().unwrap();
            assert!(full.iter().all(|block| block.len() == bytes));
            assert!(last.len() <= bytes);
        }
    }

    #[tokio::test]
    async fn nothing_is_no_block_at_all() {
        let file = tempfile::tempfile().unwrap();
        assert!(all(Source::File(file).blocks(8)).await.unwrap().is_empty());
        assert!(all(Source::Memory(&[]).blocks(8)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_an_error_and_not_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::open(folder.path()).unwrap();
        let error = all(Source::File(file).blocks(8)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
