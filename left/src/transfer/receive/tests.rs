//! What a hostile sender can do.

use super::*;
use crate::apply::How;
use crate::entry::{Body, Entry, Mtime};
use crate::path::RelPath;
use crate::transfer::blocks::{BLOCK_BYTES_MIN, PAGE_VALUES, root};
use crate::transfer::hash::{Hashed, hash_file};
use crate::version::{ReplicaId, VersionVector};
use crate::wire::frame::write_frame;
use std::net::TcpListener;
use std::time::Duration;

/// A file of two blocks, and the job to fetch it.
fn offered() -> (Vec<u8>, Arc<Page>, Job) {
    let content: Vec<u8> = (0..BLOCK_BYTES_MIN + 5).map(|n| (n % 251) as u8).collect();
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&content, 0).unwrap();
    let geometry = Geometry::of(content.len() as u64).unwrap();
    let Hashed::Whole {
        id,
        list: Some(list),
    } = hash_file(&file, geometry, 1, &|| true).unwrap()
    else {
        panic!("it has two blocks")
    };
    let body = Body::File {
        id,
        size: content.len() as u64,
        mtime: Mtime::default(),
    };
    let version = VersionVector::from_pairs([(ReplicaId(2), 1)]);
    let target = Entry::of(body, 0o644, version);
    let job = Job {
        path: RelPath::parse(b"file").unwrap(),
        known: None,
        theirs: target.clone(),
        target,
        how: How::Install,
        slot: 0,
        source: None,
    };
    (content, list.kept[0].clone().unwrap(), job)
}

/// Reads requests until one of this kind came.
fn read_to(kind: FrameKind, stream: &TcpStream) {
    let mut input = stream;
    loop {
        let header = read_header(&mut input).unwrap();
        let mut payload = vec![0; header.payload_bytes as usize];
        input.read_exact(&mut payload).unwrap();
        if header.kind == kind {
            return;
        }
    }
}

/// What a receiver is told, and where.
struct Sender {
    stream: TcpStream,
    delivered: std::sync::mpsc::Receiver<Result<(), Missed>>,
}

impl Sender {
    fn say(&self, kind: FrameKind, argument: u64, payload: &[u8]) {
        write_frame(&mut &self.stream, kind, 0, argument, payload).unwrap();
    }

    /// Waits until the receiver has hung up.
    fn expect_end(&self) {
        let mut rest = Vec::new();
        let ended = (&self.stream).read_to_end(&mut rest);
        let is_end = match &ended {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        assert!(is_end, "{ended:?}");
    }
}

/// Lets somebody be the sender of a job.
fn with_receiver(job: Job, act: impl FnOnce(&Sender)) {
    let dir = tempfile::tempdir().unwrap();
    let share = Share::open(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (sender, _) = listener.accept().unwrap();
    sender
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (to_notes, notes) = notes();
    to_notes.send(Note::Fetch(Box::new(job))).unwrap();
    let (deliver, delivered) = sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reporter = Reporter::new(None);
            let deliver = |_, result| deliver.send(result).unwrap();
            receive(&share, &reporter, &stream, (to_notes, notes), &deliver);
        });
        let sender = Sender {
            stream: sender,
            delivered,
        };
        // Lets the receiver end, whatever is found.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&sender)));
        let _ = sender.stream.shutdown(Shutdown::Both);
        if let Err(why) = acted {
            std::panic::resume_unwind(why);
        }
    });
}

#[test]
fn a_block_that_nobody_asked_for_ends_the_connection() {
    let (content, page, job) = offered();
    with_receiver(job, |sender| {
        read_to(FrameKind::List, &sender.stream);
        sender.say(FrameKind::Page, 0, &page.values.concat());
        read_to(FrameKind::Get, &sender.stream);
        let block = &content[..BLOCK_BYTES_MIN as usize];
        // Once as asked. Later the part could be a file of the user.
        for _ in 0..2 {
            sender.say(FrameKind::Data, 0, block);
        }
        sender.expect_end();
    });
}

#[test]
fn a_page_that_cannot_be_ends_the_connection() {
    let (_, page, job) = offered();
    let whole = page.values.concat();
    let pages = [
        (1, &whole[..]),
        (u64::MAX, &whole[..]),
        (0, &whole[..32]),
        (0, &whole[..63]),
        (0, &[]),
    ];
    for (number, values) in pages {
        with_receiver(job.clone(), |sender| {
            read_to(FrameKind::List, &sender.stream);
            sender.say(FrameKind::Page, number, values);
            sender.expect_end();
        });
    }
}

#[test]
fn a_page_that_is_not_the_contents_is_not_believed() {
    let (_, page, job) = offered();
    let mut values = page.values.concat();
    values[3] ^= 1;
    with_receiver(job, |sender| {
        read_to(FrameKind::List, &sender.stream);
        sender.say(FrameKind::Page, 0, &values);
        let result = sender.delivered.recv().unwrap();
        assert!(matches!(result, Err(Missed::Unsound)), "{result:?}");
    });
}

#[test]
fn of_pages_that_lie_about_the_largest_file_none_is_believed() {
    let (_, _, mut job) = offered();
    // A page of pages that amount to the content, of which the first is another one.
    let values = vec![[5; 32]; PAGE_VALUES as usize];
    let Body::File { id, size, .. } = &mut job.target.body else {
        panic!("it is a file")
    };
    (*id, *size) = (root(&values), 1 << 44);
    with_receiver(job, |sender| {
        read_to(FrameKind::List, &sender.stream);
        sender.say(FrameKind::Page, PAGE_VALUES, &values.concat());
        read_to(FrameKind::List, &sender.stream);
        sender.say(FrameKind::Page, 0, &values.concat());
        let result = sender.delivered.recv().unwrap();
        assert!(matches!(result, Err(Missed::Unsound)), "{result:?}");
    });
}
