//! Blocks of a file, and the content id that they amount to: the root of a
//! BLAKE3 tree whose leaves are each hashed as if the file began there. So a
//! block has one value wherever it lies, a hole costs no hashing, and the id does
//! not depend on how the file is cut.
//!
//! A list of blocks comes in pages, each an aligned subtree: the values of the
//! pages are checked against the content id, a page against its value, and each
//! block against its page. Only a few pages are in memory at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

use blake3::Hasher;
use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::entry::ContentId;

/// The smallest block: what a kill can waste of it is little, and it is long
/// enough for the hash to run at full speed. It is a leaf of the tree.
pub const BLOCK_BYTES_MIN: u64 = 128 * 1024;

/// The largest block, so that a frame stays small and the window holds two.
pub const BLOCK_BYTES_MAX: u64 = 1024 * 1024;

/// Above this many blocks they grow, until they are at their largest.
const BLOCKS_WANTED_MAX: u64 = 16 * 1024;

/// Values in one page of a list: a frame of 128 KiB.
pub const PAGE_VALUES: u64 = 4096;

/// The values of the pages are a page too; so files end at 16 TiB, as those of
/// ext4 do. Larger ones are refused with a problem line.
pub const BLOCKS_MAX: u64 = PAGE_VALUES * PAGE_VALUES;

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

    /// Where a block lies.
    pub fn range(self, block: u64) -> Range<u64> {
        self.offset(block)..self.offset(block) + self.len(block) as u64
    }

    /// How many pages the list has.
    pub fn pages(self) -> u64 {
        self.blocks().div_ceil(PAGE_VALUES)
    }

    /// Which blocks a page lists.
    pub fn page(self, page: u64) -> Range<u64> {
        page * PAGE_VALUES..((page + 1) * PAGE_VALUES).min(self.blocks())
    }

    /// Where the blocks of a page lie.
    pub fn page_range(self, page: u64) -> Range<u64> {
        let blocks = self.page(page);
        self.offset(blocks.start)..self.range(blocks.end - 1).end
    }
}

/// The chaining values of the blocks of one page, of a file with at least two.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// How the file is cut.
    pub geometry: Geometry,
    /// Which page.
    pub number: u64,
    /// One value a block.
    pub values: Vec<ChainingValue>,
}

impl Page {
    /// The blocks of the page and their values.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &ChainingValue)> {
        self.geometry.page(self.number).zip(&self.values)
    }
}

/// What is known of the blocks of a file with at least two: the values of the
/// pages, and of those pages that fit and are not all zeros the values of
/// their blocks too.
#[derive(Debug)]
pub struct BlockList {
    /// How the file is cut.
    pub geometry: Geometry,
    /// One value a page.
    pub pages: Vec<ChainingValue>,
    /// Those of the blocks.
    pub kept: Vec<Option<Arc<Page>>>,
}

impl BlockList {
    fn kept_bytes(&self) -> usize {
        let pages = self.kept.iter().flatten();
        (self.pages.len() + pages.map(|page| page.values.len()).sum::<usize>()) * 32
    }
}

// The tree is left-full: a subtree's left child is the largest power of two of
// leaves below its length.
fn left_len(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// The chaining value of the subtree over some subtrees.
pub fn subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [one] => *one,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The content id over at least two subtrees.
pub fn root(values: &[ChainingValue]) -> ContentId {
    let (left, right) = values.split_at(left_len(values.len()));
    let hash = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
    ContentId(*hash.as_bytes())
}

/// The chaining value of one block of several.
pub fn chaining_value(bytes: &[u8]) -> ChainingValue {
    let leaf = BLOCK_BYTES_MIN as usize;
    if bytes.len() <= leaf {
        return Hasher::new().update(bytes).finalize_non_root();
    }
    let (left, right) = bytes.split_at(left_len(bytes.len().div_ceil(leaf)) * leaf);
    merge_subtrees_non_root(&chaining_value(left), &chaining_value(right), Mode::Hash)
}

/// The chaining value of so many zeros; there is at least one.
pub fn zeros(len: u64) -> ChainingValue {
    /// As many as the largest file has, doubled from level to level.
    const LEVELS: usize = 28;
    static FULL: OnceLock<[ChainingValue; LEVELS]> = OnceLock::new();
    let leaves = len.div_ceil(BLOCK_BYTES_MIN);
    if leaves.is_power_of_two() && len.is_multiple_of(BLOCK_BYTES_MIN) {
        let full = FULL.get_or_init(|| {
            // Not a constant, which would be part of the program.
            let mut below = chaining_value(&vec![0; BLOCK_BYTES_MIN as usize]);
            std::array::from_fn(|_| {
                let value = below;
                below = merge_subtrees_non_root(&value, &value, Mode::Hash);
                value
            })
        });
        return full[(leaves.ilog2() as usize).min(LEVELS - 1)];
    }
    if leaves == 1 {
        return chaining_value(&vec![0; len as usize]);
    }
    let left = leaves.next_power_of_two() / 2 * BLOCK_BYTES_MIN;
    merge_subtrees_non_root(&zeros(left), &zeros(len - left), Mode::Hash)
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
                .map(|(_, list)| list.kept_bytes())
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

    #[test]
    fn lists_stay_bounded() {
        for size in [0, 1, BLOCK_BYTES_MIN, 1 << 30, 1 << 34, 1 << 40, 1 << 44] {
            let geometry = Geometry::of(size).unwrap();
            assert!(geometry.blocks() <= BLOCKS_MAX);
            assert!(geometry.pages() <= PAGE_VALUES);
            assert!(geometry.block_bytes <= BLOCK_BYTES_MAX);
        }
        assert_eq!(Geometry::of((1 << 44) + 1), None);
        assert_eq!(Geometry::of(u64::MAX), None);
    }

    #[test]
    fn the_value_of_zeros_is_that_of_bytes_that_are_zero() {
        let leaf = BLOCK_BYTES_MIN;
        for len in [
            1,
            1000,
            leaf - 1,
            leaf,
            leaf + 1,
            2 * leaf,
            3 * leaf,
            8 * leaf - 1,
        ] {
            let bytes = vec![0; len as usize];
            assert_eq!(zeros(len), chaining_value(&bytes), "{len} bytes");
        }
        // What no memory holds, put together from what is in it.
        let half = zeros(1 << 43);
        assert_eq!(zeros(1 << 44), subtree(&[half, half]));
    }

    #[test]
    fn a_subtree_is_the_same_however_it_is_cut() {
        let bytes: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
        let values: Vec<_> = bytes
            .chunks(BLOCK_BYTES_MIN as usize)
            .map(chaining_value)
            .collect();
        assert_eq!(subtree(&values), chaining_value(&bytes));
        let pairs: Vec<_> = values.chunks(2).map(subtree).collect();
        assert_eq!(subtree(&pairs), chaining_value(&bytes));
        assert_eq!(root(&pairs), root(&values));
    }

    #[test]
    fn of_many_blocks_the_last_lists_alone_are_kept() {
        let geometry = Geometry::of(1 << 30).unwrap();
        let list = || {
            let page = |number| Page {
                geometry,
                number,
                values: vec![[1; 32]; PAGE_VALUES as usize],
            };
            Arc::new(BlockList {
                geometry,
                pages: vec![[1; 32]; 2],
                kept: vec![Some(Arc::new(page(0))), Some(Arc::new(page(1)))],
            })
        };
        let cache = ListCache::default();
        for n in 0..20 {
            cache.keep(ContentId([n; 32]), list());
        }
        assert!(cache.get(ContentId([0; 32])).is_none());
        assert!(cache.get(ContentId([19; 32])).is_some());
    }
}
