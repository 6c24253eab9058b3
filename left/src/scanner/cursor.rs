//! The records of the index in step with the walk over the disk.

use std::collections::VecDeque;

use super::PAGE_RECORDS;
use crate::index::{IndexError, Store};
use crate::path::RelPath;
use crate::record::Record;

/// The records of the index in step with the walk.
#[derive(Default)]
pub(super) struct Cursor {
    page: VecDeque<(RelPath, Record)>,
    last: Option<RelPath>,
    at_end: bool,
}

impl Cursor {
    pub(super) fn front(
        &mut self,
        index: &impl Store,
    ) -> Result<Option<&(RelPath, Record)>, IndexError> {
        if self.page.is_empty() && !self.at_end {
            self.page = index
                .records_after(self.last.as_ref(), PAGE_RECORDS)?
                .into();
            self.at_end = self.page.is_empty();
            if let Some((path, _)) = self.page.back() {
                self.last = Some(path.clone());
            }
        }
        Ok(self.page.front())
    }

    pub(super) fn pop(&mut self) -> Option<(RelPath, Record)> {
        self.page.pop_front()
    }
}

/// Passes over everything below a folder of which nothing is known.
pub(super) fn skip_below(
    cursor: &mut Cursor,
    index: &impl Store,
    folder: &RelPath,
) -> Result<(), IndexError> {
    while let Some((path, _)) = cursor.front(index)? {
        if !path.is_below(folder) {
            break;
        }
        cursor.pop();
    }
    Ok(())
}
