//! Decides what to ask for next, within the window.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::active::{Active, Opened, Taken, open_blocks};
use super::{Deliver, Missed, Note, Target, Targets, Task, lock};
use crate::apply::Job;
use crate::entry::Body;
use crate::events::{Progress, Reporter};
use crate::part::{end_part, open_part};
use crate::share::Share;
use crate::transfer::blocks::Geometry;
use crate::trouble::told_apart;
use crate::wire::frame::{FrameKind, write_frame};

/// Versions open at once, for many small files to share the window.
const OPEN_MAX: usize = 256;

/// Blocks of versions open at once: 2 MiB of lists. A single version may have
/// more.
const OPEN_BLOCKS_MAX: u64 = 64 * 1024;

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
            } => return self.take_page(handle, page, &values),
            Note::Refused(handle, missed) => self.miss(handle, missed)?,
            Note::Checked(handle, page, Ok(present)) => {
                self.take_checked(handle, page, &present)?;
            }
            Note::Checked(handle, _, Err(error)) => self.miss(handle, Missed::Disk(error))?,
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
                let active = self.active.get(handle);
                active.is_some_and(Active::is_missing_blocks)
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
            .map_or(0, open_blocks);
        self.active.is_empty()
            || (self.active.len() < OPEN_MAX && self.open_blocks + blocks <= OPEN_BLOCKS_MAX)
    }

    fn ask_for_blocks(&mut self, handle: u32) -> io::Result<()> {
        let room = WINDOW_BYTES.saturating_sub(self.outstanding_bytes);
        let active = self.active.get_mut(&handle);
        let Some(run) = active.and_then(|active| active.next_run(room)) else {
            return Ok(());
        };
        self.outstanding_bytes += run.bytes;
        let count = run.count.to_be_bytes();
        write_frame(&mut self.out, FrameKind::Get, handle, run.first, &count)?;
        self.go_on(handle)
    }

    /// Opens the next page, or ends what is complete.
    fn go_on(&mut self, handle: u32) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        match active.open_next() {
            Some(Opened::List(page)) => {
                write_frame(&mut self.out, FrameKind::List, handle, page, &[])
            }
            Some(Opened::Zeros(page)) => {
                let target = active.target.clone();
                self.give(Task::Clear(handle, target, page))
            }
            None if active.is_complete() => self.finish(handle),
            None => Ok(()),
        }
    }

    fn give(&mut self, task: Task) -> io::Result<()> {
        let given = self.to_tasks.send(task);
        given.map_err(|_| io::ErrorKind::BrokenPipe.into())
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
        let target = Arc::new(Target {
            id,
            geometry,
            part,
            old: match geometry.is_single() {
                true => None,
                false => old_file(self.share, &job),
            },
            asked: Mutex::default(),
        });
        lock(self.targets).insert(handle, target.clone());
        let active = Active::new(job, target);
        self.open_blocks += open_blocks(geometry);
        let list_of_pages = active.list_of_pages();
        self.active.insert(handle, active);
        self.order.push_back(handle);
        match list_of_pages {
            Some(page) => write_frame(&mut self.out, FrameKind::List, handle, page, &[]),
            None => self.go_on(handle),
        }
    }

    fn take_page(&mut self, handle: u32, page: u64, values: &[u8]) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        match active.take_page(page, values) {
            Taken::Pages => self.go_on(handle),
            Taken::Unsound => self.miss(handle, Missed::Unsound),
            Taken::Broken => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer sent a page that cannot be",
            )),
            Taken::Page(page) => {
                let target = active.target.clone();
                let is_resumed = page.number == 0 && target.part.metadata()?.len() > 0;
                if is_resumed {
                    self.reporter.update(|activity| activity.recovering = true);
                }
                self.give(Task::Check(handle, target, page))
            }
        }
    }

    fn take_checked(&mut self, handle: u32, page: u64, present: &[bool]) -> io::Result<()> {
        self.reporter.update(|activity| activity.recovering = false);
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        let before = active.done;
        active.take_checked(page, present);
        self.reporter.in_parts(active.done - before);
        self.tell_if_due(handle);
        self.go_on(handle)
    }

    fn take_written(&mut self, handle: u32, block: u64) -> io::Result<()> {
        let active = self.active.get_mut(&handle);
        let Some(len) = active.and_then(|active| active.take_written(block)) else {
            return Ok(());
        };
        self.outstanding_bytes -= len;
        self.reporter.in_parts(len);
        self.tell_if_due(handle);
        self.go_on(handle)
    }

    fn finish(&mut self, handle: u32) -> io::Result<()> {
        self.tell(handle);
        let Some(active) = self.close(handle)? else {
            return Ok(());
        };
        let ended = end_part(&active.target.part, active.geometry().size);
        (self.deliver)(active.job, ended.map_err(Missed::Disk));
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
        self.open_blocks -= open_blocks(active.geometry());
        self.reporter.out_of_parts(active.done);
        self.order.retain(|other| *other != handle);
        lock(self.targets).remove(&handle);
        self.outstanding_bytes -= active.asked_bytes();
        write_frame(&mut self.out, FrameKind::Close, handle, 0, &[])?;
        Ok(Some(active))
    }

    fn tell_if_due(&mut self, handle: u32) {
        let told = self.active.get(&handle).and_then(|active| active.told);
        if told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY) {
            self.tell(handle);
        }
    }

    fn tell(&mut self, handle: u32) {
        let Some(active) = self.active.get_mut(&handle) else {
            return;
        };
        active.told = Some(Instant::now());
        // A file of one block has no progress; its end is told as complete.
        if !active.geometry().is_single() {
            let progress = Progress {
                size: active.geometry().size,
                have: active.have,
                done: active.done,
            };
            self.reporter.receive(&active.job.path, progress);
        }
    }

    fn is_stalled(&self) -> bool {
        let hashing: u64 = self.active.values().map(Active::hashing_bytes).sum();
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
