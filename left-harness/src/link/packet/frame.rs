//! What a frame is: read with bounds, believed nothing.
//!
//! A frame is always a [`vnet`] header and the Ethernet frame behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum;
use super::vnet;

/// Where IP begins.
pub(super) const IP_AT: usize = vnet::BYTES + 14;

const ETHER_V4: u16 = 0x0800;
const ETHER_V6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// More headers in a row than this are nobody's honest packet.
const EXTENSIONS_MAX: usize = 8;

/// Flags of TCP, in the low byte.
pub(super) mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const CWR: u8 = 128;
}

/// Which IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub source: (IpAddr, u16),
    pub target: (IpAddr, u16),
}

impl Key {
    /// The other direction of the connection.
    pub fn reverse(self) -> Self {
        Self {
            source: self.target,
            target: self.source,
        }
    }
}

/// A TCP packet's places and numbers. The places lie in the frame, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tcp {
    pub ip: Ip,
    /// Where its header begins.
    pub at: usize,
    /// Where its payload begins.
    pub payload_at: usize,
    /// Where it ends; a short frame has padding behind.
    pub end: usize,
    /// Of the first payload byte.
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub key: Key,
}

impl Tcp {
    pub fn payload_bytes(&self) -> usize {
        self.end - self.payload_at
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// What a frame carries.
#[derive(Debug)]
pub(super) enum Content {
    Tcp(Tcp),
    /// So many payload bytes that are not counted by sequence: UDP, fragments.
    Other(usize),
    /// Neighbours and routers talking, and what nobody understands.
    Chatter,
}

/// Reads a frame; anything odd is chatter.
pub(super) fn read(frame: &[u8]) -> Content {
    read_ip(frame).unwrap_or(Content::Chatter)
}

fn u16_at(frame: &[u8], at: usize) -> Option<u16> {
    let bytes = frame.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn u32_at(frame: &[u8], at: usize) -> Option<u32> {
    let bytes = frame.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn read_ip(frame: &[u8]) -> Option<Content> {
    match u16_at(frame, IP_AT - 2)? {
        ETHER_V4 => read_v4(frame),
        ETHER_V6 => read_v6(frame),
        _ => None,
    }
}

fn read_v4(frame: &[u8]) -> Option<Content> {
    let header = frame.get(IP_AT..IP_AT + 20)?;
    let header_bytes = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || header_bytes < 20 {
        return None;
    }
    let end = end(frame, IP_AT, usize::from(u16_at(frame, IP_AT + 2)?))?;
    let at = IP_AT + header_bytes;
    let payload_bytes = end.checked_sub(at)?;
    // "More fragments" or an offset: a piece of a packet.
    if u16_at(frame, IP_AT + 6)? & 0x3fff != 0 {
        return Some(Content::Other(payload_bytes));
    }
    let address = |at: usize| {
        let octets = <[u8; 4]>::try_from(&header[at..at + 4]).ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    transport(
        frame,
        Ip::V4,
        header[9],
        at,
        end,
        address(12)?,
        address(16)?,
    )
}

fn read_v6(frame: &[u8]) -> Option<Content> {
    let header = frame.get(IP_AT..IP_AT + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let length = usize::from(u16_at(frame, IP_AT + 4)?);
    let mut at = IP_AT + 40;
    // A length of 0 beyond 64 KiB, as for IPv4.
    let total = if length == 0 { 0 } else { length + 40 };
    let end = end(frame, IP_AT, total)?;
    let address = |at: usize| {
        let octets = <[u8; 16]>::try_from(&header[at..at + 16]).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let (source, target) = (address(8)?, address(24)?);
    let mut next = header[6];
    for _ in 0..EXTENSIONS_MAX {
        match next {
            // Hop by hop, routing, destination options.
            0 | 43 | 60 => {
                let extension = frame[..end].get(at..at + 8)?;
                next = extension[0];
                at += (usize::from(extension[1]) + 1) * 8;
            }
            44 => return Some(Content::Other(end.checked_sub(at + 8)?)),
            _ => return transport(frame, Ip::V6, next, at, end, source, target),
        }
    }
    None
}

/// Where a packet of this total length ends. Packets of several segments may be
/// longer than the field can say, which then says 0.
fn end(frame: &[u8], at: usize, total: usize) -> Option<usize> {
    if total == 0 && vnet::is_super(frame) {
        return Some(frame.len());
    }
    let end = at + total;
    (end <= frame.len()).then_some(end)
}

fn transport(
    frame: &[u8],
    ip: Ip,
    protocol: u8,
    at: usize,
    end: usize,
    source: IpAddr,
    target: IpAddr,
) -> Option<Content> {
    let frame = &frame[..end];
    match protocol {
        checksum::TCP => {}
        UDP => return Some(Content::Other(end.checked_sub(at + 8)?)),
        ICMP | ICMP_V6 => return None,
        _ => return Some(Content::Other(end.checked_sub(at)?)),
    }
    let header = frame.get(at..at + 20)?;
    let payload_at = at + usize::from(header[12] >> 4) * 4;
    if payload_at < at + 20 || payload_at > end {
        return None;
    }
    let flags = header[13];
    // A SYN takes the number before the first byte.
    let syn = u32::from(flags & flag::SYN != 0);
    Some(Content::Tcp(Tcp {
        ip,
        at,
        payload_at,
        end,
        sequence: u32_at(frame, at + 4)?.wrapping_add(syn),
        acknowledged: u32_at(frame, at + 8)?,
        flags,
        key: Key {
            source: (source, u16_at(frame, at)?),
            target: (target, u16_at(frame, at + 2)?),
        },
    }))
}
