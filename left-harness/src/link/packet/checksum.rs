//! The checksum of IP, TCP and UDP.

use super::frame::Ip;

/// Protocol number of TCP.
pub(super) const TCP: u8 = 6;

/// The ones' complement sum of `bytes` as 16-bit words, on top of `sum`; not
/// folded. `bytes` must be shorter than 128 KiB and at an even place in the whole.
fn add(bytes: &[u8], sum: u32) -> u32 {
    let mut words = bytes.chunks_exact(2);
    let mut sum = u64::from(sum);
    for word in words.by_ref() {
        sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    u32::from(fold_wide(sum))
}

fn fold_wide(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn fold(sum: u32) -> u16 {
    fold_wide(u64::from(sum))
}

/// The checksum over all of `bytes`.
pub(super) fn of(bytes: &[u8]) -> u16 {
    !fold(add(bytes, 0))
}

/// The sum of the pseudo header, folded but not inverted: what the checksum field
/// holds while the rest is left to whoever sends the packet.
pub(super) fn pseudo(ip: Ip, header: &[u8], protocol: u8, length: usize) -> u16 {
    let addresses = match ip {
        Ip::V4 => &header[12..20],
        Ip::V6 => &header[8..40],
    };
    // Upper and lower half of the length: 16 bits are not always enough.
    let length = length as u32;
    let sum = u32::from(protocol) + (length >> 16) + (length & 0xffff);
    fold(add(addresses, sum))
}

/// The checksum of what stands behind the pseudo header of this sum; the field
/// itself must be zero.
pub(super) fn behind(pseudo: u16, bytes: &[u8]) -> u16 {
    !fold(add(bytes, u32::from(pseudo)))
}
