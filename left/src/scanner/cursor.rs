//! The records of the index in step with the walk over the disk.

use std::collections::VecDeque;

use super::PAGE_RECORDS;
use crate::index::{IndexError, Store};
use crate::path::{NAME_BYTES_MAX, RelPath};
use crate::record::Record;

/// The records of the index in step with the walk.
#[derive(Default)]
pub(super) struct Cursor {
    /// Only what is below is shown; of `None`, everything.
    top: Option<RelPath>,
    page: VecDeque<(RelPath, Record)>,
    last: Option<RelPath>,
    at_end: bool,
}

impl Cursor {
    /// The records below a folder.
    pub(super) fn below(top: Option<RelPath>) -> Self {
        Self {
            last: top.clone(),
            top,
            ..Self::default()
        }
    }

    pub(super) fn front(
        &mut self,
        index: &impl Store,
    ) -> Result<Option<&(RelPath, Record)>, IndexError> {
        if self.page.is_empty() && !self.at_end {
            // Below most paths that are asked for one by one there is nothing.
            let count = match self.top.is_some() && self.last == self.top {
                true => 1,
                false => PAGE_RECORDS,
            };
            self.page = index.records_after(self.last.as_ref(), count)?.into();
            if let Some((path, _)) = self.page.back() {
                self.last = Some(path.clone());
            }
            if let Some(top) = &self.top {
                let inside = self.page.partition_point(|(path, _)| path.is_below(top));
                self.page.truncate(inside);
            }
            self.at_end = self.page.is_empty();
        }
        Ok(self.page.front())
    }

    pub(super) fn pop(&mut self) -> Option<(RelPath, Record)> {
        self.page.pop_front()
    }
}

/// The greatest name there can be, but for names that begin with it.
const LAST_NAME: [u8; NAME_BYTES_MAX] = [0xff; NAME_BYTES_MAX];

/// Passes over everything below a folder of which nothing is known, or nothing
/// new.
pub(super) fn skip_below(
    cursor: &mut Cursor,
    index: &impl Store,
    folder: &RelPath,
) -> Result<(), IndexError> {
    let goes_on = cursor
        .page
        .back()
        .is_some_and(|(path, _)| path.is_below(folder));
    if goes_on && let Ok(last) = RelPath::below(Some(folder), &LAST_NAME) {
        // Pages of it need not be read. Should there be something even behind
        // this name, it is passed over as ever.
        cursor.page.clear();
        cursor.last = Some(last);
    }
    while let Some((path, _)) = cursor.front(index)? {
        if !path.is_below(folder) {
            break;
        }
        cursor.pop();
    }
    Ok(())
}
