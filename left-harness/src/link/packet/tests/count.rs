//! What counts as delivered.

use super::*;

#[test]
fn a_retransmission_does_not_count() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    sim.send(&Packet::new(100, bytes(50)));
    sim.send(&Packet::new(100, bytes(50)));
    sim.send(&Packet::new(120, bytes(50)));
    assert_eq!(sim.counted(), 70);
    // All of it went, counted or not.
    assert_eq!(sim.taken().len(), 4);
}

#[test]
fn the_end_and_the_beginning_do_not_count() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    let mut fin = Packet::new(100, b"last");
    fin.flags |= flag::FIN;
    sim.send(&fin);
    sim.send(&Packet::new(105, []));
    assert_eq!(sim.counted(), 4);
}

#[test]
fn data_that_comes_with_the_first_packet_counts() {
    let mut sim = Sim::new();
    let mut syn = Packet::syn(99);
    syn.payload = bytes(10);
    sim.send(&syn);
    sim.send(&Packet::new(100, bytes(10)));
    sim.send(&Packet::new(110, bytes(10)));
    assert_eq!(sim.counted(), 20);
}

#[test]
fn numbers_go_round() {
    let mut sim = Sim::new();
    let first = u32::MAX - 999;
    sim.send(&Packet::syn(first.wrapping_sub(1)));
    for step in 0..40_u32 {
        let at = first.wrapping_add(step * 100);
        sim.send(&Packet::new(at, bytes(100)));
        sim.send(&Packet::new(at.wrapping_sub(50), bytes(100)));
    }
    assert_eq!(sim.counted(), 4000);
}

#[test]
fn a_stream_of_more_than_4_gib_counts_on() {
    let mut sim = Sim::new();
    let mut sequence = 5_u32;
    let payload = vec![0; 60_000];
    sim.send(&Packet::syn(4));
    let Content::Tcp(mut tcp) = frame::read(&Packet::new(5, &payload).frame()) else {
        panic!("not TCP");
    };
    let flows = &mut sim.engine.direction_mut(End::One).flows;
    let mut sum = 0;
    for _ in 0..150_000 {
        tcp.sequence = sequence;
        sum += flows.take(&[0; 100], &tcp);
        sum += flows.take(&[0; 100], &tcp);
        sequence = sequence.wrapping_add(60_000);
    }
    assert_eq!(sum, 150_000 * 60_000);
}

#[test]
fn what_overtook_and_what_came_late_count_once_each() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    let mut expected = 0;
    // Every second piece first, then everything in larger steps, shifted.
    for at in (0..1000).step_by(20) {
        sim.send(&Packet::new(100 + at, bytes(10)));
        expected += 10;
        assert_eq!(sim.counted(), expected);
    }
    for at in (5..1000).step_by(35) {
        sim.send(&Packet::new(100 + at, bytes(35)));
    }
    sim.send(&Packet::new(100, bytes(40)));
    assert_eq!(sim.counted(), 1020);
}

#[test]
fn any_order_of_any_pieces_counts_as_a_plain_map_does() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..50 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut sim = Sim::new();
        let first: u32 = random.random();
        sim.send(&Packet::syn(first.wrapping_sub(1)));
        let mut went = vec![false; 4000];
        for _ in 0..200 {
            let at = random.random_range(0..3900);
            let length = random.random_range(0..100);
            let sequence = first.wrapping_add(at as u32);
            sim.send(&Packet::new(sequence, bytes(length)));
            went[at..at + length].fill(true);
            let expected = went.iter().filter(|went| **went).count() as u64;
            assert_eq!(sim.counted(), expected, "seed {seed}");
        }
    }
}

#[test]
fn a_new_connection_on_the_same_ports_begins_anew() {
    let mut sim = Sim::new();
    for first in [100, 5_000_000, 300] {
        sim.send(&Packet::syn(first - 1));
        // Nobody answered at once.
        sim.send(&Packet::syn(first - 1));
        sim.send(&Packet::new(first, bytes(1000)));
        sim.send(&Packet::syn(first - 1));
        sim.send(&Packet::new(first, bytes(1000)));
    }
    assert_eq!(sim.counted(), 3000);
}

