//! Both sides at once, or one for want of memory.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::pair::{Pair, Side, names, noise};

const SIZE: usize = 96 * 1024 * 1024;

fn received(side: &Side) -> u64 {
    let all = fs::read_dir(side.share.join(".left/parts")).unwrap();
    let sizes = all.flatten().filter_map(|part| part.metadata().ok());
    sizes.map(|part| part.len()).max().unwrap_or(0)
}

/// Large files for each other, and both have some of theirs.
fn begin(pair: &Pair) {
    let staged = |name: &str| pair.dir.path().join(format!("staged-{name}"));
    let both = [(&pair.a, "from-a"), (&pair.b, "from-b")];
    for (_, name) in both {
        fs::write(staged(name), noise(name, SIZE)).unwrap();
    }
    for (side, name) in both {
        fs::rename(staged(name), side.share.join(name)).unwrap();
    }
    pair.wait("both have some of it", || {
        [&pair.a, &pair.b]
            .iter()
            .all(|side| received(side) > 8 * 1024 * 1024)
    });
}

fn check(pair: &Pair) {
    pair.wait("both arrived", || {
        names(&pair.a.share).len() == 2 && names(&pair.b.share).len() == 2
    });
    pair.settle();
    assert!(pair.b.read("from-a").as_deref() == Some(&noise("from-a", SIZE)));
    assert!(pair.a.read("from-b").as_deref() == Some(&noise("from-b", SIZE)));
}

#[test]
fn crash_both_at_once_and_both_resume() {
    let mut pair = Pair::started();
    begin(&pair);
    pair.a.kill();
    pair.b.kill();
    let earlier = [pair.a.events().len(), pair.b.events().len()];
    pair.b.start();
    pair.a.start();
    check(&pair);
    for (side, earlier) in [&pair.a, &pair.b].into_iter().zip(earlier) {
        let events = side.events();
        let begun = events[earlier..]
            .iter()
            .find(|event| event["event"] == "receive");
        // A side whose file was complete when the kill came has nothing to begin.
        if let Some(begun) = begun {
            assert!(begun["have"].as_u64() > Some(0), "it began again");
        }
    }
}

/// Whether it gets by with what it has or dies of it: the other side goes on, and after a
/// start with enough all is as it should be.
#[test]
fn crash_oom_is_as_any_other_kill() {
    let mut pair = Pair::started();
    begin(&pair);
    let pid = Pid::from_raw(pair.b.pid() as i32);
    let statm = fs::read_to_string(format!("/proc/{}/statm", pair.b.pid())).unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    let limit = Rlimit {
        current: Some(pages * 4096),
        maximum: None,
    };
    prlimit(pid, Resource::As, limit).unwrap();
    // Takes what memory is left, one way or another.
    for number in 0..2000 {
        pair.a
            .write(format!("small-{number}"), &noise("small", 3000));
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let died = !pair.b.is_running();
    let status = match died {
        true => pair.b.ended(),
        false => pair.b.terminate().0,
    };
    println!("it {}: {status}", if died { "died" } else { "lived on" });
    assert_ne!(status.signal(), Some(11), "a segmentation fault");
    for number in 0..2000 {
        fs::remove_file(pair.a.share.join(format!("small-{number}"))).unwrap();
    }
    pair.b.start();
    pair.wait("the guard asks or all is gone", || {
        pair.a.status()["state"] == "synchronization"
    });
    if let Some(set) = pair.b.status()["held"]["set"].as_str() {
        crate::pair::left()
            .args(["confirm", set, "--share"])
            .arg(&pair.b.share)
            .status()
            .unwrap();
    }
    check(&pair);
}
