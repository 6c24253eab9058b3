//! The header before each frame: what its sender has left to the network card.
//!
//! It is `struct virtio_net_hdr`, in the byte order of this machine, as packet
//! sockets with `PACKET_VNET_HDR` and TAP devices with `IFF_VNET_HDR` have it.

/// Its length.
pub(super) const BYTES: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
/// A flag beside the kind: the first segment alone reports congestion.
const GSO_ECN: u8 = 0x80;

const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const GSO_SIZE: usize = 4;
const CHECKSUM_START: usize = 6;
const CHECKSUM_OFFSET: usize = 8;

fn get(frame: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([frame[at], frame[at + 1]])
}

/// The checksum field holds only the sum of the pseudo header.
pub(super) fn needs_checksum(frame: &[u8]) -> bool {
    frame[FLAGS] & NEEDS_CHECKSUM != 0
}

/// Where summing starts and where the sum goes, both counted from the frame's
/// first byte behind this header.
pub(super) fn checksum_place(frame: &[u8]) -> (usize, usize) {
    let start = usize::from(get(frame, CHECKSUM_START));
    (start, start + usize::from(get(frame, CHECKSUM_OFFSET)))
}

/// The frame's checksums are all done.
pub(super) fn set_checksum_done(frame: &mut [u8]) {
    frame[FLAGS] &= !NEEDS_CHECKSUM;
    frame[CHECKSUM_START..BYTES].fill(0);
}

/// Several packets in one, of any kind.
pub(super) fn is_super(frame: &[u8]) -> bool {
    frame[GSO_TYPE] & !GSO_ECN != GSO_NONE
}

/// Payload bytes of each TCP segment this frame is to become, if it is several.
pub(super) fn segment_bytes(frame: &[u8]) -> Option<usize> {
    let kind = frame[GSO_TYPE] & !GSO_ECN;
    let size = usize::from(get(frame, GSO_SIZE));
    (matches!(kind, GSO_TCP_V4 | GSO_TCP_V6) && size > 0).then_some(size)
}

/// The frame is one packet.
pub(super) fn set_single(frame: &mut [u8]) {
    frame[GSO_TYPE] = GSO_NONE;
    frame[GSO_SIZE..GSO_SIZE + 2].fill(0);
}

/// Only a first segment reports congestion, and this frame has it not any more.
pub(super) fn clear_ecn(frame: &mut [u8]) {
    frame[GSO_TYPE] &= !GSO_ECN;
}

/// A header as a sender writes it, for tests.
#[cfg(test)]
pub(super) fn header(
    checksum: Option<(u16, u16)>,
    segment_bytes: Option<u16>,
    is_v6: bool,
) -> [u8; BYTES] {
    let mut header = [0; BYTES];
    if let Some((start, offset)) = checksum {
        header[FLAGS] = NEEDS_CHECKSUM;
        header[CHECKSUM_START..CHECKSUM_START + 2].copy_from_slice(&start.to_ne_bytes());
        header[CHECKSUM_OFFSET..].copy_from_slice(&offset.to_ne_bytes());
    }
    if let Some(size) = segment_bytes {
        header[GSO_TYPE] = if is_v6 { GSO_TCP_V6 } else { GSO_TCP_V4 };
        header[GSO_SIZE..GSO_SIZE + 2].copy_from_slice(&size.to_ne_bytes());
    }
    header
}
