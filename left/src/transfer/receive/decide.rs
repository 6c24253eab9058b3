//! Decides what to ask for next, within the window.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::{Deliver, Missed, Note, Target, Targets, Task, lock};
use crate::apply::Job;
use crate::entry::Body;
use crate::events::{Progress, Reporter};
use crate::part::open_part;
use crate::share::Share;
use crate::transfer::blocks::{BlockList, Geometry, PAGE_VALUES};
use crate::trouble::told_apart;
use crate::wire::frame::{FrameKind, write_frame};

/// Versions open at once, for many small files to share the window.
const OPEN_MAX: usize = 256;

/// Blocks of versions open at once: 2 MiB of lists. A single version may have
/// more.
const OPEN_BLOCKS_MAX: u64 = 64 * 1024;

/// Blocks in one request, so that an answer to another file never waits long.
const RUN_BLOCKS_MAX: u32 = 16;

/// A request that is not answered for this long ends the connection.
const STALL: Duration = Duration::from_secs(15);

/// A sender may have to hash a file before it can list its blocks, at worst
/// this fast.
const HASH_BYTES_PER_SECOND_MIN: u64 = 20 * 1024 * 1024;

/// At most ten lines of progress a second and file.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Blocks that fail their verification before the peer is not believed any more.
const LIES_MAX: u32 = 8;

/// Bytes asked for and not yet written. This is what a kill can waste; it
/// fills a gigabit link up to 16 ms of round trip.
pub const WINDOW_BYTES: u64 = 2 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockState {
    Missing,
    Asked,
    Present,
}

struct Active {
    job: Job,
    target: Arc<Target>,
    pages: Vec<Option<Vec<u8>>>,
    blocks: Vec<BlockState>,
    /// The list is known and the part is checked.
    ready: bool,
    next: u64,
    left: u64,
    have: u64,
    done: u64,
    told: Instant,
}

pub(super) struct Decider<'a> {
    share: &'a Share,
    reporter: &'a Reporter,
    out: BufWriter<&'a TcpStream>,
    targets: &'a Targets,
    to_tasks: SyncSender<Task>,
    deliver: Deliver<'a>,
    queue: VecDeque<Box<Job>>,
    active: HashMap<u32, Active>,
    /// Handles in the order in which they were opened.
    order: VecDeque<u32>,
    next_handle: u32,
    /// Blocks of all open versions, which is what their lists cost.
    open_blocks: u64,
    outstanding_bytes: u64,
    last_answer: Instant,
    lies: u32,
}

