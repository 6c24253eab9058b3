//! What is refused, and how that is said.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;

use left::wire::message::{Have, Hello, Message, PREFACE, Role, write_message};

use crate::pair::{Pair, left};

fn ends(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[test]
fn without_insecure_it_says_why_it_does_not_start() {
    let pair = Pair::new();
    let output = left()
        .args(["--ip", "127.0.0.1", "--share"])
        .arg(&pair.a.share)
        .output()
        .unwrap();
    ends(&output, 2, &["--insecure", "encrypt", "--ip"]);
}

#[test]
fn host_names_are_refused_with_advice() {
    let output = left()
        .args(["--insecure", "--ip", "some.host"])
        .output()
        .unwrap();
    ends(&output, 2, &["getent hosts some.host"]);
}

#[test]
fn guard_share_missing_is_refused_and_not_made() {
    let mut pair = Pair::new();
    pair.a.share = pair.dir.path().join("nowhere");
    ends(
        &pair.a.command().output().unwrap(),
        1,
        &["nowhere", "create"],
    );
    assert!(!pair.a.share.exists());
}

#[test]
fn events_inside_the_share_are_refused() {
    let mut pair = Pair::new();
    pair.a.events = pair.a.share.join("events");
    ends(
        &pair.a.command().output().unwrap(),
        2,
        &["inside the share"],
    );
    assert!(!pair.a.events.exists());
}

#[test]
fn net_port_taken_is_named() {
    let pair = Pair::new();
    let _holder = TcpListener::bind(pair.a.address).unwrap();
    let port = pair.a.address.port().to_string();
    ends(&pair.a.command().output().unwrap(), 3, &[&port, "--listen"]);
}

#[test]
fn net_two_daemons_the_second_is_refused() {
    let pair = Pair::started();
    ends(
        &pair.a.command().output().unwrap(),
        1,
        &["in use by another left"],
    );
}

#[test]
fn crash_sigterm_ends_it_cleanly_and_soon() {
    let mut pair = Pair::started();
    let (status, took) = pair.a.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let states: Vec<_> = pair
        .a
        .events()
        .iter()
        .filter_map(|event| event["state"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(states.first().map(String::as_str), Some("initialization"));
    assert_eq!(states.last().map(String::as_str), Some("termination"));
}

#[test]
fn status_tells_what_the_daemon_does() {
    let mut pair = Pair::started();
    let ask = |pair: &Pair| {
        let output = left()
            .args(["status", "--json", "--share"])
            .arg(&pair.a.share)
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), value)
    };
    let (code, status) = ask(&pair);
    assert_eq!(code, Some(0));
    assert_eq!(status["running"], true);
    assert_eq!(status["state"], "synchronization");
    assert_eq!(status["insecure"], true);
    pair.a.terminate();
    let (code, status) = ask(&pair);
    assert_eq!(
        (code, &status["running"]),
        (Some(4), &serde_json::Value::Bool(false))
    );
}

/// Dials a side from a certain address.
fn dial(from: IpAddr, to: SocketAddr) -> TcpStream {
    let stream = left::wire::socket::dial(to, from).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// What a side answers before it hangs up.
fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

#[test]
fn garbage_on_the_port_is_dropped_and_the_peer_still_gets_in() {
    let mut pair = Pair::new();
    pair.a.start();
    pair.wait("a listens", || TcpStream::connect(pair.a.address).is_ok());
    let garbage: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"LEFTsyn\x02\xff\xff\xff\xff",
        b"LEFTsyn\x02\x00\x00\x00\x00",
        b"LEFTsyn\x07\x00\x00\x00\x02{}",
        b"LEFTsyn\x02\x00\x00\x00\x06\"ping\"",
    ];
    // From the peer's own address, so that it is looked at.
    for bytes in garbage {
        let mut stream = dial(pair.b.address.ip(), pair.a.address);
        let _ = stream.write_all(bytes);
        assert_eq!(answer(stream), b"");
    }
    let _silent: Vec<_> = (0..8)
        .map(|_| dial(pair.b.address.ip(), pair.a.address))
        .collect();
    pair.b.start();
    pair.a.write("file", b"content");
    pair.wait("the peer got in", || {
        pair.b.read("file").as_deref() == Some(b"content")
    });
}

#[test]
fn only_the_peers_address_is_answered() {
    let mut pair = Pair::new();
    pair.a.start();
    pair.wait("a listens", || TcpStream::connect(pair.a.address).is_ok());
    let have = Have {
        replica: 0,
        epoch: 0,
        run: 0,
        upto: 0,
    };
    let hello = Hello {
        role: Role::Info,
        replica: 1,
        instance: 2,
        epoch: 3,
        run: 0,
        token: 4,
        have,
    };
    let mut bytes = PREFACE.to_vec();
    write_message(&mut bytes, &Message::Hello(hello)).unwrap();
    let answer_to = |address: IpAddr| {
        let mut stream = dial(address, pair.a.address);
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        answer(stream)
    };
    assert_eq!(answer_to("127.0.0.77".parse().unwrap()), b"");
    assert!(answer_to(pair.b.address.ip()).starts_with(&PREFACE));
}

#[test]
fn a_connection_to_itself_is_refused() {
    let mut pair = Pair::new();
    pair.a.peer = pair.a.address;
    pair.a.start();
    pair.wait("it says so", || {
        pair.a.events().iter().any(|event| {
            event["event"] == "problem" && event["text"].as_str().unwrap_or("").contains("own id")
        })
    });
    assert!(
        pair.a
            .events()
            .iter()
            .all(|event| event["event"] != "peer-up")
    );
}

#[test]
fn guard_share_removed_ends_it_without_a_deletion() {
    let mut pair = Pair::started();
    pair.a.write("file", b"content");
    pair.wait("it arrived", || pair.b.share.join("file").exists());
    pair.settle();
    std::fs::rename(&pair.a.share, pair.dir.path().join("elsewhere")).unwrap();
    assert_eq!(pair.a.ended().code(), Some(1));
    assert_eq!(pair.b.status()["wanted"], 0);
    assert!(pair.b.share.join("file").exists());
}
