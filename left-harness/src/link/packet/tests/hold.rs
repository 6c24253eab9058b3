//! Points: where exactly the wire stands still, and what happens to the packet there.

use super::*;
use crate::link::packet::point::AtPoint;

fn arm(sim: &mut Sim, count: u64, action: AtPoint) -> std::sync::Arc<super::super::point::Point> {
    sim.engine.arm(End::One, count, action, sim.now)
}

fn kinds() -> Vec<Packet> {
    let mut kinds = Vec::new();
    for ip in [Ip::V4, Ip::V6] {
        for is_partial in [false, true] {
            for segment_bytes in [None, Some(1000)] {
                let mut packet = Packet::new(u32::MAX - 500, bytes(5500));
                packet.flags |= flag::PSH | flag::FIN | flag::CWR;
                // A card that takes segments takes checksums.
                if segment_bytes.is_some() && !is_partial {
                    continue;
                }
                (packet.ip, packet.is_partial) = (ip, is_partial);
                packet.segment_bytes = segment_bytes;
                kinds.push(packet);
            }
        }
    }
    kinds
}

#[test]
fn the_packet_at_the_point_is_cut_there() {
    for packet in kinds() {
        for count in [1, 999, 1000, 1001, 2500, 5499] {
            let mut sim = Sim::new();
            let point = arm(&mut sim, count, AtPoint::Hold);
            sim.send(&packet);
            assert_eq!(sim.counted(), count);
            assert!(point.has_fired());
            let taken = sim.taken();
            assert_eq!(taken.len(), 1);
            let (tcp, payload) = judge(&taken[0]);
            assert_eq!(payload, packet.payload[..count as usize]);
            assert_eq!(tcp.sequence, packet.sequence);
            assert!(!tcp.has(flag::FIN | flag::PSH), "the end comes later");
            assert!(tcp.has(flag::CWR));
            let is_super = packet.segment_bytes.is_some() && count > 1000;
            assert_eq!(vnet::is_super(&taken[0]), is_super);

            // It stands still, for ever.
            let mut again = Packet::new(packet.sequence, b"again");
            again.ip = packet.ip;
            sim.send(&again);
            sim.send_frame(End::Other, &Packet::new(1, b"back").frame());
            sim.pass(Duration::from_secs(3600));
            assert!(sim.out.frames.is_empty());
            assert_eq!(sim.engine.wake(), None);

            sim.engine.disarm(End::One, &point);
            sim.pump();
            let taken = sim.taken();
            assert_eq!(taken.len(), 2);
            let (tcp, payload) = judge(&taken[0]);
            assert_eq!(payload, packet.payload[count as usize..]);
            assert_eq!(tcp.sequence, packet.sequence.wrapping_add(count as u32));
            assert!(tcp.has(flag::FIN) && tcp.has(flag::PSH) && !tcp.has(flag::CWR));
            let is_super = packet.segment_bytes.is_some() && 5500 - count > 1000;
            assert_eq!(vnet::is_super(&taken[0]), is_super);
            assert_eq!(judge(&taken[1]).1, b"again");
            assert_eq!(sim.counted(), 5500);
        }
    }
}

#[test]
fn only_new_bytes_lead_to_the_point() {
    let mut sim = Sim::new();
    sim.send(&Packet::new(100, bytes(10)));
    sim.send(&Packet::new(120, bytes(10)));
    let point = arm(&mut sim, 15, AtPoint::Hold);
    sim.send(&Packet::new(100, bytes(10)));
    assert!(!point.has_fired());
    sim.taken();
    // 10 new ones in the gap, then 5 of those behind the island.
    sim.send(&Packet::new(100, bytes(60)));
    assert!(point.has_fired());
    assert_eq!(sim.payloads(), [bytes(60)[..35].to_vec()]);
    assert_eq!(sim.counted(), 35);
}

#[test]
fn a_packet_that_ends_at_the_point_is_whole() {
    let mut sim = Sim::new();
    let point = arm(&mut sim, 10, AtPoint::Hold);
    let packet = Packet::new(100, bytes(10));
    sim.send(&packet);
    assert!(point.has_fired());
    assert_eq!(sim.taken(), [packet.frame()]);
    sim.send(&Packet::new(110, bytes(10)));
    assert!(sim.taken().is_empty());
}

#[test]
fn nothing_to_wait_for_is_reached_at_once() {
    let mut sim = Sim::new();
    assert!(arm(&mut sim, 0, AtPoint::Hold).has_fired());
    sim.send(&Packet::new(100, bytes(10)));
    assert!(sim.taken().is_empty());
}

