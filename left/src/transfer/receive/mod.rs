//! The receiving side of a file connection: asks for what is missing, within a
//! window, verifies each block, and writes it into the part.
//!
//! One thread reads frames, two verify and write, and one decides what to ask
//! for next; all queues are as long as what can be outstanding, so the reader
//! never waits for something that waits for the reader.

mod active;
mod decide;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use blake3::hazmat::ChainingValue;

use decide::Decider;

use crate::apply::Job;
use crate::entry::ContentId;
use crate::events::Reporter;
use crate::part::{clear_range, fill_page};
use crate::share::Share;
use crate::transfer::blocks::{Geometry, Page, chaining_value};
use crate::wire::frame::{FrameKind, Header, read_header};

/// Longer than all that can be outstanding: a note for each open file and
/// block, and the jobs the engine hands over.
const NOTES_MAX: usize = 4096;

/// Longer than the number of frames that can be outstanding.
const TASKS_MAX: usize = 1024;

/// Why a content did not arrive.
#[derive(Debug)]
pub enum Missed {
    /// The peer has another version by now, which it has listed or will, or it knows
    /// of none any more.
    Gone,
    /// What the peer has may be another version by now.
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
    Refused(u32, Missed),
    /// Which blocks of a page the part already holds.
    Checked(u32, u64, io::Result<Vec<bool>>),
    /// A block is in the part.
    Written(u32, u64),
    /// A block could not be used.
    Failed(u32, u64, Missed),
    /// The connection ended.
    Lost,
}

/// What becomes of the jobs.
pub type Deliver<'a> = &'a (dyn Fn(Job, Result<(), Missed>) + Sync);

/// A version on its way, shared by the threads.
struct Target {
    id: ContentId,
    geometry: Geometry,
    part: File,
    /// What the path has now; blocks that it shares need not be sent.
    old: Option<File>,
    /// Blocks that were asked for and did not come yet, and what they have to
    /// amount to. Others are refused: by the time they are written the part may
    /// be a file of the user.
    asked: Mutex<HashMap<u64, ChainingValue>>,
}

type Targets = Mutex<HashMap<u32, Arc<Target>>>;

enum Task {
    Check(u32, Arc<Target>, Arc<Page>),
    /// A page is all zeros.
    Clear(u32, Arc<Target>, u64),
    Verify {
        handle: u32,
        target: Arc<Target>,
        block: u64,
        value: ChainingValue,
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
    // A long look at a part must not hold up the next session.
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (to_tasks, tasks) = sync_channel::<Task>(TASKS_MAX);
        let tasks = Arc::new(Mutex::new(tasks));
        for _ in 0..2 {
            let (tasks, to_notes, pool, ended) = (tasks.clone(), to_notes.clone(), &pool, &ended);
            scope.spawn(move || {
                loop {
                    let next = tasks
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .recv();
                    let Ok(task) = next else { return };
                    if to_notes.send(perform(task, reporter, pool, ended)).is_err() {
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
        let mut decider = Decider::new(share, reporter, stream, &targets, to_tasks, deliver);
        decider.run(&notes);
        ended.store(true, Ordering::Relaxed);
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
                let Some(value) = lock(&target.asked).remove(&argument) else {
                    return Err(broken("the peer sent a block that nobody asked for"));
                };
                let task = Task::Verify {
                    handle,
                    target,
                    block: argument,
                    value,
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
                let missed = match kind {
                    FrameKind::Gone => Missed::Gone,
                    _ => Missed::Superseded,
                };
                let note = Note::Refused(handle, missed);
                to_notes.send(note).map_err(|_| gone())?
            }
            FrameKind::Open | FrameKind::List | FrameKind::Get | FrameKind::Close => {
                return Err(broken("the peer asked where it should answer"));
            }
        }
    }
}

fn perform(
    task: Task,
    reporter: &Reporter,
    pool: &Mutex<Vec<Vec<u8>>>,
    ended: &AtomicBool,
) -> Note {
    match task {
        Task::Check(handle, target, page) => {
            let go_on = || !ended.load(Ordering::Relaxed);
            let present = fill_page(&target.part, target.old.as_ref(), &page, &go_on);
            Note::Checked(handle, page.number, present)
        }
        Task::Clear(handle, target, page) => {
            let cleared = clear_range(&target.part, target.geometry.page_range(page));
            Note::Checked(
                handle,
                page,
                cleared.map(|()| {
                    let blocks = target.geometry.page(page);
                    vec![true; (blocks.end - blocks.start) as usize]
                }),
            )
        }
        Task::Verify {
            handle,
            target,
            block,
            value,
            bytes,
        } => {
            let offset = target.geometry.offset(block);
            let sound = match target.geometry.is_single() {
                true => *blake3::hash(&bytes).as_bytes() == value,
                false => chaining_value(&bytes) == value,
            };
            let note = if !sound {
                Note::Failed(handle, block, Missed::Unsound)
            } else if let Err(error) = target.part.write_all_at(&bytes, offset) {
                Note::Failed(handle, block, Missed::Disk(error))
            } else {
                reporter.received(bytes.len() as u64);
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