#[test]
fn only_what_was_handed_on_counts() {
    let mut sim = Sim::new();
    sim.out.is_lossy = true;
    sim.send(&Packet::new(100, bytes(50)));
    assert_eq!(sim.counted(), 0);
    sim.out.is_lossy = false;
    sim.send(&Packet::new(100, bytes(50)));
    assert_eq!(sim.counted(), 50);
}

#[test]
fn a_full_way_out_keeps_the_order_and_loses_nothing() {
    let mut sim = Sim::new();
    sim.out.room = Some(1);
    for at in 0..5 {
        sim.send(&Packet::new(100 + at, [at as u8]));
    }
    assert_eq!(sim.counted(), 1);
    assert!(sim.engine.wants_room(End::Other));
    sim.out.room = None;
    sim.engine.has_room(End::Other);
    sim.pump();
    assert_eq!(sim.payloads(), [[0], [1], [2], [3], [4]]);
    assert_eq!(sim.counted(), 5);
    assert!(!sim.engine.wants_room(End::Other));
}

#[test]
fn datagrams_and_fragments_are_activity_and_chatter_is_not() {
    let mut sim = Sim::new();
    let other = |sim: &Sim| sim.engine.direction(End::One).other;
    let mut udp = Packet::new(0, bytes(100)).frame();
    udp[IP_AT + 9] = 17;
    sim.send_frame(End::One, &udp);
    // Of TCP's 32 bytes of header UDP takes 8.
    assert_eq!(other(&sim), 124);
    let mut fragment = Packet::new(0, bytes(100)).frame();
    fragment[IP_AT + 6] = 0x20;
    sim.send_frame(End::One, &fragment);
    assert_eq!(other(&sim), 124 + 132);
    let mut icmp = Packet::new(0, bytes(100)).frame();
    icmp[IP_AT + 9] = 1;
    sim.send_frame(End::One, &icmp);
    let mut arp = vec![0; 52];
    arp[IP_AT - 2..IP_AT].copy_from_slice(&[8, 6]);
    sim.send_frame(End::One, &arp);
    assert_eq!(other(&sim), 124 + 132);
    assert_eq!(sim.counted(), 0);
    assert_eq!(sim.taken().len(), 4);
}

#[test]
fn tcp_behind_extension_headers_counts() {
    let mut sim = Sim::new();
    let mut packet = Packet::new(100, bytes(100));
    packet.ip = Ip::V6;
    let mut frame = packet.frame();
    frame[IP_AT + 6] = 0;
    frame.splice(IP_AT + 40..IP_AT + 40, [60, 0, 1, 4, 0, 0, 0, 0]);
    frame.splice(IP_AT + 48..IP_AT + 48, [6, 0, 1, 4, 0, 0, 0, 0]);
    let length = u16::from_be_bytes([frame[IP_AT + 4], frame[IP_AT + 5]]) + 16;
    frame[IP_AT + 4..IP_AT + 6].copy_from_slice(&length.to_be_bytes());
    sim.send_frame(End::One, &frame);
    assert_eq!(sim.counted(), 100);
    assert_eq!(sim.taken(), [frame]);
}

#[test]
fn of_many_connections_the_ended_ones_are_forgotten_first() {
    let mut sim = Sim::new();
    sim.send(&Packet::syn(99));
    sim.send(&Packet::new(100, bytes(100)));
    for port in 2000..20_000 {
        let mut fin = Packet::new(7, b"x");
        (fin.port, fin.flags) = (port, flag::ACK | flag::FIN);
        sim.send(&fin);
    }
    let before = sim.counted();
    sim.send(&Packet::new(100, bytes(100)));
    assert_eq!(sim.counted(), before, "the living one is remembered");
    assert!(sim.engine.direction(End::One).flows.living().count() <= 4096);
}
