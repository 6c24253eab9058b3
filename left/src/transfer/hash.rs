//! Hashing files: on several threads, page by page, and without reading holes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blake3::hazmat::ChainingValue;

use super::blocks::{BlockList, Geometry, Page, chaining_value, root, subtree, zeros};
use crate::disk::{Content, Extents};
use crate::entry::ContentId;

/// Values of blocks that one list keeps: 2 MiB. Pages above are hashed once
/// more when they are asked for.
const KEPT_VALUES_MAX: usize = 64 * 1024;

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
    let mut extents = Extents::of(file);
    let mut list = BlockList {
        geometry,
        pages: Vec::with_capacity(geometry.pages() as usize),
        kept: Vec::new(),
    };
    let mut id = None;
    let mut kept = 0;
    for number in 0..geometry.pages() {
        let range = geometry.page_range(number);
        if extents.is_hole(&range)? && geometry.pages() > 1 {
            if !go_on() || file.stat()?.size < range.end {
                return Ok(Hashed::Torn);
            }
            list.pages.push(zeros(range.end - range.start));
            list.kept.push(None);
            continue;
        }
        let Some(page) = hash_page(file, geometry, number, threads, go_on)? else {
            return Ok(Hashed::Torn);
        };
        if geometry.pages() == 1 {
            id = Some(root(&page.values));
        }
        list.pages.push(subtree(&page.values));
        kept += page.values.len();
        list.kept
            .push((kept <= KEPT_VALUES_MAX).then(|| Arc::new(page)));
    }
    Ok(Hashed::Whole {
        id: id.unwrap_or_else(|| root(&list.pages)),
        list: Some(Arc::new(list)),
    })
}

/// Hashes the blocks of one page, as [`hash_file`]; `None` where that would be torn.
pub fn hash_page(
    file: &impl Content,
    geometry: Geometry,
    number: u64,
    threads: usize,
    go_on: &(dyn Fn() -> bool + Sync),
) -> std::io::Result<Option<Page>> {
    // A run is long enough that threads rarely meet at the counter.
    const RUN_BLOCKS: u64 = 32;
    let all = geometry.page(number);
    let threads = threads.clamp(1, (all.end - all.start).div_ceil(RUN_BLOCKS) as usize);
    let next = AtomicU64::new(all.start);
    let work = || -> std::io::Result<ControlFlow<(), Vec<(u64, ChainingValue)>>> {
        let mut extents = Extents::of(file);
        let mut has_holes = false;
        let mut bytes = Vec::new();
        let mut values = Vec::new();
        loop {
            let first = next.fetch_add(RUN_BLOCKS, Ordering::Relaxed);
            if first >= all.end {
                break;
            }
            if !go_on() {
                return Ok(ControlFlow::Break(()));
            }
            for block in first..(first + RUN_BLOCKS).min(all.end) {
                let range = geometry.range(block);
                if extents.is_hole(&range)? {
                    has_holes = true;
                    values.push((block, zeros(range.end - range.start)));
                    continue;
                }
                bytes.resize(geometry.len(block), 0);
                if !file.read_whole_at(&mut bytes, range.start)? {
                    return Ok(ControlFlow::Break(()));
                }
                values.push((block, chaining_value(&bytes)));
            }
        }
        // Past the end of a file that became shorter is a hole too.
        let end = geometry.page_range(number).end;
        if has_holes && file.stat()?.size < end {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(values))
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
    let mut values = vec![[0; 32]; (all.end - all.start) as usize];
    for result in results {
        let ControlFlow::Continue(found) = result? else {
            return Ok(None);
        };
        for (block, value) in found {
            values[(block - all.start) as usize] = value;
        }
    }
    Ok(Some(Page {
        geometry,
        number,
        values,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::blocks::BLOCK_BYTES_MIN;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn hash(file: &File) -> (ContentId, Option<Arc<BlockList>>) {
        let size = file.metadata().unwrap().len();
        let geometry = Geometry::of(size).unwrap();
        match hash_file(file, geometry, 3, &|| true).unwrap() {
            Hashed::Whole { id, list } => (id, list),
            Hashed::Torn => panic!("{size} bytes were torn"),
        }
    }

    #[test]
    fn the_id_is_the_hash_of_leaves_at_every_block_edge() {
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
        for size in sizes {
            let content: Vec<u8> = (0..size).map(|n| (n * 31 + n / 997) as u8).collect();
            let file = tempfile::tempfile().unwrap();
            file.write_all_at(&content, 0).unwrap();
            let (id, list) = hash(&file);
            let expected = match size > block {
                false => ContentId(*blake3::hash(&content).as_bytes()),
                true => {
                    let leaves = content.chunks(block as usize).map(chaining_value);
                    root(&leaves.collect::<Vec<_>>())
                }
            };
            assert_eq!(id, expected, "size {size}");
            assert_eq!(list.is_some(), size > block, "size {size}");
        }
    }

    #[test]
    fn a_file_that_shrinks_is_torn_with_and_without_holes() {
        let written = tempfile::tempfile().unwrap();
        written.write_all_at(&vec![1; 200_000], 0).unwrap();
        let hole = tempfile::tempfile().unwrap();
        hole.set_len(200_000).unwrap();
        for size in [300_000, 3 << 30] {
            let geometry = Geometry::of(size).unwrap();
            for file in [&written, &hole] {
                let hashed = hash_file(file, geometry, 2, &|| true).unwrap();
                assert!(matches!(hashed, Hashed::Torn), "{size}");
            }
        }
    }

    #[test]
    fn holes_and_zeros_have_one_id() {
        let len = 9 * BLOCK_BYTES_MIN + 5;
        let data = [7; 1000];
        let file = |is_sparse| {
            let file = tempfile::tempfile().unwrap();
            match is_sparse {
                true => file.set_len(len).unwrap(),
                false => file.write_all_at(&vec![0; len as usize], 0).unwrap(),
            }
            file.write_all_at(&data, 4 * BLOCK_BYTES_MIN - 10).unwrap();
            file
        };
        let (sparse, _) = hash(&file(true));
        let (written, _) = hash(&file(false));
        assert_eq!(sparse, written);
    }

    #[test]
    fn pages_of_a_file_that_no_memory_holds_are_hashed_again_as_they_were() {
        // Of 16 TiB; where the file system ends sooner, of what it has.
        let file = tempfile::tempfile().unwrap();
        let sizes = [1 << 44, (1 << 44) - 4096, (1 << 40) + 5];
        if !sizes.iter().any(|size| file.set_len(*size).is_ok()) {
            eprintln!("skipped: the file system of the temporary folder has no large files");
            return;
        }
        let size = file.metadata().unwrap().len();
        file.write_all_at(b"first", 5_000_000).unwrap();
        file.write_all_at(b"last", size - 4).unwrap();
        let (id, list) = hash(&file);
        let list = list.unwrap();
        assert_eq!(root(&list.pages), id);
        assert_eq!(list.kept.iter().flatten().count(), 2);
        for number in [0, 1, list.pages.len() as u64 - 1] {
            let page = hash_page(&file, list.geometry, number, 2, &|| true).unwrap();
            let value = subtree(&page.unwrap().values);
            assert_eq!(value, list.pages[number as usize]);
        }
    }
}
