//! The receiving side of a file connection: asks for what is missing, within a
//! window, verifies each block, and writes it into the part.
//!
//! One thread reads frames, two verify and write, and one decides what to ask
//! for next; all queues are as long as what can be outstanding, so the reader
//! never waits for something that waits for the reader.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::apply::Job;
use crate::entry::ContentId;
use crate::events::{Progress, Reporter};
use crate::part::{blocks_present, open_part};
use crate::share::Share;
use crate::transfer::blocks::{BlockList, Geometry, PAGE_VALUES, chaining_value};
use crate::wire::frame::{FrameKind, Header, read_header, write_frame};

/// Bytes asked for and not yet written. This is what a kill can waste; it
/// fills a gigabit link up to 16 ms of round trip.
pub const WINDOW_BYTES: u64 = 2 * 1024 * 1024;

/// Versions open at once, for many small files to share the window.
const OPEN_MAX: usize = 256;

/// Blocks of versions open at once: 2 MiB of lists. A single version may have
/// more.
const OPEN_BLOCKS_MAX: u64 = 64 * 1024;

/// Blocks in one request, so that an answer to another file never waits long.
const RUN_BLOCKS_MAX: u32 = 16;

/// Longer than all that can be outstanding: a note for each open file and
/// block, and the jobs the engine hands over.
const NOTES_MAX: usize = 4096;

/// Longer than the number of frames that can be outstanding.
const TASKS_MAX: usize = 1024;

/// A request that is not answered for this long ends the connection.
const STALL: Duration = Duration::from_secs(15);

/// A sender may have to hash a file before it can list its blocks, at worst
/// this fast.
const HASH_BYTES_PER_SECOND_MIN: u64 = 20 * 1024 * 1024;

/// At most ten lines of progress a second and file.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Blocks that fail their verification before the peer is not believed any more.
const LIES_MAX: u32 = 8;

/// Why a content did not arrive.
#[derive(Debug)]
pub enum Missed {
    /// The peer has another version by now, or none.
    Superseded,
    /// What the peer sent is not what it offered.
    Unsound,
    /// This side could not write.
    Disk(io::Error),
}

/// What the deciding thread is told.
pub enum Note {
    /// Get this.
    Fetch(Box<Job>),
    /// A page of a block list.
    Page {
        /// Of which version.
        handle: u32,
        /// Which page.
        page: u64,
        /// The values.
        values: Vec<u8>,
    },
    /// The sender refuses a version.
    Refused(u32),
    /// Which blocks the part already holds.
    Checked(u32, io::Result<Vec<bool>>),
    /// A block is in the part.
    Written(u32, u64),
    /// A block could not be used.
    Failed(u32, u64, Missed),
    /// The connection ended.
    Lost,
}

/// What becomes of the jobs.
pub type Deliver<'a> = &'a (dyn Fn(Job, Result<File, Missed>) + Sync);

/// A version on its way, shared by the threads.
struct Target {
    id: ContentId,
    geometry: Geometry,
    part: File,
    list: OnceLock<BlockList>,
}

type Targets = Mutex<HashMap<u32, Arc<Target>>>;

enum Task {
    Check(u32, Arc<Target>),
    Verify {
        handle: u32,
        target: Arc<Target>,
        block: u64,
        bytes: Vec<u8>,
    },
}

/// Makes the queue through which jobs come.
pub fn notes() -> (SyncSender<Note>, Receiver<Note>) {
    sync_channel(NOTES_MAX)
}

/// Receives until the connection ends.
pub fn receive(
    share: &Share,
    reporter: &Reporter,
    stream: &TcpStream,
    notes: (SyncSender<Note>, Receiver<Note>),
    deliver: Deliver<'_>,
) {
    let (to_notes, notes) = notes;
    let targets = Targets::default();
    let pool = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (to_tasks, tasks) = sync_channel::<Task>(TASKS_MAX);
        let tasks = Arc::new(Mutex::new(tasks));
        for _ in 0..2 {
            let (tasks, to_notes, pool) = (tasks.clone(), to_notes.clone(), &pool);
            scope.spawn(move || {
                loop {
                    let next = tasks
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .recv();
                    let Ok(task) = next else { return };
                    if to_notes.send(perform(task, reporter, pool)).is_err() {
                        return;
                    }
                }
            });
        }
        // Else a worker that ended would leave the reader waiting.
        drop(tasks);
        {
            let (to_notes, to_tasks, targets, pool) =
                (to_notes.clone(), to_tasks.clone(), &targets, &pool);
            scope.spawn(move || {
                let _ = read_frames(stream, targets, &to_notes, &to_tasks, pool);
                let _ = to_notes.send(Note::Lost);
            });
        }
        let mut decider = Decider {
            share,
            reporter,
            out: BufWriter::with_capacity(16 * 1024, stream),
            targets: &targets,
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
        };
        decider.run(&notes);
        reporter.update(|activity| activity.recovering = false);
        let _ = stream.shutdown(Shutdown::Both);
        drop(decider);
        // Nobody waits on a full queue once its reader is gone.
        drop(notes);
        drop(to_notes);
    });
}

