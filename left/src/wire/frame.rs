//! The binary frames of a file connection: a fixed header, then at most one
//! block. The length is checked before any memory is taken for it.

use std::io::{self, Read, Write};

use crate::path::PATH_BYTES_MAX;
use crate::transfer::blocks::{BLOCK_BYTES_MAX, PAGE_VALUES};

/// Kind, handle, argument, payload length.
pub const HEADER_BYTES: usize = 1 + 4 + 8 + 4;

/// What a frame says. `Open` to `Close` go to the sender of content, the
/// others to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// The handle now stands for a version; argument: its size; payload: its
    /// content id (32 bytes) and its path.
    Open,
    /// Wants a page of the block list; argument: the page. Of several pages the
    /// one after the last has the values of the pages themselves.
    List,
    /// Wants blocks; argument: the first; payload: how many (4 bytes).
    Get,
    /// The handle is no longer used.
    Close,
    /// A page of the block list; argument: the page; payload: the values.
    Page,
    /// A block; argument: which; payload: its bytes.
    Data,
    /// The version is not known here any more.
    Gone,
    /// The file changed since the version was offered.
    Stale,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Open => 1,
            FrameKind::List => 2,
            FrameKind::Get => 3,
            FrameKind::Close => 4,
            FrameKind::Page => 5,
            FrameKind::Data => 6,
            FrameKind::Gone => 7,
            FrameKind::Stale => 8,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [
            FrameKind::Open,
            FrameKind::List,
            FrameKind::Get,
            FrameKind::Close,
            FrameKind::Page,
            FrameKind::Data,
            FrameKind::Gone,
            FrameKind::Stale,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }

    fn payload_bytes_max(self) -> usize {
        match self {
            FrameKind::Open => 32 + PATH_BYTES_MAX,
            FrameKind::Get => 4,
            FrameKind::Page => PAGE_VALUES as usize * 32,
            FrameKind::Data => BLOCK_BYTES_MAX as usize,
            FrameKind::List | FrameKind::Close | FrameKind::Gone | FrameKind::Stale => 0,
        }
    }
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the frame says.
    pub kind: FrameKind,
    /// Which opened version it is about.
    pub handle: u32,
    /// Its meaning depends on the kind.
    pub argument: u64,
    /// How many bytes of payload follow.
    pub payload_bytes: u32,
}

impl Header {
    /// The header as it travels.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.kind.code();
        bytes[1..5].copy_from_slice(&self.handle.to_be_bytes());
        bytes[5..13].copy_from_slice(&self.argument.to_be_bytes());
        bytes[13..].copy_from_slice(&self.payload_bytes.to_be_bytes());
        bytes
    }

    /// Reads a header; `None` for an unknown kind or a payload that is longer
    /// than the kind allows.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (handle, rest) = rest.split_first_chunk::<4>()?;
        let (argument, rest) = rest.split_first_chunk::<8>()?;
        let (payload_bytes, _) = rest.split_first_chunk::<4>()?;
        let header = Self {
            kind: FrameKind::from_code(*kind)?,
            handle: u32::from_be_bytes(*handle),
            argument: u64::from_be_bytes(*argument),
            payload_bytes: u32::from_be_bytes(*payload_bytes),
        };
        (header.payload_bytes as usize <= header.kind.payload_bytes_max()).then_some(header)
    }
}

/// Writes a frame; the caller flushes.
pub fn write_frame(
    out: &mut impl Write,
    kind: FrameKind,
    handle: u32,
    argument: u64,
    payload: &[u8],
) -> io::Result<()> {
    debug_assert!(payload.len() <= kind.payload_bytes_max());
    let header = Header {
        kind,
        handle,
        argument,
        payload_bytes: payload.len() as u32,
    };
    out.write_all(&header.to_bytes())?;
    out.write_all(payload)
}

/// Reads a header; the payload is the caller's to read.
pub fn read_header(input: &mut impl Read) -> io::Result<Header> {
    let mut bytes = [0; HEADER_BYTES];
    input.read_exact(&mut bytes)?;
    Header::parse(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the peer sent a broken frame"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for code in 1..=8 {
            let kind = FrameKind::from_code(code).unwrap();
            let header = Header {
                kind,
                handle: 7,
                argument: u64::MAX,
                payload_bytes: 0,
            };
            assert_eq!(Header::parse(&header.to_bytes()), Some(header));
        }
    }

    #[test]
    fn lengths_are_refused_before_memory_is_taken() {
        for code in 0..=255u8 {
            for len in [1, 5, 4096, 131_073, 1_048_577, u32::MAX] {
                let mut bytes = [0xff; HEADER_BYTES];
                bytes[0] = code;
                bytes[13..].copy_from_slice(&u32::to_be_bytes(len));
                if let Some(header) = Header::parse(&bytes) {
                    assert!(header.payload_bytes as usize <= header.kind.payload_bytes_max());
                }
            }
        }
        assert!(read_header(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).is_err());
        assert!(read_header(&mut &b"\x06short"[..]).is_err());
    }
}
