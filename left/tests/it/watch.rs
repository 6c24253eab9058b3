//! Changes are found by watching; where that is not to be had, by looking.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::pair::{Pair, Side, names};

/// Runs a side in a user namespace of its own, where it may have so many
/// inotify watches or instances; the machine's own limits stay as they are.
fn start_limited(side: &mut Side, limit: &str, most: u32) -> bool {
    let mut command = Command::new("unshare");
    command
        .args(["-U", "-r", "sh", "-c"])
        .arg(format!(
            "echo {most} >/proc/sys/user/{limit} && exec \"$@\""
        ))
        .arg("sh");
    let tried = Command::new("unshare")
        .args(["-U", "-r", "sh", "-c"])
        .arg(format!("echo {most} >/proc/sys/user/{limit}"))
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user cannot make a user namespace with limits of its own");
        return false;
    }
    let left = side.command();
    command.arg(left.get_program()).args(left.get_args());
    side.start_by(command);
    true
}

/// Sets a limit of a side that was started with one.
fn set_limit(side: &Side, limit: &str, most: u32) -> bool {
    let status = Command::new("nsenter")
        .arg(format!("--user=/proc/{}/ns/user", side.pid()))
        .args(["--preserve-credentials", "sh", "-c"])
        .arg(format!("echo {most} >/proc/sys/user/{limit}"))
        .status();
    status.is_ok_and(|status| status.success())
}

fn problems(side: &Side) -> String {
    side.status()["problems"].to_string()
}