impl<'a> Decider<'a> {
    pub(super) fn new(
        share: &'a Share,
        reporter: &'a Reporter,
        stream: &'a TcpStream,
        targets: &'a Targets,
        to_tasks: SyncSender<Task>,
        deliver: Deliver<'a>,
    ) -> Self {
        Self {
            share,
            reporter,
            out: BufWriter::with_capacity(16 * 1024, stream),
            targets,
            to_tasks,
            deliver,
            queue: VecDeque::new(),
            active: HashMap::new(),
            order: VecDeque::new(),
            next_handle: 0,
            open_blocks: 0,
            outstanding_bytes: 0,
            last_answer: Instant::now(),
            lies: 0,
        }
    }
    pub(super) fn run(&mut self, notes: &Receiver<Note>) {
        loop {
            let first = match notes.recv_timeout(Duration::from_secs(1)) {
                Ok(note) => Some(note),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for note in first.into_iter().chain(notes.try_iter()) {
                if matches!(note, Note::Lost) || self.take(note).is_err() {
                    return;
                }
            }
            if self.ask().is_err() || self.is_stalled() {
                return;
            }
        }
    }

    fn take(&mut self, note: Note) -> io::Result<()> {
        if !matches!(note, Note::Fetch(_)) {
            self.last_answer = Instant::now();
        }
        match note {
            Note::Fetch(job) => self.queue.push_back(job),
            Note::Page {
                handle,
                page,
                values,
            } => return self.take_page(handle, page, values),
            Note::Refused(handle) => self.miss(handle, Missed::Superseded)?,
            Note::Checked(handle, Ok(present)) => self.take_checked(handle, &present)?,
            Note::Checked(handle, Err(error)) => self.miss(handle, Missed::Disk(error))?,
            Note::Written(handle, block) => self.take_written(handle, block)?,
            Note::Failed(handle, _, missed) => {
                if matches!(missed, Missed::Unsound) {
                    self.lies += 1;
                    if self.lies > LIES_MAX {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "too many unsound blocks",
                        ));
                    }
                }
                self.miss(handle, missed)?;
            }
            Note::Lost => {}
        }
        Ok(())
    }

    /// Opens versions and asks for blocks until the window is full.
    fn ask(&mut self) -> io::Result<()> {
        while self.outstanding_bytes < WINDOW_BYTES {
            let waiting = self.order.iter().copied().find(|handle| {
                self.active
                    .get(handle)
                    .is_some_and(|active| active.ready && active.next < active.blocks.len() as u64)
            });
            match waiting {
                Some(handle) => self.ask_for_blocks(handle)?,
                None if self.has_room_for_next() => match self.queue.pop_front() {
                    Some(job) => self.open(*job)?,
                    None => break,
                },
                None => break,
            }
        }
        self.out.flush()
    }

    /// Whether the next version can be opened too: lists of several huge files
    /// at once would fill the memory.
    fn has_room_for_next(&self) -> bool {
        let next = self.queue.front().and_then(|job| job.content());
        let blocks = next
            .and_then(|(_, size)| Geometry::of(size))
            .map_or(0, Geometry::blocks);
        self.active.is_empty()
            || (self.active.len() < OPEN_MAX && self.open_blocks + blocks <= OPEN_BLOCKS_MAX)
    }

    fn ask_for_blocks(&mut self, handle: u32) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        let len = active.blocks.len() as u64;
        while active.next < len && active.blocks[active.next as usize] != BlockState::Missing {
            active.next += 1;
        }
        let first = active.next;
        let mut count = 0u32;
        while active.next < len
            && active.blocks[active.next as usize] == BlockState::Missing
            && count < RUN_BLOCKS_MAX
            && self.outstanding_bytes < WINDOW_BYTES
        {
            active.blocks[active.next as usize] = BlockState::Asked;
            lock(&active.target.asked).insert(active.next);
            self.outstanding_bytes += active.target.geometry.len(active.next) as u64;
            active.next += 1;
            count += 1;
        }
        if count > 0 {
            write_frame(
                &mut self.out,
                FrameKind::Get,
                handle,
                first,
                &count.to_be_bytes(),
            )?;
        }
        Ok(())
    }

    fn open(&mut self, job: Job) -> io::Result<()> {
        let content = job
            .content()
            .and_then(|(id, size)| Some((id, Geometry::of(size)?, job.part()?)));
        let Some((id, geometry, part)) = content else {
            (self.deliver)(job, Err(Missed::Superseded));
            return Ok(());
        };
        let part = match open_part(self.share, part) {
            Ok(part) => part,
            Err(error) => {
                let error = told_apart(self.share, error);
                (self.deliver)(job, Err(Missed::Disk(error)));
                return Ok(());
            }
        };
        if self.active.is_empty() {
            self.last_answer = Instant::now();
        }
        let handle = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1);
        let payload = [&id.0[..], job.path.as_bytes()].concat();
        write_frame(
            &mut self.out,
            FrameKind::Open,
            handle,
            geometry.size,
            &payload,
        )?;
        let single = geometry.is_single();
        if !single {
            for page in 0..geometry.pages() {
                write_frame(&mut self.out, FrameKind::List, handle, page, &[])?;
            }
        }
        let target = Arc::new(Target {
            id,
            geometry,
            part,
            old: if single {
                None
            } else {
                old_file(self.share, &job)
            },
            list: OnceLock::new(),
            asked: Mutex::default(),
        });
        lock(self.targets).insert(handle, target.clone());
        let active = Active {
            job,
            target,
            pages: vec![None; if single { 0 } else { geometry.pages() as usize }],
            blocks: vec![BlockState::Missing; geometry.blocks() as usize],
            ready: single,
            next: 0,
            left: geometry.blocks(),
            have: 0,
            done: 0,
            told: Instant::now(),
        };
        self.open_blocks += geometry.blocks();
        self.active.insert(handle, active);
        self.order.push_back(handle);
        Ok(())
    }

    fn take_page(&mut self, handle: u32, page: u64, values: Vec<u8>) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        let geometry = active.target.geometry;
        let broken = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer sent a page that cannot be",
            )
        };
        if page >= geometry.pages() {
            return Err(broken());
        }
        let wanted = (geometry.blocks() - page * PAGE_VALUES).min(PAGE_VALUES);
        let slot = active.pages.get_mut(page as usize);
        let Some(slot) = slot.filter(|slot| slot.is_none() && values.len() as u64 == wanted * 32)
        else {
            return Err(broken());
        };
        *slot = Some(values);
        if active.pages.iter().any(Option::is_none) {
            return Ok(());
        }
        let pages = std::mem::take(&mut active.pages);
        let values = pages
            .iter()
            .flatten()
            .flat_map(|page| page.as_chunks::<32>().0)
            .copied()
            .collect();
        let list = BlockList { geometry, values };
        // No block is asked for before the list is known to be the content's.
        if list.root() != active.target.id {
            return self.miss(handle, Missed::Unsound);
        }
        let _ = active.target.list.set(list);
        let is_resumed = active.target.part.metadata()?.len() > 0;
        if !is_resumed && active.target.old.is_none() {
            return self.take_checked(handle, &[]);
        }
        let task = Task::Check(handle, active.target.clone());
        if is_resumed {
            self.reporter.update(|activity| activity.recovering = true);
        }
        self.to_tasks
            .send(task)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn take_checked(&mut self, handle: u32, present: &[bool]) -> io::Result<()> {
        self.reporter.update(|activity| activity.recovering = false);
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        for (block, _) in present.iter().enumerate().filter(|(_, present)| **present) {
            active.blocks[block] = BlockState::Present;
            active.left -= 1;
            active.have += active.target.geometry.len(block as u64) as u64;
        }
        active.done = active.have;
        self.reporter.in_parts(active.have);
        active.ready = true;
        self.tell(handle);
        self.finish_if_complete(handle)
    }

    fn take_written(&mut self, handle: u32, block: u64) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        if active.blocks.get(block as usize) != Some(&BlockState::Asked) {
            return Ok(());
        }
        active.blocks[block as usize] = BlockState::Present;
        active.left -= 1;
        let len = active.target.geometry.len(block) as u64;
        active.done += len;
        self.reporter.in_parts(len);
        self.outstanding_bytes -= len;
        if active.told.elapsed() >= PROGRESS_EVERY {
            self.tell(handle);
        }
        self.finish_if_complete(handle)
    }

    fn finish_if_complete(&mut self, handle: u32) -> io::Result<()> {
        if !self
            .active
            .get(&handle)
            .is_some_and(|active| active.ready && active.left == 0)
        {
            return Ok(());
        }
        self.tell(handle);
        let Some(active) = self.close(handle)? else {
            return Ok(());
        };
        (self.deliver)(active.job, Ok(()));
        Ok(())
    }

    fn miss(&mut self, handle: u32, missed: Missed) -> io::Result<()> {
        if let Some(active) = self.close(handle)? {
            (self.deliver)(active.job, Err(missed));
        }
        Ok(())
    }

    fn close(&mut self, handle: u32) -> io::Result<Option<Active>> {
        let Some(active) = self.active.remove(&handle) else {
            return Ok(None);
        };
        self.open_blocks -= active.target.geometry.blocks();
        self.reporter.out_of_parts(active.done);
        self.order.retain(|other| *other != handle);
        lock(self.targets).remove(&handle);
        for (block, state) in (0u64..).zip(&active.blocks) {
            if *state == BlockState::Asked {
                self.outstanding_bytes -= active.target.geometry.len(block) as u64;
            }
        }
        write_frame(&mut self.out, FrameKind::Close, handle, 0, &[])?;
        Ok(Some(active))
    }

    fn tell(&mut self, handle: u32) {
        let Some(active) = self.active.get_mut(&handle) else {
            return;
        };
        active.told = Instant::now();
        // A file of one block has no progress; its end is told as complete.
        if !active.target.geometry.is_single() {
            let progress = Progress {
                size: active.target.geometry.size,
                have: active.have,
                done: active.done,
            };
            self.reporter.receive(&active.job.path, progress);
        }
    }

    fn is_stalled(&self) -> bool {
        let hashing: u64 = self
            .active
            .values()
            .filter(|active| !active.ready)
            .map(|active| active.target.geometry.size)
            .sum();
        let patience = STALL + Duration::from_secs(hashing / HASH_BYTES_PER_SECOND_MIN);
        !self.active.is_empty() && self.last_answer.elapsed() > patience
    }
}

impl Drop for Decider<'_> {
    fn drop(&mut self) {
        let done = self.active.values().map(|active| active.done);
        self.reporter.out_of_parts(done.sum());
    }
}

/// The file that is at the path of a job now, if one is known to be there.
/// Whether it still is that version does not matter: each block is verified.
fn old_file(share: &Share, job: &Job) -> Option<File> {
    match &job.known.as_ref()?.entry.body {
        Body::File { size, .. } if *size > 0 => share.open_file(&job.path).ok(),
        _ => None,
    }
}
