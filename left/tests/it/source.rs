//! The source changes while it is synchronised.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::pair::{Pair, Side, names, noise};

/// Long enough to be changed in the middle of being sent, however fast the machine.
const SIZE: usize = 96 * 1024 * 1024;

/// Some of it certainly is there, and most of it is not.
const BEGUN: u64 = 8 * 1024 * 1024;

/// Offers a large file at A and waits until B has some of it.
fn begin(pair: &Pair) {
    let staged = pair.dir.path().join("staged");
    fs::write(&staged, noise("source", SIZE)).unwrap();
    fs::rename(staged, pair.a.share.join("big")).unwrap();
    pair.wait("some of it is in a part", || {
        let part = parts(&pair.b).into_iter().next();
        part.is_some_and(|size| size > BEGUN)
    });
}

fn parts(side: &Side) -> Vec<u64> {
    let all = fs::read_dir(side.share.join(".left/parts")).unwrap();
    let sizes = all.flatten().filter_map(|part| part.metadata().ok());
    sizes.map(|part| part.len()).collect()
}

fn meetings(side: &Side) -> usize {
    let events = side.events();
    let met = events.iter().filter(|event| event["event"] == "peer-up");
    met.count()
}

/// Of one round of writing, block by block, the blocks before some place are of this round
/// and those after it of the one before. Anything else never was on the disk at A.
#[test]
fn src_overwritten_while_hashed_is_never_published_torn() {
    const BLOCK: usize = 64 * 1024;
    const BLOCKS: usize = 256;
    let pair = Pair::started();
    pair.a.write("busy", &vec![0; BLOCK * BLOCKS]);
    pair.wait("it arrived", || pair.b.share.join("busy").exists());
    let over = AtomicBool::new(false);
    let mut seen = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let file = File::options()
                .write(true)
                .open(pair.a.share.join("busy"))
                .unwrap();
            let mut round = 0u8;
            while !over.load(Ordering::Relaxed) {
                round = round.wrapping_add(1);
                for block in 0..BLOCKS {
                    file.write_all_at(&[round; BLOCK], (block * BLOCK) as u64)
                        .unwrap();
                    // A pause now and then, in the middle, for a look to begin in.
                    if block % 97 == 96 {
                        std::thread::sleep(Duration::from_millis(60));
                    }
                }
            }
            round
        });
        let ends = Instant::now() + Duration::from_secs(4);
        while Instant::now() < ends {
            let Some(content) = pair.b.read("busy").filter(|content| !content.is_empty()) else {
                continue;
            };
            let rounds: Vec<u8> = content.chunks(BLOCK).map(|block| block[0]).collect();
            let breaks = rounds.windows(2).filter(|two| two[0] != two[1]);
            let breaks: Vec<_> = breaks.collect();
            let is_whole = content.chunks(BLOCK).all(|block| {
                let first = block[0];
                block.len() == BLOCK && block.iter().all(|byte| *byte == first)
            });
            let is_one_state = match breaks[..] {
                [] => true,
                [[new, old]] => *new == old.wrapping_add(1),
                _ => false,
            };
            assert!(
                is_whole && is_one_state,
                "never on the disk at a: {rounds:?}"
            );
            seen += 1;
        }
        over.store(true, Ordering::Relaxed);
        let last = writer.join().unwrap();
        pair.wait("the last round arrived", || {
            pair.b.read("busy").as_deref() == Some(&vec![last; BLOCK * BLOCKS])
        });
    });
    assert!(seen > 0);
    pair.settle();
}

#[test]
fn src_appended_while_sent_arrives_whole_in_the_same_session() {
    let pair = Pair::started();
    begin(&pair);
    let met = meetings(&pair.b);
    let file = File::options()
        .write(true)
        .open(pair.a.share.join("big"))
        .unwrap();
    let tail = noise("tail", 3_000_000);
    file.write_all_at(&tail, SIZE as u64).unwrap();
    drop(file);
    let whole = [noise("source", SIZE), tail].concat();
    pair.wait("all of it arrived", || {
        let found = fs::metadata(pair.b.share.join("big"));
        found.is_ok_and(|found| found.len() == whole.len() as u64)
    });
    pair.settle();
    assert!(pair.b.read("big").as_deref() == Some(&whole));
    assert_eq!(meetings(&pair.b), met, "the session was torn down");
    assert!(parts(&pair.b).is_empty());
}

#[test]
fn src_deleted_while_sent_leaves_no_half_file_and_no_part() {
    let pair = Pair::started();
    pair.a.write("other", b"stays");
    begin(&pair);
    fs::remove_file(pair.a.share.join("big")).unwrap();
    pair.wait("the part is gone", || parts(&pair.b).is_empty());
    pair.settle();
    assert_eq!(names(&pair.b.share), ["other"]);
}

#[test]
fn src_editor_save_is_one_update_and_never_a_deletion() {
    let pair = Pair::started();
    pair.a.write("text", b"0");
    pair.wait("it arrived", || pair.b.share.join("text").exists());
    for round in 1..30 {
        let text = format!("{round}");
        pair.a.write(".text.tmp", text.as_bytes());
        fs::rename(pair.a.share.join(".text.tmp"), pair.a.share.join("text")).unwrap();
        let turns = Instant::now() + Duration::from_millis(40);
        while Instant::now() < turns {
            assert!(
                pair.b.share.join("text").exists(),
                "it was gone for a while"
            );
        }
    }
    pair.wait("the last one arrived", || {
        pair.b.read("text").as_deref() == Some(b"29")
    });
    pair.settle();
    assert_eq!(names(&pair.b.share), ["text"]);
}

#[test]
fn src_mmap_write_is_noticed() {
    const WRITE: &str = "import mmap, sys\n\
        with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as memory:\n    \
        memory[1000:1003] = b'new'\n";
    let pair = Pair::started();
    let path = pair.a.write("mapped", &[b'o'; 10_000]);
    pair.wait("it arrived", || pair.b.share.join("mapped").exists());
    pair.settle();
    let done = Command::new("python3")
        .args(["-c", WRITE])
        .arg(&path)
        .status();
    match done {
        Ok(done) => assert!(done.success()),
        Err(error) => {
            eprintln!("skipped: writing through a memory map needs python3: {error}");
            return;
        }
    }
    pair.wait("the change arrived", || {
        pair.b
            .read("mapped")
            .is_some_and(|now| now[1000..1003] == *b"new")
    });
    pair.settle();
}

#[test]
fn src_o_tmpfile_and_unlinked_open_files_are_ignored() {
    use rustix::fs::{Mode, OFlags, open};
    let pair = Pair::started();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let nameless = match open(&pair.a.share, flags, Mode::from_raw_mode(0o600)) {
        Ok(file) => Some(File::from(file)),
        Err(errno) => {
            eprintln!("skipped in part: no O_TMPFILE on this file system: {errno}");
            None
        }
    };
    let path = pair.a.write("unlinked", b"x");
    let unlinked = File::options().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for file in nameless.iter().chain([&unlinked]) {
        file.write_all_at(&noise("nameless", 100_000), 0).unwrap();
    }
    pair.a.write("marker", b"x");
    pair.wait("what came later arrived", || {
        pair.b.share.join("marker").exists()
    });
    pair.settle();
    assert_eq!(names(&pair.b.share), ["marker"]);
    assert_eq!(pair.a.status()["problems"], serde_json::json!([]));
}