/// The lines of `left status` for people.
fn shown_status(side: &Side) -> String {
    let output = crate::pair::left()
        .args(["status", "--share"])
        .arg(&side.share)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn watch_limit_falls_back_to_polling_visibly_and_heals() {
    let mut pair = Pair::new();
    for n in 0..20 {
        std::fs::create_dir(pair.a.share.join(format!("d{n}"))).unwrap();
    }
    if !start_limited(&mut pair.a, "max_inotify_watches", 10) {
        return;
    }
    pair.b.start();
    pair.wait("it says that it polls, and what mends it", || {
        problems(&pair.a).contains("sysctl fs.inotify.max_user_watches=")
    });
    pair.settle();
    assert_eq!(pair.a.status()["watching"], false);
    assert!(
        shown_status(&pair.a).contains("not by watching"),
        "{}",
        shown_status(&pair.a)
    );
    assert_eq!(pair.b.status()["watching"], true);
    assert!(!shown_status(&pair.b).contains("watching"));
    pair.a.write("d19/file", b"found by looking");
    pair.wait("it arrived all the same", || {
        pair.b.share.join("d19/file").exists()
    });
    assert!(
        set_limit(&pair.a, "max_inotify_watches", 1000),
        "its limit can be raised"
    );
    pair.wait("it watches again by itself", || {
        pair.a.status()["watching"] == true && problems(&pair.a) == "[]"
    });
    // And loses it again when the next folder is one too many.
    assert!(set_limit(&pair.a, "max_inotify_watches", 21));
    std::fs::create_dir(pair.a.share.join("one-too-many")).unwrap();
    pair.wait("it says so again", || {
        pair.a.status()["watching"] == false && problems(&pair.a).contains("max_user_watches")
    });
    pair.a.write("one-too-many/file", b"found by looking");
    pair.wait("it arrived all the same", || {
        pair.b.share.join("one-too-many/file").exists()
    });
}

#[test]
fn watch_limit_of_instances_falls_back_to_polling_visibly_and_heals() {
    let mut pair = Pair::new();
    if !start_limited(&mut pair.a, "max_inotify_instances", 0) {
        return;
    }
    pair.b.start();
    pair.wait("it says that it polls, and what mends it", || {
        problems(&pair.a).contains("sysctl fs.inotify.max_user_instances=")
    });
    pair.a.write("file", b"found by looking");
    pair.wait("it arrived all the same", || {
        pair.b.share.join("file").exists()
    });
    assert!(set_limit(&pair.a, "max_inotify_instances", 10));
    pair.wait("it watches again by itself", || {
        pair.a.status()["watching"] == true && problems(&pair.a) == "[]"
    });
}

#[test]
fn watch_down_edits_are_found_at_the_start() {
    let mut pair = Pair::started();
    pair.a.write("changed", b"before");
    std::fs::create_dir(pair.a.share.join("d")).unwrap();
    pair.a.write("d/moved", b"moved");
    pair.wait("they arrived", || pair.b.share.join("d/moved").exists());
    pair.settle();
    pair.a.terminate();
    pair.a.write("changed", b"behind");
    pair.a.write("d/new", b"new");
    std::fs::rename(pair.a.share.join("d"), pair.a.share.join("e")).unwrap();
    pair.a.start();
    pair.wait("what was done meanwhile arrived", || {
        pair.b.read("changed").as_deref() == Some(b"behind")
            && pair.b.read("e/new").as_deref() == Some(b"new")
            && pair.b.read("e/moved").as_deref() == Some(b"moved")
    });
}

#[test]
fn watch_mkdir_race_a_chain_of_folders_and_a_file_arrive_at_once() {
    let pair = Pair::started();
    for n in 0..20 {
        let folder = pair.a.share.join(format!("top{n}/a/b/c"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("f"), b"f").unwrap();
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 100);
    // Not by the look at everything that comes after a minute.
    let soon = pair.a.status()["watching"] == true;
    assert!(soon);
    pair.settle();
}

#[test]
fn watch_dir_moves_a_folder_that_is_moved_in_arrives_and_is_watched() {
    let pair = Pair::started();
    let outside = pair.dir.path().join("outside");
    std::fs::create_dir_all(outside.join("x/y")).unwrap();
    std::fs::write(outside.join("x/y/f"), b"f").unwrap();
    std::fs::rename(&outside, pair.a.share.join("in")).unwrap();
    pair.wait("it arrived", || pair.b.share.join("in/x/y/f").exists());
    pair.settle();
    // On both sides: on the other one it was made by the daemon itself.
    pair.a.write("in/x/y/later", b"1");
    pair.b.write("in/x/y/there", b"2");
    pair.wait("what came later arrived", || {
        pair.b.share.join("in/x/y/later").exists() && pair.a.share.join("in/x/y/there").exists()
    });
    pair.settle();
}

/// Does something with 1, 2, … until the first of what it returns is dropped;
/// the second is the sum of what that returned.
fn until_told(mut work: impl FnMut(u32) -> u32 + Send + 'static) -> (Sender<()>, JoinHandle<u32>) {
    let (told, tell) = channel();
    let thread = std::thread::spawn(move || {
        let mut sum = 0;
        for n in 1.. {
            sum += work(n);
            if tell.try_recv() == Err(TryRecvError::Disconnected) {
                break;
            }
        }
        sum
    });
    (told, thread)
}

#[test]
fn src_hot_log_starves_nobody_and_is_the_same_soon_after_it_ends() {
    let pair = Pair::started();
    let log = pair.a.share.join("log");
    let (writing, lines) = until_told(move |n| {
        std::fs::write(&log, format!("line {n}")).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        1
    });
    let began = Instant::now();
    for n in 0.. {
        let name = format!("other{n}");
        pair.a.write(&name, b"other");
        pair.wait("another one arrives meanwhile", || {
            pair.b.share.join(&name).exists()
        });
        if began.elapsed() > Duration::from_secs(4) {
            break;
        }
    }
    drop(writing);
    let last = format!("line {}", lines.join().unwrap());
    let ended = Instant::now();
    pair.wait("the last line arrived", || {
        pair.b.read("log").as_deref() == Some(last.as_bytes())
    });
    // The machine may be busy; the rule itself is five seconds.
    assert!(ended.elapsed() < Duration::from_secs(15));
    pair.settle();
}

#[test]
fn watch_storm_starves_nobody_and_memory_stays_flat() {
    let pair = Pair::started();
    let storm_at = pair.a.share.join("storm");
    std::fs::create_dir(&storm_at).unwrap();
    pair.wait("it arrived", || pair.b.share.join("storm").exists());
    pair.settle();
    let before = crate::measure::resident_kib(pair.a.pid());
    let (storm, events) = until_told(move |n| {
        let path = storm_at.join(format!("f{}", n % 300));
        // Made or cut, written, closed; and gone now and then.
        std::fs::write(&path, n.to_string()).unwrap();
        if n % 50 == 0 {
            std::fs::remove_file(&path).unwrap();
        }
        if n % 100 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        3
    });
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    for n in 0.. {
        let written = Instant::now();
        for (here, there) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
            let name = format!("other{n}-{}", here.address.port());
            here.write(&name, b"other");
            pair.wait("another one arrives meanwhile", || {
                there.share.join(&name).exists()
            });
        }
        longest = longest.max(written.elapsed());
        if began.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    drop(storm);
    let per_second = f64::from(events.join().unwrap()) / began.elapsed().as_secs_f64();
    let after = crate::measure::resident_kib(pair.a.pid());
    eprintln!(
        "{per_second:.0} events a second; two others took {longest:?} at most; resident {before} KiB before, {after} KiB after"
    );
    assert!(after < before + 8 * 1024, "{before} KiB became {after} KiB");
    pair.settle();
}

#[test]
fn what_is_received_makes_no_echo() {
    let pair = Pair::started();
    for n in 0..300 {
        pair.a.write(format!("f{n}"), b"content");
    }
    pair.wait("all arrived", || names(&pair.b.share).len() == 300);
    pair.settle();
    let sent = pair.b.status()["sent_bytes"].clone();
    // By then every look that the arrival caused is over.
    std::thread::sleep(Duration::from_millis(1500));
    let cpu = [&pair.a, &pair.b].map(|side| crate::measure::cpu_time(side.pid()));
    std::thread::sleep(Duration::from_secs(2));
    for (side, before) in [&pair.a, &pair.b].into_iter().zip(cpu) {
        let used = crate::measure::cpu_time(side.pid()) - before;
        assert!(used <= Duration::from_millis(100), "{used:?} while idle");
        assert_eq!(side.status()["state"], "synchronization");
    }
    assert_eq!(pair.b.status()["sent_bytes"], sent);
}
