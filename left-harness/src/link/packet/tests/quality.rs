//! Shapes and faults.

use super::super::direction::Passage;
use super::super::piece;
use super::*;

/// Sends so many packets of one byte, and gives which of them came out.
fn survivors(faults: Faults, count: u32) -> Vec<u8> {
    let mut sim = Sim::of(Shape::default(), faults);
    for at in 0..count {
        sim.send(&Packet::new(100 + at, [at as u8]));
    }
    sim.pass(Duration::from_secs(1));
    sim.payloads().concat()
}

#[test]
fn the_segments_of_a_packet_are_what_a_card_would_send() {
    for ip in [Ip::V4, Ip::V6] {
        let mut packet = Packet::new(u32::MAX - 1500, bytes(4100));
        packet.flags |= flag::PSH | flag::FIN | flag::CWR;
        (packet.ip, packet.is_partial) = (ip, true);
        packet.segment_bytes = Some(1000);
        let segments = piece::segments(&packet.frame());
        assert_eq!(segments.len(), 5);
        let mut whole = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            let (tcp, payload) = judge(segment);
            let expected = packet.sequence.wrapping_add(1000 * at as u32);
            assert_eq!(tcp.sequence, expected);
            assert_eq!(tcp.has(flag::CWR), at == 0);
            assert_eq!(tcp.has(flag::FIN), at == 4);
            assert_eq!(tcp.has(flag::PSH), at == 4);
            assert!(!vnet::is_super(segment));
            if ip == Ip::V4 {
                let id = u16::from_be_bytes([segment[IP_AT + 4], segment[IP_AT + 5]]);
                assert_eq!(id, 0xfffe_u16.wrapping_add(at as u16));
            }
            // The same with the checksum done here.
            let mut complete = segment.clone();
            piece::complete(&mut complete);
            assert!(!vnet::needs_checksum(&complete));
            assert_eq!(judge(&complete).1, payload);
            whole.extend(payload);
        }
        assert_eq!(whole, packet.payload);
    }
}

#[test]
fn a_delay_is_exact_and_keeps_the_order() {
    let delay = Duration::from_millis(30);
    let shape = Shape {
        delay,
        ..Shape::default()
    };
    let mut sim = Sim::of(shape, Faults::default());
    for at in 0..10 {
        sim.send(&Packet::new(100 + at, [at as u8]));
        sim.pass(Duration::from_millis(1));
    }
    sim.pass(Duration::from_millis(20) - Duration::from_nanos(1));
    assert!(sim.taken().is_empty());
    assert_eq!(sim.counted(), 0, "on the way is not delivered");
    for at in 0..10 {
        sim.pass(Duration::from_nanos(1));
        assert_eq!(sim.payloads(), [[at]], "after {:?}", sim.elapsed());
        sim.pass(Duration::from_millis(1) - Duration::from_nanos(1));
    }
}

#[test]
fn jitter_adds_to_the_delay_and_keeps_the_order() {
    let (delay, jitter) = (Duration::from_millis(30), Duration::from_millis(20));
    let shape = Shape {
        delay,
        jitter,
        ..Shape::default()
    };
    let mut sim = Sim::of(shape, Faults::default());
    for at in 0..100 {
        sim.send(&Packet::new(100 + at, [at as u8]));
    }
    sim.pass(delay - Duration::from_nanos(1));
    assert!(sim.taken().is_empty());
    sim.pass(jitter);
    let expected: Vec<u8> = (0..100).collect();
    assert_eq!(sim.payloads().concat(), expected);
}

#[test]
fn a_rate_lets_so_much_through() {
    for rate in [100_000, 10_000_000] {
        let shape = Shape {
            rate: Some(rate),
            queue_bytes: Some(u64::MAX),
            ..Shape::default()
        };
        let mut sim = Sim::of(shape, Faults::default());
        let mut sent = 0;
        while sent < 3 * rate as usize {
            let mut packet = Packet::new(sent as u32, vec![0; 60_000]);
            (packet.segment_bytes, packet.is_partial) = (Some(1400), true);
            sim.send(&packet);
            sent += 60_000;
        }
        sim.pass(Duration::from_secs(2));
        let went: usize = sim.taken().iter().map(Vec::len).sum();
        let share = went as f64 / (2 * rate) as f64;
        assert!((0.98..1.08).contains(&share), "{share} of {rate}");
    }
}

#[test]
fn the_same_seed_loses_the_same_packets_and_about_as_many_as_asked() {
    let faults = |seed| Faults {
        seed,
        loss: 0.2,
        ..Faults::default()
    };
    let got = survivors(faults(3), 5000);
    assert!((3850..4150).contains(&got.len()), "{}", got.len());
    assert_eq!(got, survivors(faults(3), 5000));
    assert_ne!(got, survivors(faults(4), 5000));
}

