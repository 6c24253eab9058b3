//! Blocks of a file: aligned subtrees of its BLAKE3 hash. A list of their
//! chaining values is checked against the content id, and then each block
//! against the list, so the id does not depend on how the file is cut.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::disk::Content;
use crate::entry::ContentId;

/// The smallest block: what a kill can waste of it is little, and it is long
/// enough for the hash to run at full speed.
pub const BLOCK_BYTES_MIN: u64 = 128 * 1024;

/// The largest block, so that a frame stays small and the window holds two.
pub const BLOCK_BYTES_MAX: u64 = 1024 * 1024;

/// Above this many blocks they grow, until they are at their largest.
const BLOCKS_WANTED_MAX: u64 = 16 * 1024;

/// A list is at most 32 MiB; larger files are refused with a problem line.
pub const BLOCKS_MAX: u64 = 1024 * 1024;

/// Values in one page of a list: a frame of 128 KiB.
pub const PAGE_VALUES: u64 = 4096;

/// How a file of a given size is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// The file's length.
    pub size: u64,
    /// Length of all blocks but the last.
    pub block_bytes: u64,
}

impl Geometry {
    /// The cut of a file; `None` when it is too large for a bounded list.
    pub fn of(size: u64) -> Option<Self> {
        let mut block_bytes = BLOCK_BYTES_MIN;
        while size.div_ceil(block_bytes) > BLOCKS_WANTED_MAX && block_bytes < BLOCK_BYTES_MAX {
            block_bytes *= 2;
        }
        (size.div_ceil(block_bytes) <= BLOCKS_MAX).then_some(Self { size, block_bytes })
    }

    /// How many blocks there are; none in an empty file.
    pub fn blocks(self) -> u64 {
        self.size.div_ceil(self.block_bytes)
    }

    /// Whether the content id alone verifies the only block.
    pub fn is_single(self) -> bool {
        self.size <= self.block_bytes
    }

    /// Where a block begins.
    pub fn offset(self, block: u64) -> u64 {
        block * self.block_bytes
    }

    /// How long a block is.
    pub fn len(self, block: u64) -> usize {
        (self.size - self.offset(block)).min(self.block_bytes) as usize
    }

    /// How many pages the list has.
    pub fn pages(self) -> u64 {
        self.blocks().div_ceil(PAGE_VALUES)
    }
}

/// The chaining values of a file's blocks, of a file with at least two.
#[derive(Debug, PartialEq, Eq)]
pub struct BlockList {
    /// How the file is cut.
    pub geometry: Geometry,
    /// One value a block.
    pub values: Vec<ChainingValue>,
}

impl BlockList {
    /// The content id that the values amount to.
    pub fn root(&self) -> ContentId {
        // The tree is left-full: a subtree's left child is the largest power
        // of two of blocks below its length.
        fn subtree(values: &[ChainingValue]) -> ChainingValue {
            match values {
                [one] => *one,
                _ => {
                    let (left, right) = values.split_at(left_len(values.len()));
                    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
                }
            }
        }
        let (left, right) = self.values.split_at(left_len(self.values.len()));
        let hash = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
        ContentId(*hash.as_bytes())
    }
}

fn left_len(values: usize) -> usize {
    values.next_power_of_two() / 2
}