#[test]
fn two_points_are_two_cuts_and_the_wire_moves_when_both_are_released() {
    let mut sim = Sim::new();
    let first = arm(&mut sim, 3, AtPoint::Hold);
    let second = arm(&mut sim, 3, AtPoint::Hold);
    let third = arm(&mut sim, 5, AtPoint::Hold);
    sim.send(&Packet::new(100, b"abcdefgh"));
    sim.engine.disarm(End::One, &first);
    sim.pump();
    assert_eq!(sim.payloads(), [b"abc"]);
    sim.engine.disarm(End::One, &second);
    sim.pump();
    assert_eq!(sim.payloads(), [b"de"]);
    assert!(third.has_fired());
    sim.engine.disarm(End::One, &third);
    sim.pump();
    assert_eq!(sim.payloads(), [b"fgh"]);
}

#[test]
fn a_point_that_was_given_up_does_not_fire() {
    let mut sim = Sim::new();
    let point = arm(&mut sim, 3, AtPoint::Hold);
    sim.engine.disarm(End::One, &point);
    sim.send(&Packet::new(100, b"abcdefgh"));
    assert_eq!(sim.payloads(), [b"abcdefgh"]);
    assert!(!point.has_fired());
}

#[test]
fn without_a_hold_it_flows_on_when_noticed() {
    let mut sim = Sim::new();
    let point = arm(&mut sim, 3, AtPoint::FlowOn);
    sim.send(&Packet::new(100, b"abcdefgh"));
    sim.send_frame(End::Other, &Packet::new(1, b"back").frame());
    assert_eq!(sim.out.frames.len(), 2, "the other direction does not wait");
    assert_eq!(sim.payloads(), [b"abc"]);
    point.notice();
    sim.pump();
    assert_eq!(sim.payloads(), [b"defgh"]);
}

#[test]
fn without_a_hold_it_flows_on_after_5_ms_if_nobody_notices() {
    let mut sim = Sim::new();
    let _point = arm(&mut sim, 3, AtPoint::FlowOn);
    sim.send(&Packet::new(100, b"abcdefgh"));
    sim.pass(Duration::from_micros(4999));
    assert_eq!(sim.payloads(), [b"abc"]);
    sim.pass(Duration::from_micros(1));
    assert_eq!(sim.payloads(), [b"defgh"]);
}

#[test]
fn behind_a_cut_everything_is_lost_both_ways_until_released() {
    let mut sim = Sim::new();
    let point = arm(&mut sim, 3, AtPoint::Cut);
    sim.send(&Packet::new(100, b"abcdefgh"));
    sim.send_frame(End::Other, &Packet::new(1, b"back").frame());
    assert_eq!(sim.payloads(), [b"abc"]);
    sim.engine.disarm(End::One, &point);
    sim.pass(Duration::from_secs(1));
    assert!(sim.out.frames.is_empty(), "nothing was kept");
    sim.send(&Packet::new(100, b"abcdefgh"));
    assert_eq!(sim.payloads(), [b"abcdefgh"]);
    assert_eq!(sim.counted(), 8);
}

#[test]
fn what_waits_while_it_stands_still_is_bounded() {
    let shape = Shape {
        queue_bytes: Some(100_000),
        ..Shape::default()
    };
    let mut sim = Sim::of(shape, Faults::default());
    let point = arm(&mut sim, 0, AtPoint::Hold);
    for at in 0..1000 {
        sim.send(&Packet::new(at * 1000, bytes(1000)));
    }
    sim.engine.disarm(End::One, &point);
    sim.pump();
    let count = sim.payloads().len();
    assert!((75..=100).contains(&count), "{count}");
}

#[test]
fn a_way_out_that_fills_up_at_the_point_changes_nothing() {
    let mut sim = Sim::new();
    let point = arm(&mut sim, 3, AtPoint::Hold);
    sim.out.room = Some(0);
    sim.send(&Packet::new(100, b"abcdefgh"));
    assert!(!point.has_fired());
    sim.out.room = None;
    sim.engine.has_room(End::Other);
    sim.pump();
    assert!(point.has_fired());
    assert_eq!(sim.payloads(), [b"abc"]);
}

#[test]
fn who_has_reset_while_it_stood_still_is_handed_nothing_more() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    let point = arm(&mut sim, 3, AtPoint::Hold);
    sim.send(&Packet::new(100, b"abcdef"));
    sim.send(&Packet::new(106, b"ghi"));
    assert_eq!(sim.taken().len(), 2);
    // The receiver's answer, ports and addresses the other way round.
    let packet = Packet::new(100, b"abc").frame();
    let Content::Tcp(tcp) = frame::read(&packet) else {
        panic!("not TCP");
    };
    let reset = super::super::reset::answer(&packet, &tcp).unwrap();
    sim.send_frame(End::Other, &reset);
    sim.engine.disarm(End::One, &point);
    sim.pump();
    assert_eq!(
        sim.out.frames,
        [(End::One, reset)],
        "only the reset goes on"
    );
    assert_eq!(sim.counted(), 3);
    // The next connection may have the same ports.
    sim.out.frames.clear();
    sim.send(&Packet::syn(5000));
    sim.send(&Packet::new(5001, b"abc"));
    assert_eq!(sim.taken().len(), 2);
    assert_eq!(sim.counted(), 6);
}
