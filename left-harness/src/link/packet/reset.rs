//! RST packets towards either end of a connection.

use super::frame::{Content, IP_AT, Ip, Tcp, flag, read};
use super::piece;
use super::vnet;

/// A packet of headers alone that says "reset" in the direction of this one. Its
/// numbers are still to be set.
pub(super) fn sample(frame: &[u8], tcp: &Tcp) -> Vec<u8> {
    let mut bytes = frame[..tcp.at + 20].to_vec();
    bytes[..vnet::BYTES].fill(0);
    // Five words of header, and nothing to report.
    bytes[tcp.at + 12] = 5 << 4;
    bytes[tcp.at + 13] = flag::RST;
    bytes[tcp.at + 14..tcp.at + 20].fill(0);
    let total = (bytes.len() - IP_AT) as u16;
    match tcp.ip {
        Ip::V4 => bytes[IP_AT + 2..IP_AT + 4].copy_from_slice(&total.to_be_bytes()),
        Ip::V6 => bytes[IP_AT + 4..IP_AT + 6].copy_from_slice(&(total - 40).to_be_bytes()),
    }
    bytes
}

/// A reset in the direction of the sample, as if its sender had sent it: the
/// receiver believes it if `sequence` is what it waits for.
pub(super) fn along(sample: &[u8], sequence: u32) -> Option<Vec<u8>> {
    finish(sample.to_vec(), sequence, None)
}

/// A reset against the direction of the sample.
pub(super) fn against(sample: &[u8], sequence: u32, acknowledged: u32) -> Option<Vec<u8>> {
    let Content::Tcp(tcp) = read(sample) else {
        return None;
    };
    let mut bytes = sample.to_vec();
    swap(&mut bytes, vnet::BYTES, 6);
    match tcp.ip {
        Ip::V4 => swap(&mut bytes, IP_AT + 12, 4),
        Ip::V6 => swap(&mut bytes, IP_AT + 8, 16),
    }
    swap(&mut bytes, tcp.at, 2);
    finish(bytes, sequence, Some(acknowledged))
}

/// Exchanges the two fields of this length that begin there.
fn swap(bytes: &mut [u8], at: usize, length: usize) {
    let (one, other) = bytes[at..at + 2 * length].split_at_mut(length);
    one.swap_with_slice(other);
}

fn finish(mut bytes: Vec<u8>, sequence: u32, acknowledged: Option<u32>) -> Option<Vec<u8>> {
    let Content::Tcp(tcp) = read(&bytes) else {
        return None;
    };
    bytes[tcp.at + 4..tcp.at + 8].copy_from_slice(&sequence.to_be_bytes());
    let acknowledgement = acknowledged.unwrap_or(0).to_be_bytes();
    bytes[tcp.at + 8..tcp.at + 12].copy_from_slice(&acknowledgement);
    if acknowledged.is_some() {
        bytes[tcp.at + 13] |= flag::ACK;
    }
    if tcp.ip == Ip::V4 {
        piece::set_v4_checksum(&mut bytes);
    }
    piece::set_tcp_checksum(&mut bytes, &tcp);
    Some(bytes)
}

/// What a middle that resets answers to the sender of this packet.
pub(super) fn answer(frame: &[u8], tcp: &Tcp) -> Option<Vec<u8>> {
    let fin = u32::from(tcp.has(flag::FIN));
    // `tcp.sequence` is behind the SYN already.
    let end = tcp.sequence.wrapping_add(tcp.payload_bytes() as u32 + fin);
    let sequence = if tcp.has(flag::ACK) {
        tcp.acknowledged
    } else {
        0
    };
    against(&sample(frame, tcp), sequence, end)
}
