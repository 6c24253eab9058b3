//! Where the holes of a file are.

use std::ops::Range;

use rustix::io::Errno;

use super::Content;

/// Answers which ranges of a file are holes, asked in ascending order.
pub struct Extents<'a, C> {
    file: &'a C,
    /// What is known to be data; between where it was asked and this is a hole.
    data: Range<u64>,
}

impl<'a, C: Content> Extents<'a, C> {
    /// Of this file.
    pub fn of(file: &'a C) -> Self {
        Self { file, data: 0..0 }
    }

    /// Whether there is no data in a range, so that all of it is zeros as far
    /// as the file goes.
    pub fn is_hole(&mut self, range: &Range<u64>) -> Result<bool, Errno> {
        if self.data.end <= range.start {
            let after = self.file.next_data(range.start)?;
            // Nothing up to the end of all files.
            self.data = after.unwrap_or(u64::MAX..u64::MAX);
        }
        Ok(range.end <= self.data.start)
    }
}
