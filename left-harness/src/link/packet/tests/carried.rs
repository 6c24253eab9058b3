//! The link with its thread, between sockets that need no privileges.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::link::packet::{AtPoint, PacketEnd, PacketLink};
use crate::link::{Armed, Hold, Link};
use crate::scenario::LinkSpec;

const PATIENCE: Duration = Duration::from_secs(20);

/// A link, and the hosts' sides of its ends; the second one knows no headers.
fn up() -> (PacketLink, UnixDatagram, UnixDatagram) {
    let (one, wire_one) = UnixDatagram::pair().unwrap();
    let (other, wire_other) = UnixDatagram::pair().unwrap();
    for socket in [&one, &other] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let end = |host: &str, wire: UnixDatagram, vnet| PacketEnd {
        host: host.to_string(),
        fd: wire.into(),
        vnet,
    };
    let ends = vec![end("a", wire_one, true), end("b", wire_other, false)];
    (
        PacketLink::up(ends, &LinkSpec::default()).unwrap(),
        one,
        other,
    )
}

/// The next frame at the end without headers, as if it had one.
fn next(socket: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let read = socket.recv(&mut buffer[vnet::BYTES..]).unwrap();
    buffer.truncate(vnet::BYTES + read);
    buffer
}

#[tokio::test]
async fn an_end_without_headers_gets_finished_packets() {
    let (link, one, other) = up();
    let mut packet = Packet::new(100, bytes(5000));
    (packet.segment_bytes, packet.is_partial) = (Some(1000), true);
    one.send(&packet.frame()).unwrap();
    let mut whole = Vec::new();
    for _ in 0..5 {
        let (_, payload) = judge(&next(&other));
        whole.extend(payload);
    }
    assert_eq!(whole, packet.payload);
    assert_eq!(link.delivered("a", "b").await.unwrap(), 5000);
    other
        .send(&Packet::new(1, b"back").frame()[vnet::BYTES..])
        .unwrap();
    let mut buffer = vec![0; 1000];
    let read = one.recv(&mut buffer).unwrap();
    assert_eq!(judge(&buffer[..read]).1, b"back");
    assert_eq!(link.delivered("b", "a").await.unwrap(), 4);
    assert_eq!(link.activity().await.unwrap(), 5004);
}

#[tokio::test]
async fn an_armed_point_tells_and_dropping_it_lets_the_wire_move() {
    let (link, one, other) = up();
    let mut armed = link.arm("a", "b", 3, Hold::UntilReleased).await.unwrap();
    one.send(&Packet::new(100, b"abcdef").frame()).unwrap();
    assert_eq!(armed.fired().await.unwrap(), 3);
    assert_eq!(armed.fired().await.unwrap(), 3);
    assert_eq!(armed.delivered().await.unwrap(), 3);
    assert_eq!(judge(&next(&other)).1, b"abc");
    other.set_nonblocking(true).unwrap();
    let nothing = other.recv(&mut [0; 100]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    other.set_nonblocking(false).unwrap();
    drop(armed);
    assert_eq!(judge(&next(&other)).1, b"def");
}

#[tokio::test]
async fn a_point_without_a_hold_tells_before_it_flows_on() {
    let (link, one, other) = up();
    let mut armed = link.arm("a", "b", 3, Hold::No).await.unwrap();
    one.send(&Packet::new(100, b"abcdef").frame()).unwrap();
    assert_eq!(armed.fired().await.unwrap(), 3);
    assert_eq!(judge(&next(&other)).1, b"abc");
    assert_eq!(judge(&next(&other)).1, b"def");
    assert_eq!(armed.delivered().await.unwrap(), 6);
}

#[tokio::test]
async fn when_the_link_goes_down_whoever_waits_is_told_and_its_ends_are_closed() {
    let (link, one, _other) = up();
    let mut armed = link.arm_point("a", "b", 3, AtPoint::Hold).unwrap();
    drop(link);
    let error = armed.fired().await.unwrap_err().to_string();
    assert_eq!(error, "the packet link is down");
    assert!(one.send(b"anybody?").is_err());
}

#[tokio::test]
async fn an_end_that_breaks_is_an_error_and_not_silence() {
    let (_one, wire_one) = UnixDatagram::pair().unwrap();
    // Cannot be read as frames.
    let broken = std::fs::File::open("/").unwrap();
    let ends = vec![
        PacketEnd {
            host: "a".to_string(),
            fd: wire_one.into(),
            vnet: true,
        },
        PacketEnd {
            host: "b".to_string(),
            fd: broken.into(),
            vnet: true,
        },
    ];
    let link = PacketLink::up(ends, &LinkSpec::default()).unwrap();
    let error = match link.arm_point("a", "b", 1, AtPoint::FlowOn) {
        Ok(mut armed) => armed.fired().await.unwrap_err(),
        Err(error) => error,
    };
    let error = error.to_string();
    assert!(error.contains("reading frames of host b"), "{error}");
    assert!(link.delivered("a", "b").await.is_err());
}

#[test]
fn names_that_the_link_does_not_join_are_refused() {
    let (link, _one, _other) = up();
    let error = link.cut("a", "c").unwrap_err().to_string();
    assert_eq!(error, "no packet link from a to c: it joins a and b");
}
