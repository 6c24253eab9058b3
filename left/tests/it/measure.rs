//! Figures, asserted nowhere: `cargo test -p left --test it -- --ignored
//! --nocapture measure`, with `LEFT_BIN` for another program.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::pair::{Pair, names};

/// Files in the share that is left alone.
const FILES: usize = 10_000;

/// How long it is left alone.
const ALONE: Duration = Duration::from_secs(60);

/// The processor time that all threads of a process used.
pub fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat"));
            let text = text.expect("a kernel that keeps statistics of threads");
            let nanos = text.split(' ').next().unwrap().parse().unwrap();
            Duration::from_nanos(nanos)
        })
        .sum()
}

/// The memory that a process has in use.
pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a figure, not a check"]
fn measure_latency_from_close_to_visible() {
    let pair = Pair::started();
    let mut took: Vec<Duration> = (0..100)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(300 + n * 7 % 100));
            let name = format!("f{n}");
            let mut file = File::create(pair.a.share.join(&name)).unwrap();
            file.write_all(&[n as u8; 1024]).unwrap();
            drop(file);
            let closed = Instant::now();
            let there = pair.b.share.join(&name);
            while !there.exists() {
                assert!(closed.elapsed() < Duration::from_secs(20));
                std::thread::sleep(Duration::from_micros(200));
            }
            closed.elapsed()
        })
        .collect();
    took.sort();
    println!(
        "close to visible, 1 KiB, of 100: min {:?}, median {:?}, p99 {:?}, max {:?}",
        took[0], took[50], took[98], took[99]
    );
}

#[test]
#[ignore = "a figure, not a check"]
fn measure_idle_with_ten_thousand_files() {
    let pair = Pair::started();
    let staged = pair.dir.path().join("staged");
    for n in 0..FILES {
        let folder = staged.join(format!("d{}", n / 100));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("f{n}")), n.to_string()).unwrap();
    }
    std::fs::rename(&staged, pair.a.share.join("many")).unwrap();
    pair.wait("all arrived", || {
        names(&pair.b.share).len() > FILES + FILES / 100
    });
    pair.settle();
    std::thread::sleep(Duration::from_secs(15));
    let sides = [&pair.a, &pair.b];
    let before = sides.map(|side| (cpu_time(side.pid()), resident_kib(side.pid())));
    std::thread::sleep(ALONE);
    for (side, (cpu, memory)) in sides.into_iter().zip(before) {
        let used = cpu_time(side.pid()) - cpu;
        println!(
            "idle with {FILES} files: {used:?} in {ALONE:?}, {:.3} % of a core; resident {memory} KiB, then {} KiB",
            used.as_secs_f64() / ALONE.as_secs_f64() * 100.0,
            resident_kib(side.pid())
        );
    }
}
