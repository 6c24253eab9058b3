//! A kill of either side wastes only what was in flight.

use crate::pair::{Pair, Side, noise};

/// Long enough to be killed in the middle of, however fast the machine.
const SIZE: usize = 192 * 1024 * 1024;

/// More than one window, so that something certainly is verified.
const KILL_AFTER: u64 = 16 * 1024 * 1024;

/// Offers a large file at A and waits until B has some of it.
fn begin(pair: &Pair) {
    let staged = pair.dir.path().join("staged");
    std::fs::write(&staged, noise("resume", SIZE)).unwrap();
    std::fs::rename(staged, pair.a.share.join("big")).unwrap();
    let parts = pair.b.share.join(".left/parts");
    pair.wait("some of it is in a part", || {
        let part = std::fs::read_dir(&parts).unwrap().flatten().next();
        part.and_then(|part| part.metadata().ok())
            .is_some_and(|part| part.len() > KILL_AFTER)
    });
}

fn is_there(side: &Side) -> bool {
    side.share.join("big").exists()
}

/// How much the part held when its transfer began, the last time.
fn resumed_from(side: &Side, earlier_events: usize) -> u64 {
    let events = side.events();
    let begun = events[earlier_events..]
        .iter()
        .find(|event| event["event"] == "receive");
    begun.expect("a transfer began")["have"].as_u64().unwrap()
}

#[test]
fn crash_mid_block_a_killed_receiver_resumes_from_the_last_verified_block() {
    let mut pair = Pair::started();
    begin(&pair);
    pair.b.kill();
    assert!(
        !is_there(&pair.b),
        "the kill came too late to prove anything"
    );
    let earlier = pair.b.events().len();
    pair.b.start();
    pair.wait("it arrived", || is_there(&pair.b));
    pair.settle();
    let have = resumed_from(&pair.b, earlier);
    assert!(have > 0, "it began again");
    // The new process counts from its own start.
    pair.wait("what came is what was missing, no more", || {
        pair.b.status()["received_bytes"] == SIZE as u64 - have
    });
}

#[test]
fn crash_mid_block_a_killed_sender_is_resumed_from_the_last_verified_block() {
    let mut pair = Pair::started();
    begin(&pair);
    pair.a.kill();
    assert!(
        !is_there(&pair.b),
        "the kill came too late to prove anything"
    );
    let earlier = pair.b.events().len();
    pair.a.start();
    pair.wait("it arrived", || is_there(&pair.b));
    pair.settle();
    assert!(resumed_from(&pair.b, earlier) > 0, "it began again");
    // Over both connections together, each block was written once.
    pair.wait("each block is counted once", || {
        pair.b.status()["received_bytes"] == SIZE as u64
    });
}

#[test]
fn a_damaged_part_is_mended_not_believed() {
    let mut pair = Pair::started();
    begin(&pair);
    pair.b.kill();
    assert!(
        !is_there(&pair.b),
        "the kill came too late to prove anything"
    );
    let part = std::fs::read_dir(pair.b.share.join(".left/parts"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let file = std::fs::File::options().write(true).open(part).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 1_000_000).unwrap();
    pair.b.start();
    pair.wait("it arrived", || is_there(&pair.b));
    pair.settle();
}

#[test]
fn a_file_replaced_while_it_is_sent_arrives_in_its_new_form() {
    let pair = Pair::started();
    begin(&pair);
    let staged = pair.dir.path().join("newer");
    std::fs::write(&staged, b"short and new").unwrap();
    std::fs::rename(staged, pair.a.share.join("big")).unwrap();
    pair.wait("the newer one arrived", || {
        pair.b.read("big").as_deref() == Some(b"short and new")
    });
    pair.settle();
    pair.wait("the old part is gone", || {
        std::fs::read_dir(pair.b.share.join(".left/parts"))
            .unwrap()
            .count()
            == 0
    });
}

#[test]
fn a_peer_that_comes_and_goes_gets_everything() {
    let mut pair = Pair::started();
    for n in 0..10 {
        pair.b.kill();
        let name = format!("file-{n}");
        pair.a.write(&name, &noise(&name, 1000));
        pair.b.write(format!("back-{n}"), b"content");
        pair.b.start();
        pair.wait("both have both", || {
            pair.b.share.join(&name).exists() && pair.a.share.join(format!("back-{n}")).exists()
        });
    }
    pair.settle();
}
