//! What a part already has, can have from an older version of the file, or has
//! by being a hole: all that is not worth asking the peer for.

use std::io;

use crate::disk::{Content, Extents};
use crate::transfer::blocks::{Page, chaining_value, zeros};

/// Which blocks of a page are in the part, once those are that `old` has in the
/// same place. Each is verified as it was read, so a file that changes meanwhile
/// does no harm. Blocks of zeros are made, as holes. `go_on` ends it early.
pub fn fill_page(
    part: &impl Content,
    old: Option<&impl Content>,
    page: &Page,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Vec<bool>> {
    let geometry = page.geometry;
    let mut part = Blocks::of(part)?;
    let mut old = old.map(Blocks::of).transpose()?;
    let mut present = vec![false; page.values.len()];
    for ((block, value), present) in page.blocks().zip(&mut present) {
        if !go_on() {
            break;
        }
        let range = geometry.range(block);
        if *value == zeros(range.end - range.start) {
            clear(&mut part, range.start, range.end)?;
            *present = true;
            continue;
        }
        if part.has(range.start, geometry.len(block), value)? {
            *present = true;
            continue;
        }
        // What cannot be read here can be received.
        if let Some(old) = &mut old
            && old
                .has(range.start, geometry.len(block), value)
                .unwrap_or(false)
        {
            part.file.write_whole_at(&old.bytes, range.start)?;
            *present = true;
        }
    }
    Ok(present)
}

/// Sees to it that there is nothing but zeros in a range of a part.
pub fn clear_range(part: &impl Content, range: std::ops::Range<u64>) -> io::Result<()> {
    clear(&mut Blocks::of(part)?, range.start, range.end)
}

/// Gives a part that ends in a hole its length.
pub fn end_part(part: &impl Content, size: u64) -> io::Result<()> {
    if part.stat()?.size < size {
        part.set_len(size)?;
    }
    Ok(())
}

fn clear(part: &mut Blocks<'_, impl Content>, start: u64, end: u64) -> io::Result<()> {
    // Past its end it will be a hole by getting its length.
    let range = start..end.min(part.len);
    if start < part.len && !part.extents.is_hole(&range)? {
        part.file.clear(range)?;
    }
    Ok(())
}

/// A file that is asked for blocks in ascending order.
struct Blocks<'a, C> {
    file: &'a C,
    len: u64,
    extents: Extents<'a, C>,
    bytes: Vec<u8>,
}

impl<'a, C: Content> Blocks<'a, C> {
    fn of(file: &'a C) -> io::Result<Self> {
        Ok(Self {
            file,
            len: file.stat()?.size,
            extents: Extents::of(file),
            bytes: Vec::new(),
        })
    }

    /// Whether a block that is not all zeros is there; then it is in `bytes`.
    fn has(&mut self, offset: u64, len: usize, value: &[u8; 32]) -> io::Result<bool> {
        let end = offset + len as u64;
        if end > self.len || self.extents.is_hole(&(offset..end))? {
            return Ok(false);
        }
        self.bytes.resize(len, 0);
        let whole = self.file.read_whole_at(&mut self.bytes, offset)?;
        Ok(whole && chaining_value(&self.bytes) == *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::blocks::{BLOCK_BYTES_MIN, Geometry};
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    const BLOCK: usize = BLOCK_BYTES_MIN as usize;

    fn file(blocks: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        for (n, byte) in blocks.iter().enumerate() {
            let bytes = [*byte; BLOCK];
            file.write_all_at(&bytes, (n * BLOCK) as u64).unwrap();
        }
        file
    }

    /// The only page of a file of blocks each full of one byte.
    fn page(blocks: &[u8]) -> Page {
        Page {
            geometry: Geometry::of((blocks.len() * BLOCK) as u64).unwrap(),
            number: 0,
            values: blocks
                .iter()
                .map(|n| chaining_value(&[*n; BLOCK]))
                .collect(),
        }
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![1; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let blocks = bytes.chunks(BLOCK);
        blocks
            .map(|block| {
                assert!(block.iter().all(|byte| *byte == block[0]));
                block[0]
            })
            .collect()
    }

    #[test]
    fn only_what_neither_part_nor_old_file_nor_a_hole_has_is_missing() {
        let part = file(&[1, 9, 9]);
        let old = file(&[5, 2, 0, 4, 4]);
        let present = fill_page(&part, Some(&old), &page(&[1, 2, 0, 4, 5, 0]), &|| true);
        assert_eq!(present.unwrap(), [true, true, true, true, false, true]);
        part.write_all_at(&[5; BLOCK], 4 * BLOCK as u64).unwrap();
        end_part(&part, 6 * BLOCK as u64).unwrap();
        assert_eq!(content(&part), [1, 2, 0, 4, 5, 0]);
    }

    #[test]
    fn what_is_to_be_zeros_becomes_a_hole_and_stays_one() {
        let part = file(&[7; 8]);
        part.sync_all().unwrap();
        let used = part.metadata().unwrap().blocks();
        for _ in 0..2 {
            let present = fill_page(&part, None::<&File>, &page(&[0; 8]), &|| true).unwrap();
            assert_eq!(present, [true; 8]);
            assert_eq!(content(&part), [0; 8]);
        }
        clear_range(&part, 0..1 << 40).unwrap();
        if Extents::of(&part).is_hole(&(0..BLOCK_BYTES_MIN)).unwrap() {
            assert!(part.metadata().unwrap().blocks() < used);
        } else {
            eprintln!("skipped: the file system of the temporary folder makes no holes");
        }
    }
}
