//! Frames made from frames: pieces of a TCP packet, its segments, a damaged copy.

use std::ops::Range;

use super::checksum;
use super::frame::{self, Content, IP_AT, Ip, Tcp, flag};
use super::vnet;

/// A packet that carries only this part of the payload, with everything in its
/// headers as it would be had it been sent like that. `range` must lie in it.
pub(super) fn piece(frame: &[u8], tcp: &Tcp, range: Range<usize>) -> Vec<u8> {
    let is_first = range.start == 0;
    let is_last = range.end == tcp.payload_bytes();
    let mut bytes = Vec::with_capacity(tcp.payload_at + range.len());
    bytes.extend_from_slice(&frame[..tcp.payload_at]);
    bytes.extend_from_slice(&frame[tcp.payload_at + range.start..tcp.payload_at + range.end]);

    let segment_bytes = vnet::segment_bytes(frame);
    if segment_bytes.is_some_and(|size| range.len() <= size) {
        vnet::set_single(&mut bytes);
    }
    // Behind the first segment a SYN would be another connection's.
    let mut flags = tcp.flags;
    if !is_first {
        flags &= !(flag::SYN | flag::CWR);
        vnet::clear_ecn(&mut bytes);
    }
    if !is_last {
        flags &= !(flag::FIN | flag::PSH);
    }
    bytes[tcp.at + 13] = flags;
    let syn = u32::from(flags & flag::SYN != 0);
    // The lengths of packets are far below 4 GiB.
    let sequence = tcp.sequence.wrapping_add(range.start as u32);
    let sequence = sequence.wrapping_sub(syn);
    bytes[tcp.at + 4..tcp.at + 8].copy_from_slice(&sequence.to_be_bytes());

    let before = segment_bytes.map_or(usize::from(!is_first), |size| range.start.div_ceil(size));
    set_ip_header(&mut bytes, tcp.ip, before as u16);
    set_tcp_checksum(&mut bytes, tcp);
    bytes
}

/// Lengths, and for IPv4 the number of the packet (so many before it were made
/// from the same frame) and the checksum.
fn set_ip_header(bytes: &mut [u8], ip: Ip, before: u16) {
    let total = bytes.len() - IP_AT;
    match ip {
        Ip::V4 => {
            // As in `frame`: 0 where the field is too small.
            let length = u16::try_from(total).unwrap_or(0);
            bytes[IP_AT + 2..IP_AT + 4].copy_from_slice(&length.to_be_bytes());
            let id = u16::from_be_bytes([bytes[IP_AT + 4], bytes[IP_AT + 5]]);
            let id = id.wrapping_add(before);
            bytes[IP_AT + 4..IP_AT + 6].copy_from_slice(&id.to_be_bytes());
            set_v4_checksum(bytes);
        }
        Ip::V6 => {
            let length = u16::try_from(total - 40).unwrap_or(0);
            bytes[IP_AT + 4..IP_AT + 6].copy_from_slice(&length.to_be_bytes());
        }
    }
}

pub(super) fn set_v4_checksum(bytes: &mut [u8]) {
    let end = IP_AT + usize::from(bytes[IP_AT] & 15) * 4;
    bytes[IP_AT + 10..IP_AT + 12].fill(0);
    let sum = checksum::of(&bytes[IP_AT..end]);
    bytes[IP_AT + 10..IP_AT + 12].copy_from_slice(&sum.to_be_bytes());
}

/// The whole sum, or that of the pseudo header alone where the rest is left to
/// who sends it.
pub(super) fn set_tcp_checksum(bytes: &mut [u8], tcp: &Tcp) {
    let pseudo = checksum::pseudo(tcp.ip, &bytes[IP_AT..], checksum::TCP, bytes.len() - tcp.at);
    let field = tcp.at + 16..tcp.at + 18;
    let sum = if vnet::needs_checksum(bytes) {
        pseudo
    } else {
        bytes[field.clone()].fill(0);
        checksum::behind(pseudo, &bytes[tcp.at..])
    };
    bytes[field].copy_from_slice(&sum.to_be_bytes());
}

/// The packets that a frame of several would be on a wire; any other as it is.
pub(super) fn segments(frame: &[u8]) -> Vec<Vec<u8>> {
    if let Some(size) = vnet::segment_bytes(frame)
        && let Content::Tcp(tcp) = frame::read(frame)
        && tcp.payload_bytes() > size
    {
        let payload_bytes = tcp.payload_bytes();
        return (0..payload_bytes)
            .step_by(size)
            .map(|start| piece(frame, &tcp, start..payload_bytes.min(start + size)))
            .collect();
    }
    vec![frame.to_vec()]
}

/// Does what the sender left of the checksum. A place outside of the frame is
/// nobody's checksum, and left.
pub(super) fn complete(frame: &mut [u8]) {
    if !vnet::needs_checksum(frame) {
        return;
    }
    let (start, field) = vnet::checksum_place(frame);
    let (start, field) = (vnet::BYTES + start, vnet::BYTES + field);
    vnet::set_checksum_done(frame);
    // A short frame has padding behind the packet, of which nothing is summed.
    let end = match frame::read(frame) {
        Content::Tcp(tcp) => tcp.end,
        _ => frame.len(),
    };
    if start <= field && field + 2 <= end {
        // The field holds the sum of the pseudo header and is summed with the rest.
        let mut sum = checksum::of(&frame[start..end]);
        if sum == 0 {
            // For UDP 0 says "none"; for all it is the same number.
            sum = 0xffff;
        }
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Turns one bit over behind the Ethernet header, as a wire would: the checksum
/// does not agree any more. `choice` says which bit.
pub(super) fn flip(frame: &mut [u8], choice: u64) {
    complete(frame);
    let bits = frame.len().saturating_sub(IP_AT) as u64 * 8;
    if bits > 0 {
        let bit = choice % bits;
        frame[IP_AT + (bit / 8) as usize] ^= 1 << (bit % 8);
    }
}
