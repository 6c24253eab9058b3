//! A daemon with nothing to do sleeps, and is there at once when it has.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::pair::{Pair, Side};

/// How often the main thread has gone to sleep, and which file the status is:
/// each one that is written is a new one.
fn seen(side: &Side) -> (u64, u64) {
    let pid = side.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("voluntary_ctxt_switches:"))
        .expect("a kernel that counts switches");
    let sleeps = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    let file = side.share.join(".left/status.json");
    (sleeps, std::fs::metadata(file).unwrap().ino())
}

#[test]
fn a_daemon_that_is_left_alone_is_not_woken_to_look_whether_its_status_changed() {
    let mut pair = Pair::started();
    pair.wait("nothing stirs for a second", || {
        let before = seen(&pair.a);
        std::thread::sleep(Duration::from_secs(1));
        before == seen(&pair.a)
    });

    let size = 3_000_000;
    pair.a.write("file", &vec![7; size]);
    pair.wait("the status says what was sent", || {
        let status = pair.a.status();
        status["entries"] == 1 && status["sent_bytes"] == size
    });
    pair.settle();
    let (status, took) = pair.a.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(2), "{took:?}");
}
