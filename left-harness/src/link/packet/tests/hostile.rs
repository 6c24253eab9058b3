//! Bytes that no honest kernel sends.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::direction::Passage;
use super::*;
use crate::link::packet::point::AtPoint;

fn seeds() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for ip in [Ip::V4, Ip::V6] {
        for (segment_bytes, is_partial) in [(None, false), (None, true), (Some(100), true)] {
            for flags in [flag::SYN, flag::ACK, flag::ACK | flag::FIN, flag::RST] {
                let mut packet = Packet::new(1000, bytes(400));
                (packet.ip, packet.flags, packet.is_partial) = (ip, flags, is_partial);
                packet.segment_bytes = segment_bytes;
                frames.push(packet.frame());
            }
        }
    }
    frames
}

/// An odd frame: some bytes changed, most of them in the headers, or cut short.
fn mutate(frame: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(0..6) {
        let end = frame.len().min(120);
        let at = random.random_range(0..end);
        frame[at] = random.random();
    }
    if random.random_range(0..4) == 0 {
        let length = random.random_range(vnet::BYTES + 14..=frame.len());
        frame.truncate(length);
    }
}

#[test]
fn odd_packets_pass_and_break_nothing() {
    let seeds = seeds();
    let mut passed = 0;
    for seed in 0..400 {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = Faults {
            seed,
            flip: 0.1,
            duplicate: 0.1,
            ..Faults::default()
        };
        let faults = if seed % 2 == 0 {
            faults
        } else {
            Faults::default()
        };
        let mut sim = Sim::of(Shape::default(), faults);
        for round in 0..100 {
            let mut frame = seeds[random.random_range(0..seeds.len())].clone();
            mutate(&mut frame, &mut random);
            let count = random.random_range(0..300);
            let point = sim.engine.arm(End::One, count, AtPoint::Hold, sim.now);
            if round == 80 {
                sim.engine.direction_mut(End::One).passage = Passage::Refused;
            }
            sim.send_frame(End::One, &frame);
            if round % 10 == 0 {
                sim.engine.reset(sim.now);
            }
            sim.engine.disarm(End::One, &point);
            sim.pass(Duration::from_millis(10));
            passed += sim.out.frames.len();
            sim.out.frames.clear();
        }
    }
    assert!(passed > 20_000, "{passed}");
}

#[test]
fn what_is_not_understood_passes_as_it_is() {
    let mut sim = Sim::new();
    let mut random = StdRng::seed_from_u64(1);
    for length in 24..200 {
        let mut frame = vec![0; length];
        random.fill(&mut frame[vnet::BYTES..]);
        sim.send_frame(End::One, &frame);
        assert_eq!(sim.taken(), [frame]);
    }
}

#[test]
fn numbers_far_away_do_not_count() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    sim.send(&Packet::new(100, b"abc"));
    sim.send(&Packet::new(100 + (1 << 30) + 100, b"far"));
    sim.send(&Packet::new(100_u32.wrapping_sub(50), b"old"));
    assert_eq!(sim.counted(), 3);
    assert_eq!(sim.taken().len(), 4);
}

#[test]
fn gaps_without_end_are_bounded() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    for at in 1..20_000 {
        sim.send(&Packet::new(100 + at * 2, b"x"));
    }
    assert_eq!(sim.counted(), 19_999);
    // The last gap is remembered, the first is given up.
    sim.send(&Packet::new(100 + 19_999 * 2 - 1, b"x"));
    assert_eq!(sim.counted(), 20_000);
    sim.send(&Packet::new(100, b"x"));
    assert_eq!(sim.counted(), 20_000);
}
