//! The engine with packets in memory and a clock that the test turns.

mod carried;
mod count;
mod hold;
mod hostile;
mod quality;

use std::time::{Duration, Instant};

use super::conditions::{Faults, Shape};
use super::engine::{End, Engine, Sent, Ways};
use super::frame::{self, Content, IP_AT, Ip, Tcp, flag};
use super::vnet;

/// A TCP packet as a host's kernel hands it over.
#[derive(Debug, Clone)]
struct Packet {
    ip: Ip,
    port: u16,
    sequence: u32,
    payload: Vec<u8>,
    flags: u8,
    /// Payload bytes of each segment, where it is several.
    segment_bytes: Option<u16>,
    /// The checksum is left to the card.
    is_partial: bool,
    /// Words of TCP options.
    option_words: usize,
}

impl Packet {
    fn new(sequence: u32, payload: impl AsRef<[u8]>) -> Self {
        Self {
            ip: Ip::V4,
            port: 1000,
            sequence,
            payload: payload.as_ref().to_vec(),
            flags: flag::ACK,
            segment_bytes: None,
            is_partial: false,
            option_words: 3,
        }
    }

    fn syn(sequence: u32) -> Self {
        let mut packet = Self::new(sequence, []);
        packet.flags = flag::SYN;
        packet
    }

    fn frame(&self) -> Vec<u8> {
        let tcp_bytes = 20 + 4 * self.option_words;
        let transport_bytes = tcp_bytes + self.payload.len();
        let ip_bytes: usize = if self.ip == Ip::V4 { 20 } else { 40 };
        let place = ((14 + ip_bytes) as u16, 16);
        let is_v6 = self.ip == Ip::V6;
        let checksum = self.is_partial.then_some(place);
        let mut frame = vnet::header(checksum, self.segment_bytes, is_v6).to_vec();
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        match self.ip {
            Ip::V4 => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend(((20 + transport_bytes) as u16).to_be_bytes());
                frame.extend([0xff, 0xfe, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
                let sum = !naive_sum(&frame[IP_AT..], 0);
                frame[IP_AT + 10..IP_AT + 12].copy_from_slice(&sum.to_be_bytes());
            }
            Ip::V6 => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((transport_bytes as u16).to_be_bytes());
                frame.extend([6, 64]);
                for last in [1, 2] {
                    frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
                }
            }
        }
        let at = frame.len();
        frame.extend(self.port.to_be_bytes());
        frame.extend(2000_u16.to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(77_u32.to_be_bytes());
        frame.extend([((tcp_bytes / 4) << 4) as u8, self.flags, 1, 0, 0, 0, 0, 0]);
        // Options that do nothing.
        frame.extend(std::iter::repeat_n(1, 4 * self.option_words));
        frame.extend(&self.payload);
        let pseudo = naive_pseudo(&frame, self.ip, transport_bytes);
        let sum = match self.is_partial {
            true => pseudo,
            false => !naive_sum(&frame[at..], u64::from(pseudo)),
        };
        frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

/// The sum of 16-bit words in the plainest way there is.
fn naive_sum(bytes: &[u8], start: u64) -> u16 {
    let mut sum = start;
    for (at, byte) in bytes.iter().enumerate() {
        sum += u64::from(*byte) << if at % 2 == 0 { 8 } else { 0 };
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn naive_pseudo(frame: &[u8], ip: Ip, length: usize) -> u16 {
    let addresses = match ip {
        Ip::V4 => &frame[IP_AT + 12..IP_AT + 20],
        Ip::V6 => &frame[IP_AT + 8..IP_AT + 40],
    };
    naive_sum(addresses, 6 + length as u64)
}

/// What a frame says, once all its lengths and checksums are found right.
fn judge(frame: &[u8]) -> (Tcp, Vec<u8>) {
    let Content::Tcp(tcp) = frame::read(frame) else {
        panic!("not TCP: {frame:02x?}");
    };
    assert_eq!(tcp.end, frame.len(), "IP's length is the frame's");
    assert!(has_right_checksums(frame, &tcp), "{frame:02x?}");
    (tcp, frame[tcp.payload_at..tcp.end].to_vec())
}

fn has_right_checksums(frame: &[u8], tcp: &Tcp) -> bool {
    let v4 = tcp.ip != Ip::V4 || naive_sum(&frame[IP_AT..IP_AT + 20], 0) == 0xffff;
    let pseudo = naive_pseudo(frame, tcp.ip, frame.len() - tcp.at);
    let field = u16::from_be_bytes([frame[tcp.at + 16], frame[tcp.at + 17]]);
    let transport = match vnet::needs_checksum(frame) {
        true => field == pseudo,
        false => naive_sum(&frame[tcp.at..], u64::from(pseudo)) == 0xffff,
    };
    v4 && transport
}

/// Where frames come out.
#[derive(Debug, Default)]
struct Out {
    frames: Vec<(End, Vec<u8>)>,
    /// So many more are taken, then it is full.
    room: Option<usize>,
    /// Nothing gets through.
    is_lossy: bool,
}

impl Ways for Out {
    fn send(&mut self, to: End, frame: &[u8]) -> Sent {
        match &mut self.room {
            Some(0) => return Sent::Full,
            Some(room) => *room -= 1,
            None => {}
        }
        if self.is_lossy {
            return Sent::Lost;
        }
        self.frames.push((to, frame.to_vec()));
        Sent::Done
    }
}

/// An engine with its clock.
struct Sim {
    engine: Engine,
    start: Instant,
    now: Instant,
    out: Out,
}

impl Sim {
    fn new() -> Self {
        Self::of(Shape::default(), Faults::default())
    }

    fn of(shape: Shape, faults: Faults) -> Self {
        let now = Instant::now();
        Self {
            engine: Engine::new(&shape, &faults, now),
            start: now,
            now,
            out: Out::default(),
        }
    }

    /// The first end's host sends.
    fn send(&mut self, packet: &Packet) {
        self.send_frame(End::One, &packet.frame());
    }

    fn send_frame(&mut self, from: End, frame: &[u8]) {
        self.engine.receive(from, frame, self.now, &mut self.out);
        self.pump();
    }

    fn pump(&mut self) {
        self.engine.pump(self.now, usize::MAX, &mut self.out);
    }

    /// Lets time pass, from one moment at which something is due to the next.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.engine.wake()
            && wake <= end
        {
            self.now = self.now.max(wake);
            self.pump();
        }
        self.now = end;
        self.pump();
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Counted from the first end to the other.
    fn counted(&self) -> u64 {
        self.engine.direction(End::One).counted
    }

    /// What came out at the other end since last asked.
    fn taken(&mut self) -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut self.out.frames);
        let at_other = |(to, frame): (End, _)| (to == End::Other).then_some(frame);
        frames.into_iter().filter_map(at_other).collect()
    }

    /// The payload of all that.
    fn payloads(&mut self) -> Vec<Vec<u8>> {
        self.taken().iter().map(|frame| judge(frame).1).collect()
    }
}

/// Bytes of which each tells its place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at / 251 + at) as u8).collect()
}
