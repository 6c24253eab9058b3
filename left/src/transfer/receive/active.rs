//! How far a version on its way is: which pages of its list are open, and which
//! of their blocks are missing. A page is opened when all of the one before is
//! asked for, so that of a large file a few pages are known at a time.

use std::sync::Arc;
use std::time::Instant;

use blake3::hazmat::ChainingValue;

use super::{Target, lock};
use crate::apply::Job;
use crate::transfer::blocks::{Geometry, PAGE_VALUES, Page, root, subtree, zeros};

/// Pages open at once: one that is written, and one that is asked for.
const PAGES_MAX: usize = 2;

/// Blocks in one request, so that an answer to another file never waits long.
const RUN_BLOCKS_MAX: u32 = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockState {
    Missing,
    Asked,
    Present,
}

/// Blocks of a file that are known at once, which is what it costs.
pub(super) fn open_blocks(geometry: Geometry) -> u64 {
    let pages = if geometry.pages() > 1 {
        geometry.pages()
    } else {
        0
    };
    pages + geometry.blocks().min(PAGES_MAX as u64 * PAGE_VALUES)
}

pub(super) struct Active {
    pub(super) job: Job,
    pub(super) target: Arc<Target>,
    /// Of the pages, of a file that has several, once they are known.
    values: Vec<ChainingValue>,
    sections: Vec<Section>,
    next_page: u64,
    /// Bytes that need not be received.
    pub(super) have: u64,
    /// Bytes that are in the part.
    pub(super) done: u64,
    pub(super) told: Option<Instant>,
}

/// One page.
struct Section {
    number: u64,
    stage: Stage,
    blocks: Vec<BlockState>,
    /// No block before this one is missing.
    next: usize,
    /// Blocks that are not present.
    left: usize,
}

enum Stage {
    /// Its values are on their way.
    Listed,
    /// The part is looked at.
    Checked(Arc<Page>),
    /// What is missing is known.
    Ready(Arc<Page>),
}

/// What has to be done about a page that is now open.
pub(super) enum Opened {
    /// Ask for its values.
    List(u64),
    /// It is all zeros.
    Zeros(u64),
}

/// What came of the values of a page.
pub(super) enum Taken {
    /// They are those of the pages.
    Pages,
    /// The part is to be looked at.
    Page(Arc<Page>),
    /// They are not those of the content.
    Unsound,
    /// Nobody asked for them.
    Broken,
}

/// Blocks to ask for.
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) bytes: u64,
}

impl Active {
    pub(super) fn new(job: Job, target: Arc<Target>) -> Self {
        let mut active = Self {
            job,
            target,
            values: Vec::new(),
            sections: Vec::new(),
            next_page: 0,
            have: 0,
            done: 0,
            told: None,
        };
        let geometry = active.geometry();
        if geometry.is_single() {
            // It is verified by the content id itself.
            let values = vec![active.target.id.0];
            let page = Page {
                geometry,
                number: 0,
                values,
            };
            active.next_page = 1;
            active.sections.push(Section {
                number: 0,
                stage: Stage::Ready(Arc::new(page)),
                blocks: vec![BlockState::Missing],
                next: 0,
                left: 1,
            });
        }
        active
    }

    pub(super) fn geometry(&self) -> Geometry {
        self.target.geometry
    }

    /// Which page has to be asked for before all others: that of the pages.
    pub(super) fn list_of_pages(&self) -> Option<u64> {
        let pages = self.geometry().pages();
        (pages > 1 && self.values.is_empty()).then_some(pages)
    }

    /// Opens the next page, if it is its turn.
    pub(super) fn open_next(&mut self) -> Option<Opened> {
        let geometry = self.geometry();
        let may = self.list_of_pages().is_none()
            && self.next_page < geometry.pages()
            && self.sections.len() < PAGES_MAX
            && self.sections.iter().all(Section::is_asked);
        if !may {
            return None;
        }
        let number = self.next_page;
        self.next_page += 1;
        let range = geometry.page_range(number);
        let known = self.values.get(number as usize);
        let is_zeros = known.is_some_and(|value| *value == zeros(range.end - range.start));
        self.sections.push(Section {
            number,
            stage: Stage::Listed,
            blocks: Vec::new(),
            next: 0,
            left: 0,
        });
        Some(match is_zeros {
            true => Opened::Zeros(number),
            false => Opened::List(number),
        })
    }

