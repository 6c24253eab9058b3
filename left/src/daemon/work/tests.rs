//! Who waits for whom.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Duration;

use super::*;
use crate::apply::{How, Source};
use crate::disk::Content;
use crate::entry::{Body, ContentId, Entry, Mtime};
use crate::part::open_part;
use crate::sim::{Config, Machine, SimDisk, open_index};
use crate::version::{ReplicaId, VersionVector};

const PATIENCE: Duration = Duration::from_secs(30);

/// Calls after which the first of two pieces of a copy is read and not written.
const CALLS: u64 = 7;

const LONG: usize = 128 * 1024;

struct Place {
    machine: Machine,
    working: Working<SimDisk, Index>,
    told: Receiver<Input>,
}

fn place() -> Place {
    let machine = Machine::new(1, Config::default());
    let disk = Arc::new(machine.start().unwrap());
    let index = Arc::new(open_index(&disk, (ReplicaId(7), 7)).unwrap());
    let (inputs, told) = sync_channel(8);
    Place {
        machine,
        working: Working {
            share: disk,
            index,
            inputs,
        },
        told,
    }
}

/// A job to put a content at a path where nothing is.
fn job(path: &str, content: &[u8], slot: u32, source: Option<Source>) -> Box<Job> {
    let body = Body::File {
        id: ContentId(*blake3::hash(content).as_bytes()),
        size: content.len() as u64,
        mtime: Mtime::default(),
    };
    let version = VersionVector::from_pairs([(ReplicaId(2), 1)]);
    let target = Entry::of(body, 0o644, version);
    Box::new(Job {
        path: RelPath::parse(path.as_bytes()).unwrap(),
        known: None,
        theirs: target.clone(),
        target,
        how: How::Install,
        slot,
        source,
    })
}

impl Place {
    /// A job to copy a long file that is there.
    fn long(&self) -> Box<Job> {
        let content: Vec<u8> = (0..LONG).map(|n| (n % 251) as u8).collect();
        self.machine.user().write("long", &content).unwrap();
        let path = RelPath::parse(b"long").unwrap();
        let stamp = self.working.share.stat(&path).unwrap().stamp();
        job("copy", &content, 0, Some(Source::Path(path, stamp)))
    }

    /// A job to place a small file that was received.
    fn small(&self) -> Box<Job> {
        let small = job("small", b"small", 1, None);
        let part = open_part(&*self.working.share, small.part().unwrap()).unwrap();
        part.write_whole_at(b"small", 0).unwrap();
        small
    }

    fn event(&self) -> Event {
        match self.told.recv_timeout(PATIENCE) {
            Ok(Input::Event(event)) => event,
            _ => panic!("nothing was told"),
        }
    }
}

struct Nobody;

impl Placing for Nobody {
    fn hold(&self, _: &[RelPath]) {}
    fn release(&self, _: &[RelPath]) {}
}

#[test]
fn a_small_file_arrives_while_a_long_one_is_copied() {
    let place = place();
    let (long, small) = (place.long(), place.small());
    let (stands, standing) = channel();
    let (go_on, goes_on) = channel::<()>();
    place.machine.before_call(
        CALLS,
        Box::new(move |_| {
            stands.send(()).unwrap();
            // It goes on as well when the test has failed.
            let _ = goes_on.recv();
        }),
    );
    let (copies, copies_end) = sync_channel(1);
    let (jobs, jobs_end) = sync_channel(1);
    std::thread::scope(|scope| {
        let working = &place.working;
        scope.spawn(move || working.copy_all(&copies_end, &|| true));
        scope.spawn(move || working.apply_all(&jobs_end, &Nobody));
        copies.send(long).unwrap();
        standing.recv_timeout(PATIENCE).unwrap();
        jobs.send(Work::Job(small)).unwrap();
        let Event::Applied(applied) = place.event() else {
            panic!("it was applied")
        };
        assert!(matches!(applied[..], [(_, Outcome::Done { .. })]));
        assert_eq!(place.machine.user().read("small").unwrap(), b"small");
        go_on.send(()).unwrap();
        let Event::Copied(copied) = place.event() else {
            panic!("it was copied")
        };
        jobs.send(Work::Job(Box::new(Job {
            source: None,
            ..*copied
        })))
        .unwrap();
        place.event();
        let user = place.machine.user();
        assert_eq!(user.read("copy").unwrap(), user.read("long").unwrap());
        drop((copies, jobs, go_on));
    });
}

#[test]
fn a_copy_under_way_ends_when_it_is_told_to() {
    let place = place();
    let long = place.long();
    let part = long.part().unwrap();
    let goes_on = Arc::new(AtomicBool::new(true));
    let told = goes_on.clone();
    let stop = Box::new(move |_: &Machine| told.store(false, Ordering::Relaxed));
    place.machine.before_call(CALLS, stop);
    let (copies, copies_end) = sync_channel(1);
    copies.send(long).unwrap();
    drop(copies);
    place
        .working
        .copy_all(&copies_end, &|| goes_on.load(Ordering::Relaxed));
    assert!(place.told.try_recv().is_err(), "nothing came of it");
    let part = open_part(&*place.working.share, part).unwrap();
    assert!(crate::disk::Handle::stat(&part).unwrap().size < LONG as u64);
}