#[test]
fn a_packet_of_many_segments_loses_only_some_of_them() {
    let faults = Faults {
        loss: 0.3,
        ..Faults::default()
    };
    let mut sim = Sim::of(Shape::default(), faults);
    let mut packet = Packet::new(100, bytes(60_000));
    (packet.segment_bytes, packet.is_partial) = (Some(1000), true);
    sim.send(&packet);
    let payloads = sim.payloads();
    assert!((30..55).contains(&payloads.len()), "{}", payloads.len());
    assert_eq!(sim.counted(), payloads.concat().len() as u64);
}

#[test]
fn what_is_sent_twice_counts_once() {
    let faults = Faults {
        duplicate: 1.0,
        ..Faults::default()
    };
    let mut sim = Sim::of(Shape::default(), faults);
    sim.send(&Packet::new(100, b"abc"));
    assert_eq!(sim.payloads(), [b"abc", b"abc"]);
    assert_eq!(sim.counted(), 3);
}

#[test]
fn what_is_held_back_is_overtaken_and_nothing_is_lost() {
    let faults = Faults {
        reorder: 0.2,
        ..Faults::default()
    };
    let mut got = survivors(faults, 200);
    assert!(!got.is_sorted());
    got.sort_unstable();
    let expected: Vec<u8> = (0..200).collect();
    assert_eq!(got, expected);
}

#[test]
fn a_bit_turned_over_shows_in_the_checksum_and_does_not_count() {
    for is_partial in [false, true] {
        for seed in 0..300 {
            let faults = Faults {
                seed,
                flip: 1.0,
                ..Faults::default()
            };
            let mut sim = Sim::of(Shape::default(), faults);
            let mut packet = Packet::new(100, bytes(100));
            packet.is_partial = is_partial;
            sim.send(&packet);
            assert_eq!(sim.counted(), 0);
            let taken = sim.taken();
            let mut expected = packet.frame();
            piece::complete(&mut expected);
            let changed = expected.iter().zip(&taken[0]);
            let changed: u32 = changed.map(|(one, other)| (one ^ other).count_ones()).sum();
            assert_eq!(changed, 1);
            // Where it still looks like TCP, no receiver believes it.
            if let Content::Tcp(tcp) = frame::read(&taken[0])
                && tcp.end == taken[0].len()
            {
                assert!(!has_right_checksums(&taken[0], &tcp));
            }
            sim.engine
                .direction_mut(End::One)
                .set_faults(Faults::default());
            sim.send(&packet);
            assert_eq!(sim.counted(), 100);
        }
    }
}

#[test]
fn a_cut_of_one_direction_leaves_the_other() {
    let mut sim = Sim::new();
    sim.engine.direction_mut(End::One).passage = Passage::Cut;
    sim.send(&Packet::new(100, b"lost"));
    sim.send_frame(End::Other, &Packet::new(1, b"back").frame());
    assert_eq!(sim.out.frames.len(), 1);
    assert_eq!(sim.out.frames[0].0, End::One);
    sim.engine.direction_mut(End::One).passage = Passage::Open;
    sim.send(&Packet::new(100, b"kept"));
    assert_eq!(sim.payloads(), [b"kept"]);
    assert_eq!(sim.counted(), 4);
}

#[test]
fn a_reset_has_the_numbers_that_its_receiver_waits_for() {
    for ip in [Ip::V4, Ip::V6] {
        let mut sim = Sim::new();
        let of = |mut packet: Packet| {
            packet.ip = ip;
            packet
        };
        sim.send(&of(Packet::syn(99)));
        sim.send(&of(Packet::new(100, b"abc")));
        // Behind a gap: not what is waited for.
        sim.send(&of(Packet::new(110, b"xyz")));
        sim.taken();
        sim.engine.reset(sim.now);
        sim.pump();
        let taken = sim.taken();
        assert_eq!(taken.len(), 1);
        let (tcp, payload) = judge(&taken[0]);
        assert_eq!((tcp.sequence, tcp.flags), (103, flag::RST));
        assert!(payload.is_empty());
        // It is over.
        sim.engine.reset(sim.now);
        sim.pump();
        assert!(sim.taken().is_empty());
    }
}

#[test]
fn a_refused_packet_is_answered_and_not_passed_on() {
    let mut sim = Sim::new();
    sim.engine.direction_mut(End::One).passage = Passage::Refused;
    sim.send(&Packet::syn(99));
    let frames = std::mem::take(&mut sim.out.frames);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].0, End::One);
    let (tcp, _) = judge(&frames[0].1);
    assert_eq!(tcp.flags, flag::RST | flag::ACK);
    assert_eq!((tcp.acknowledged, tcp.key.target.1), (100, 1000));
    sim.send(&Packet::new(100, b"abc"));
    let (tcp, _) = judge(&sim.out.frames[0].1);
    // What that packet acknowledged is what its sender waits for.
    assert_eq!(tcp.sequence, 77);
    assert_eq!(sim.counted(), 0);
}