    /// Takes the values of a page. They are known to be the content's before any
    /// block is asked for.
    pub(super) fn take_page(&mut self, number: u64, values: &[u8]) -> Taken {
        let geometry = self.geometry();
        let (values, rest) = values.as_chunks::<32>();
        if !rest.is_empty() {
            return Taken::Broken;
        }
        let values = values.to_vec();
        if Some(number) == self.list_of_pages() {
            if values.len() as u64 != geometry.pages() {
                return Taken::Broken;
            }
            if root(&values) != self.target.id {
                return Taken::Unsound;
            }
            self.values = values;
            return Taken::Pages;
        }
        let awaited = self
            .sections
            .iter_mut()
            .find(|section| section.number == number && matches!(section.stage, Stage::Listed));
        let Some(section) = awaited else {
            return Taken::Broken;
        };
        let blocks = geometry.page(number);
        if values.len() as u64 != blocks.end - blocks.start {
            return Taken::Broken;
        }
        let is_sound = match self.values.get(number as usize) {
            Some(value) => subtree(&values) == *value,
            None => root(&values) == self.target.id,
        };
        if !is_sound {
            return Taken::Unsound;
        }
        let page = Arc::new(Page {
            geometry,
            number,
            values,
        });
        section.stage = Stage::Checked(page.clone());
        Taken::Page(page)
    }

    /// Which blocks of a page need not be received.
    pub(super) fn take_checked(&mut self, number: u64, present: &[bool]) {
        let geometry = self.geometry();
        let awaited = self
            .sections
            .iter()
            .position(|known| known.number == number);
        let Some(at) = awaited else { return };
        let section = &mut self.sections[at];
        let here = geometry.page(number).zip(present);
        let here: u64 = here
            .filter(|(_, present)| **present)
            .map(|(block, _)| geometry.len(block) as u64)
            .sum();
        self.have += here;
        self.done += here;
        section.left = present.iter().filter(|present| !**present).count();
        match std::mem::replace(&mut section.stage, Stage::Listed) {
            Stage::Checked(page) if section.left > 0 => {
                let state = |present: &bool| match present {
                    true => BlockState::Present,
                    false => BlockState::Missing,
                };
                section.blocks = present.iter().map(state).collect();
                section.stage = Stage::Ready(page);
            }
            // All of it is there.
            _ => drop(self.sections.remove(at)),
        }
    }

    /// Whether there is something to ask for.
    pub(super) fn is_missing_blocks(&self) -> bool {
        self.sections
            .iter()
            .any(|section| matches!(section.stage, Stage::Ready(_)) && !section.is_asked())
    }

    /// The next blocks to ask for, of about so many bytes; they count as asked
    /// for from now on.
    pub(super) fn next_run(&mut self, bytes_max: u64) -> Option<Run> {
        let geometry = self.geometry();
        let mut asked = lock(&self.target.asked);
        for section in &mut self.sections {
            let Stage::Ready(page) = &section.stage else {
                continue;
            };
            let page = page.clone();
            section.pass_asked();
            let first = geometry.page(section.number).start + section.next as u64;
            let mut run = Run {
                first,
                count: 0,
                bytes: 0,
            };
            while section.blocks.get(section.next) == Some(&BlockState::Missing)
                && run.count < RUN_BLOCKS_MAX
                && run.bytes < bytes_max
            {
                let block = first + u64::from(run.count);
                section.blocks[section.next] = BlockState::Asked;
                asked.insert(block, page.values[section.next]);
                run.bytes += geometry.len(block) as u64;
                run.count += 1;
                section.next += 1;
            }
            section.pass_asked();
            if run.count > 0 {
                return Some(run);
            }
        }
        None
    }

    /// Notes that a block is in the part; answers its length, if it was on its way.
    pub(super) fn take_written(&mut self, block: u64) -> Option<u64> {
        let geometry = self.geometry();
        let number = block / PAGE_VALUES;
        let at = self
            .sections
            .iter()
            .position(|known| known.number == number)?;
        let section = &mut self.sections[at];
        let state = section.blocks.get_mut((block % PAGE_VALUES) as usize)?;
        if *state != BlockState::Asked {
            return None;
        }
        *state = BlockState::Present;
        section.left -= 1;
        if section.left == 0 {
            self.sections.remove(at);
        }
        let len = geometry.len(block) as u64;
        self.done += len;
        Some(len)
    }

    /// Whether all of the file is in the part.
    pub(super) fn is_complete(&self) -> bool {
        self.sections.is_empty() && self.next_page == self.geometry().pages()
    }

    /// Bytes of blocks that are on their way.
    pub(super) fn asked_bytes(&self) -> u64 {
        let geometry = self.geometry();
        let sections = self.sections.iter();
        sections
            .flat_map(|section| geometry.page(section.number).zip(&section.blocks))
            .filter(|(_, state)| **state == BlockState::Asked)
            .map(|(block, _)| geometry.len(block) as u64)
            .sum()
    }

    /// Bytes that one of the sides may have to hash before anything goes on.
    pub(super) fn hashing_bytes(&self) -> u64 {
        let geometry = self.geometry();
        if self.list_of_pages().is_some() {
            return geometry.size;
        }
        let waiting = self.sections.iter().filter(|section| !section.is_ready());
        waiting
            .map(|section| geometry.page_range(section.number))
            .map(|range| range.end - range.start)
            .sum()
    }
}

impl Section {
    fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    fn is_asked(&self) -> bool {
        self.is_ready() && self.next == self.blocks.len()
    }

    fn pass_asked(&mut self) {
        while matches!(self.blocks.get(self.next), Some(state) if *state != BlockState::Missing) {
            self.next += 1;
        }
    }
}