fn read_frames(
    stream: &TcpStream,
    targets: &Targets,
    to_notes: &SyncSender<Note>,
    to_tasks: &SyncSender<Task>,
    pool: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(32 * 1024, stream);
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let Header {
            kind,
            handle,
            argument,
            payload_bytes,
        } = read_header(&mut input)?;
        let mut bytes = lock(pool).pop().unwrap_or_default();
        bytes.resize(payload_bytes as usize, 0);
        input.read_exact(&mut bytes)?;
        let target = lock(targets).get(&handle).cloned();
        let Some(target) = target else {
            // The version was closed while this was on its way.
            lock(pool).push(bytes);
            continue;
        };
        match kind {
            FrameKind::Data => {
                let fits = argument < target.geometry.blocks()
                    && bytes.len() == target.geometry.len(argument);
                if !fits {
                    return Err(broken("the peer sent a block that cannot be"));
                }
                let task = Task::Verify {
                    handle,
                    target,
                    block: argument,
                    bytes,
                };
                to_tasks.send(task).map_err(|_| gone())?;
            }
            FrameKind::Page => {
                let note = Note::Page {
                    handle,
                    page: argument,
                    values: bytes,
                };
                to_notes.send(note).map_err(|_| gone())?;
            }
            FrameKind::Gone | FrameKind::Stale => {
                to_notes.send(Note::Refused(handle)).map_err(|_| gone())?
            }
            FrameKind::Open | FrameKind::List | FrameKind::Get | FrameKind::Close => {
                return Err(broken("the peer asked where it should answer"));
            }
        }
    }
}

fn perform(task: Task, reporter: &Reporter, pool: &Mutex<Vec<Vec<u8>>>) -> Note {
    match task {
        Task::Check(handle, target) => {
            let present = match target.list.get() {
                Some(list) => blocks_present(&target.part, list),
                None => Ok(Vec::new()),
            };
            Note::Checked(handle, present)
        }
        Task::Verify {
            handle,
            target,
            block,
            bytes,
        } => {
            let offset = target.geometry.offset(block);
            let sound = if target.geometry.is_single() {
                *blake3::hash(&bytes).as_bytes() == target.id.0
            } else {
                let value = target
                    .list
                    .get()
                    .and_then(|list| list.values.get(block as usize));
                value.is_some_and(|value| chaining_value(offset, &bytes) == *value)
            };
            let note = if !sound {
                Note::Failed(handle, block, Missed::Unsound)
            } else if let Err(error) = target.part.write_all_at(&bytes, offset) {
                Note::Failed(handle, block, Missed::Disk(error))
            } else {
                reporter
                    .received_bytes
                    .fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Note::Written(handle, block)
            };
            let mut pool = lock(pool);
            if pool.len() < 16 {
                pool.push(bytes);
            }
            note
        }
    }
}

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

struct Decider<'a> {
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

impl Decider<'_> {
    fn run(&mut self, notes: &Receiver<Note>) {
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
            list: OnceLock::new(),
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
        if active.target.part.metadata()?.len() == 0 {
            return self.take_checked(handle, &[]);
        }
        let task = Task::Check(handle, active.target.clone());
        self.reporter.update(|activity| activity.recovering = true);
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
        active.ready = true;
        self.tell(handle);
        self.finish_if_complete(handle)
    }

    fn take_written(&mut self, handle: u32, block: u64) -> io::Result<()> {
        let Some(active) = self.active.get_mut(&handle) else {
            return Ok(());
        };
        // A block that nobody asked for was verified all the same, but counts
        // for nothing.
        if active.blocks.get(block as usize) != Some(&BlockState::Asked) {
            return Ok(());
        }
        active.blocks[block as usize] = BlockState::Present;
        active.left -= 1;
        let len = active.target.geometry.len(block) as u64;
        active.done += len;
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
        let part = active.target.part.try_clone();
        (self.deliver)(active.job, part.map_err(Missed::Disk));
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
