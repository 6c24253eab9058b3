//! `relay`, as far as it can be seen without a harness: how it lives and ends.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::talk::{Talk, complaint, number};

const TOKEN: &str = "0707070707070707070707070707070707070707070707070707070707070707";

fn relay(lease_ms: &str) -> (Talk, String) {
    let talk = Talk::start(&["relay", "--data", "127.0.0.1:0", "--lease-ms", lease_ms]);
    let told = talk.hears(&["\"relaying\":true", "\"listen\":\"127.", "\"peer\":\"127."]);
    (talk, told)
}

fn text<'a>(line: &'a str, key: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{key}\":\"")).unwrap();
    rest.split('"').next().unwrap()
}

#[test]
fn it_ends_with_its_channel_and_resets_who_was_waiting() {
    let (mut talk, told) = relay("60000");
    let mut waiting = TcpStream::connect(text(&told, "peer")).unwrap();
    talk.order("1 count");
    let answer = talk.hears(&["\"answer\":1"]);
    assert_eq!(number(&answer, "delivered"), 0);
    // Nobody has said where the other end is, so it waits.
    assert_eq!(number(&answer, "connections"), 0);
    let begun = Instant::now();
    talk.close();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(waiting.read(&mut [0; 1]).is_err());
    assert!(TcpStream::connect(text(&told, "peer")).is_err());
}

#[test]
fn it_lives_for_as_long_as_it_is_renewed_and_no_longer() {
    let (mut talk, told) = relay("400");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        talk.order("0 renew");
        std::thread::sleep(Duration::from_millis(50));
    }
    let _lives = TcpStream::connect(text(&told, "peer")).unwrap();
    // The channel is open, but nobody says a word.
    talk.is_over();
    assert_eq!(talk.child.wait().unwrap().code(), Some(1));
}

#[test]
fn both_ends_of_a_cut_wire_do_nothing_at_all() {
    let ((mut one, of_one), (mut other, of_other)) = (relay("60000"), relay("60000"));
    one.order(&format!("1 join {TOKEN} {}", text(&of_other, "data")));
    other.order(&format!("1 join {TOKEN} {}", text(&of_one, "data")));
    one.hears(&["\"answer\":1"]);
    other.hears(&["\"answer\":1"]);
    one.order("2 cut");
    one.hears(&["\"answer\":2"]);
    let calls: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(text(&of_one, "peer")).unwrap())
        .collect();
    for call in &calls {
        call.shutdown(std::net::Shutdown::Both).unwrap();
    }
    let busy = |talk: &Talk| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", talk.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = (busy(&one), busy(&other));
    std::thread::sleep(Duration::from_millis(1000));
    let after = (busy(&one), busy(&other));
    assert!(
        after.0 - before.0 < 10 && after.1 - before.1 < 10,
        "{before:?} {after:?}"
    );
    one.close();
    other.close();
}

#[test]
fn nonsense_is_refused() {
    let told = complaint(2, &["relay", "--data", "here", "--lease-ms", "1000"]);
    assert!(told.contains("--data is not ADDR:PORT"), "{told}");
    let told = complaint(
        1,
        &["relay", "--data", "192.0.2.7:21000", "--lease-ms", "1000"],
    );
    assert!(
        told.contains("cannot listen on data address 192.0.2.7:21000"),
        "{told}"
    );
    let (mut talk, _) = relay("60000");
    talk.order("1 join 07 127.0.0.1:1");
    talk.is_over();
    assert_eq!(talk.child.wait().unwrap().code(), Some(1));
}