/// The chaining value of one block of several.
pub fn chaining_value(offset: u64, bytes: &[u8]) -> ChainingValue {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// What hashing a file found.
#[derive(Debug)]
pub enum Hashed {
    /// All bytes were there.
    Whole {
        /// Of the whole content.
        id: ContentId,
        /// Of files with more than one block.
        list: Option<Arc<BlockList>>,
    },
    /// The file is shorter than it should be, or `go_on` said stop.
    Torn,
}

/// Hashes `size` bytes of a file on up to `threads` threads. `go_on` is asked
/// now and then and ends the work early when the file has changed anyway.
pub fn hash_file(
    file: &impl Content,
    geometry: Geometry,
    threads: usize,
    go_on: &(dyn Fn() -> bool + Sync),
) -> std::io::Result<Hashed> {
    if geometry.is_single() {
        let mut bytes = vec![0; geometry.size as usize];
        return match file.read_whole_at(&mut bytes, 0)? {
            false => Ok(Hashed::Torn),
            true => Ok(Hashed::Whole {
                id: ContentId(*blake3::hash(&bytes).as_bytes()),
                list: None,
            }),
        };
    }
    let blocks = geometry.blocks();
    // A run is long enough that threads rarely meet at the counter.
    const RUN_BLOCKS: u64 = 32;
    let threads = threads.clamp(1, blocks.div_ceil(RUN_BLOCKS) as usize);
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || -> std::io::Result<Option<Vec<(u64, ChainingValue)>>> {
        let mut bytes = vec![0; geometry.block_bytes as usize];
        let mut values = Vec::new();
        loop {
            let first = next.fetch_add(RUN_BLOCKS, std::sync::atomic::Ordering::Relaxed);
            if first >= blocks {
                return Ok(Some(values));
            }
            if !go_on() {
                return Ok(None);
            }
            for block in first..(first + RUN_BLOCKS).min(blocks) {
                let bytes = &mut bytes[..geometry.len(block)];
                if !file.read_whole_at(bytes, geometry.offset(block))? {
                    return Ok(None);
                }
                values.push((block, chaining_value(geometry.offset(block), bytes)));
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        // Where no more threads are to be had, this one does it all.
        let others: Vec<_> = (1..threads)
            .filter_map(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mine = work();
        let joined = others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|_| Err(std::io::Error::other("a hashing thread ended")))
        });
        std::iter::once(mine).chain(joined).collect()
    });
    let mut values = vec![[0; 32]; blocks as usize];
    for result in results {
        let Some(found) = result? else {
            return Ok(Hashed::Torn);
        };
        for (block, value) in found {
            values[block as usize] = value;
        }
    }
    let list = BlockList { geometry, values };
    Ok(Hashed::Whole {
        id: list.root(),
        list: Some(Arc::new(list)),
    })
}

/// The lists of the files hashed last, so that a large file is not hashed
/// again to be sent.
#[derive(Default)]
pub struct ListCache(Mutex<VecDeque<(ContentId, Arc<BlockList>)>>);

/// Bytes of lists that are kept: those of several files of gigabytes.
const CACHE_BYTES_MAX: usize = 2 * 1024 * 1024;

impl ListCache {
    /// Keeps a list, and drops the oldest ones above the bound.
    pub fn keep(&self, id: ContentId, list: Arc<BlockList>) {
        let mut lists = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        lists.retain(|(known, _)| *known != id);
        lists.push_back((id, list));
        let bytes = |lists: &VecDeque<(ContentId, Arc<BlockList>)>| {
            lists
                .iter()
                .map(|(_, list)| list.values.len() * 32)
                .sum::<usize>()
        };
        while lists.len() > 1 && bytes(&lists) > CACHE_BYTES_MAX {
            lists.pop_front();
        }
    }

    /// The list of a content, if it is still known.
    pub fn get(&self, id: ContentId) -> Option<Arc<BlockList>> {
        let lists = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        lists
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, list)| list.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_id_is_the_plain_hash_at_every_block_edge() {
        let block = BLOCK_BYTES_MIN;
        let sizes = [
            0,
            1,
            1024,
            1025,
            block - 1,
            block,
            block + 1,
            2 * block,
            2 * block + 1,
            3 * block - 1,
            5 * block,
            71 * block + 77,
        ];
        let dir = tempfile::tempdir().unwrap();
        for size in sizes {
            let content: Vec<u8> = (0..size).map(|n| (n * 31 + n / 997) as u8).collect();
            let name = dir.path().join("f");
            std::fs::write(&name, &content).unwrap();
            let geometry = Geometry::of(size).unwrap();
            let file = File::open(&name).unwrap();
            let Hashed::Whole { id, list } = hash_file(&file, geometry, 3, &|| true).unwrap()
            else {
                panic!("{size} was torn");
            };
            assert_eq!(id.0, *blake3::hash(&content).as_bytes(), "size {size}");
            assert_eq!(list.is_some(), size > block, "size {size}");
        }
    }

    #[test]
    fn a_file_that_shrinks_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("f");
        std::fs::write(&name, vec![1; 200_000]).unwrap();
        let file = File::open(&name).unwrap();
        let geometry = Geometry::of(300_000).unwrap();
        assert!(matches!(
            hash_file(&file, geometry, 2, &|| true).unwrap(),
            Hashed::Torn
        ));
    }

    #[test]
    fn lists_stay_bounded() {
        for size in [0, 1, BLOCK_BYTES_MIN, 1 << 30, 1 << 34, 1 << 40] {
            let geometry = Geometry::of(size).unwrap();
            assert!(geometry.blocks() <= BLOCKS_MAX);
            assert!(geometry.block_bytes <= BLOCK_BYTES_MAX);
        }
        assert_eq!(Geometry::of((1 << 40) + 1), None);
        assert_eq!(Geometry::of(u64::MAX), None);
    }
}
