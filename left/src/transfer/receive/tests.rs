//! What a hostile sender can do.

use super::*;
use crate::apply::How;
use crate::entry::{Body, Entry, Mtime};
use crate::path::RelPath;
use crate::transfer::blocks::BLOCK_BYTES_MIN;
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
    let target = Entry {
        body: Body::File {
            id,
            size: content.len() as u64,
            mtime: Mtime::default(),
        },
        mode: 0o644,
        version: VersionVector::from_pairs([(ReplicaId(2), 1)]),
    };
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

#[test]
fn a_block_that_nobody_asked_for_ends_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let share = Share::open(dir.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (sender, _) = listener.accept().unwrap();
    sender
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (content, page, job) = offered();
    let (to_notes, notes) = notes();
    to_notes.send(Note::Fetch(Box::new(job))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reporter = Reporter::new(None);
            receive(&share, &reporter, &stream, (to_notes, notes), &|_, _| {});
        });
        let mut out = &sender;
        read_to(FrameKind::List, &sender);
        write_frame(&mut out, FrameKind::Page, 0, 0, &page.values.concat()).unwrap();
        read_to(FrameKind::Get, &sender);
        let block = &content[..BLOCK_BYTES_MIN as usize];
        // Once as asked. Later the part could be a file of the user.
        for _ in 0..2 {
            write_frame(&mut out, FrameKind::Data, 0, 0, block).unwrap();
        }
        let mut rest = Vec::new();
        let ended = (&sender).read_to_end(&mut rest);
        let is_end = match &ended {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        // Lets the receiver end, whatever it did.
        let _ = sender.shutdown(Shutdown::Both);
        assert!(is_end, "{ended:?}");
    });
}
