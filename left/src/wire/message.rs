//! The JSON messages of the info connection, each behind its length.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::entry::{Body, ContentId, Dots, Entry, MODE_MASK, Mtime, TARGET_BYTES_MAX};
use crate::pairing::Stand;
use crate::path::{RelPath, escape_bytes, unescape_bytes};
use crate::transfer::blocks::Geometry;
use crate::version::{Dot, REPLICAS_MAX, ReplicaId, VersionVector};

/// The first bytes of every connection; the last one is the protocol version.
pub const PREFACE: [u8; 8] = *b"LEFTsyn\x04";

/// A longer message is refused before memory is taken for it.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// A hello is short; before it, a peer is not trusted with more.
pub const HELLO_BYTES_MAX: usize = 4096;

/// Entries in one listing message.
pub const BATCH_ENTRIES_MAX: usize = 256;

/// A batch ends above this many bytes; one more entry, with the longest path
/// and target there can be, still fits into a message.
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// What a connection is for, seen from the side that dialled it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// JSON messages about files.
    Info,
    /// Blocks of files; the dialler receives.
    Pull,
    /// Blocks of files; the dialler sends.
    Serve,
}

/// How far the sender of a hello has read the other's listing before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Have {
    /// Whose listing.
    pub replica: u64,
    /// Of which epoch.
    pub epoch: u64,
    /// In which run of the other's program it was heard.
    pub run: u64,
    /// The last sequence number taken.
    pub upto: u64,
    /// The sender is joined with it.
    pub joined: bool,
}

/// The first message in each direction of each connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the connection is for.
    pub role: Role,
    /// Who speaks.
    pub replica: u64,
    /// Random for each start of the program.
    pub instance: u64,
    /// Of the speaker's index.
    pub epoch: u64,
    /// Of the speaker's program on that index.
    pub run: u64,
    /// Given by the accepting side of an info connection, presented on file
    /// connections.
    pub token: u64,
    /// The name of what the speaker keeps the same with somebody; zero if it was never
    /// joined.
    pub share: u64,
    /// How far the other's listing is known.
    pub have: Have,
}

/// One message of the info connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// Who speaks.
    Hello(Hello),
    /// Entries in the order of their sequence numbers.
    Listing {
        /// Everything up to this number is now listed.
        upto: u64,
        /// Whether there is no more for the moment.
        complete: bool,
        /// The entries.
        entries: Vec<WireEntry>,
    },
    /// The receiver of a listing took it durably so far.
    Ack {
        /// Up to this number.
        upto: u64,
        /// Tombstones of it of whose paths the receiver knows nothing any more: they
        /// are of no use there either, and nobody will list them back.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        forgotten: Vec<WireEntry>,
    },
    /// Two shares that meet were never joined, as far as the receiver may know.
    Join {
        /// Where the sender stands.
        stand: Stand,
    },
    /// The speaker still has to take so much of what was listed.
    Wanted {
        /// Paths to be acted on.
        paths: u64,
        /// Bytes to be received, at most.
        bytes: u64,
    },
    /// The connection cannot go on.
    Error {
        /// Why, for a person.
        text: String,
    },
    /// Still alive.
    Ping,
}

/// An entry as JSON; nothing in it is trusted before [`WireEntry::open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEntry {
    path: String,
    kind: WireKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<(i64, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    mode: u32,
    version: BTreeMap<String, u64>,
    /// What set content, mode and mtime, each as the place of a replica in the version
    /// and a number; one if it was the same for all, none if that is the only one
    /// that the version names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dots: Vec<(u8, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WireKind {
    File,
    Dir,
    Link,
    Deleted,
}

impl WireEntry {
    /// Prepares an entry for the wire.
    pub fn seal(path: &RelPath, entry: &Entry) -> Self {
        let mut wire = Self {
            path: path.to_wire(),
            kind: WireKind::Deleted,
            id: None,
            size: None,
            mtime: None,
            target: None,
            mode: entry.mode,
            version: entry
                .version
                .pairs()
                .map(|(replica, count)| (replica.to_string(), count))
                .collect(),
            dots: entry
                .dots
                .told_beside(&entry.version)
                .into_iter()
                .map(|dot| {
                    let place = entry.version.pairs().position(|(id, _)| id == dot.replica);
                    (place.unwrap_or_default() as u8, dot.count)
                })
                .collect(),
        };
        match &entry.body {
            Body::File { id, size, mtime } => {
                wire.kind = WireKind::File;
                wire.id = Some(id.to_string());
                wire.size = Some(*size);
                wire.mtime = Some((mtime.secs, mtime.nanos));
            }
            Body::Dir => wire.kind = WireKind::Dir,
            Body::Link { target } => {
                wire.kind = WireKind::Link;
                wire.target = Some(escape_bytes(target));
            }
            Body::Deleted => {}
        }
        wire
    }

    /// Checks everything; the error says what is wrong with it.
    pub fn open(&self) -> Result<(RelPath, Entry), String> {
        let path = RelPath::from_wire(&self.path).map_err(|error| error.to_string())?;
        let lacks = |what: &str| format!("the entry of {path} lacks a sound {what}");
        let body = match self.kind {
            WireKind::File => {
                let id = self
                    .id
                    .as_deref()
                    .and_then(ContentId::parse)
                    .ok_or_else(|| lacks("content id"))?;
                let size = self.size.ok_or_else(|| lacks("size"))?;
                Geometry::of(size)
                    .ok_or_else(|| lacks("size (files above 16 TiB are not synchronised)"))?;
                let (secs, nanos) = self.mtime.ok_or_else(|| lacks("mtime"))?;
                if nanos >= 1_000_000_000 || (size == 0) != (id == ContentId::empty()) {
                    return Err(lacks("mtime or content id"));
                }
                Body::File {
                    id,
                    size,
                    mtime: Mtime { secs, nanos },
                }
            }
            WireKind::Dir => Body::Dir,
            WireKind::Link => {
                let target = self
                    .target
                    .as_deref()
                    .and_then(unescape_bytes)
                    .ok_or_else(|| lacks("target"))?;
                if target.is_empty() || target.len() > TARGET_BYTES_MAX || target.contains(&0) {
                    return Err(lacks("target"));
                }
                Body::Link {
                    target: target.into(),
                }
            }
            WireKind::Deleted => Body::Deleted,
        };
        if self.version.is_empty() || self.version.len() > REPLICAS_MAX {
            return Err(lacks("version"));
        }
        let mut pairs = Vec::new();
        for (replica, count) in &self.version {
            pairs.push((
                ReplicaId::parse(replica).ok_or_else(|| lacks("version"))?,
                *count,
            ));
        }
        let version = VersionVector::from_pairs(pairs);
        let dots: Option<Vec<Dot>> = self
            .dots
            .iter()
            .take(4)
            .map(|(place, count)| {
                let (replica, _) = version.pairs().nth(usize::from(*place))?;
                let count = *count;
                Some(Dot { replica, count })
            })
            .collect();
        let dots = dots
            .and_then(|dots| Dots::of_told(&dots, &version))
            .ok_or_else(|| lacks("account of what set it"))?;
        let mode = match body {
            Body::File { .. } | Body::Dir => self.mode & MODE_MASK,
            Body::Link { .. } | Body::Deleted => 0,
        };
        Ok((
            path,
            Entry {
                body,
                mode,
                version,
                dots,
            },
        ))
    }

    /// Roughly how many bytes it takes in a message.
    pub fn weight(&self) -> usize {
        let target = self.target.as_ref().map_or(0, String::len);
        // A control character takes six bytes in JSON.
        (self.path.len() + target) * 6 + self.version.len() * 40 + self.dots.len() * 26 + 210
    }
}

/// Writes one message with its length, in one piece.
pub fn write_message(out: &mut impl Write, message: &Message) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let len = bytes.len() - 4;
    if len > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a message is too long to send",
        ));
    }
    bytes[..4].copy_from_slice(&(len as u32).to_be_bytes());
    out.write_all(&bytes)
}

/// Reads one message of at most `bytes_max`.
pub fn read_message(input: &mut impl Read, bytes_max: usize) -> io::Result<Message> {
    let broken = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    if len == 0 || len > bytes_max {
        return Err(broken(format!(
            "the peer announced a message of {len} bytes"
        )));
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        broken(format!(
            "the peer sent a message that is not understood: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: Body) -> Entry {
        let version = VersionVector::from_pairs([(ReplicaId(u64::MAX), u64::MAX)]);
        let mode = if matches!(body, Body::File { .. } | Body::Dir) {
            0o640
        } else {
            0
        };
        Entry::of(body, mode, version)
    }

    fn bodies() -> Vec<Body> {
        let mtime = Mtime {
            secs: -1,
            nanos: 999_999_999,
        };
        vec![
            Body::File {
                id: ContentId([9; 32]),
                size: 1 << 40,
                mtime,
            },
            Body::File {
                id: ContentId::empty(),
                size: 0,
                mtime,
            },
            Body::Dir,
            Body::Link {
                target: b"../\xff%".as_slice().into(),
            },
            Body::Deleted,
        ]
    }

    #[test]
    fn entries_come_back_from_json() {
        let path = RelPath::parse(b"d/\xfe\n%.txt").unwrap();
        for body in bodies() {
            let alone = entry(body);
            let dot = |replica, count| Dot {
                replica: ReplicaId(replica),
                count,
            };
            let last = dot(u64::MAX, u64::MAX);
            let merged = Entry {
                version: VersionVector::from_pairs([
                    (ReplicaId(1), u64::MAX),
                    (ReplicaId(u64::MAX), u64::MAX),
                ]),
                dots: Dots {
                    content: dot(1, u64::MAX - 1),
                    mode: last,
                    mtime: dot(1, u64::MAX),
                },
                ..alone.clone()
            };
            for entry in [alone, merged] {
                let text = serde_json::to_string(&WireEntry::seal(&path, &entry)).unwrap();
                let wire: WireEntry = serde_json::from_str(&text).unwrap();
                assert!(text.len() <= wire.weight());
                assert_eq!(wire.open().unwrap(), (path.clone(), entry));
            }
        }
    }

    #[test]
    fn unsound_entries_are_refused() {
        let path = RelPath::parse(b"x").unwrap();
        let good = WireEntry::seal(&path, &entry(bodies().remove(0)));
        let damages: [fn(&mut WireEntry); 14] = [
            |wire| wire.path = "../x".into(),
            |wire| wire.path = ".left/index".into(),
            |wire| wire.path = "a%00".into(),
            |wire| wire.id = Some("zz".into()),
            |wire| wire.size = None,
            |wire| wire.size = Some(u64::MAX),
            |wire| wire.mtime = Some((0, u32::MAX)),
            |wire| wire.version.clear(),
            |wire| wire.version = BTreeMap::from([("me".into(), 1)]),
            // Of two replicas it has to be said whose change it is.
            |wire| _ = wire.version.insert("0000000000000001".into(), 1),
            |wire| wire.dots = vec![(1, 1)],
            |wire| wire.dots = vec![(0, 0)],
            |wire| wire.dots = vec![(0, 1), (0, 2)],
            |wire| wire.dots = vec![(0, 1); 10_000],
        ];
        assert!(good.open().is_ok());
        for (n, damage) in damages.into_iter().enumerate() {
            let mut wire = good.clone();
            damage(&mut wire);
            assert!(wire.open().is_err(), "damage {n}");
        }
    }

    #[test]
    fn messages_are_bounded_and_cut_ones_refused() {
        let mut bytes = Vec::new();
        let entries = vec![WireEntry::seal(
            &RelPath::parse(b"x").unwrap(),
            &entry(Body::Dir),
        )];
        let message = Message::Listing {
            upto: 3,
            complete: true,
            entries,
        };
        write_message(&mut bytes, &message).unwrap();
        assert_eq!(
            read_message(&mut &bytes[..], MESSAGE_BYTES_MAX).unwrap(),
            message
        );
        for cut in 0..bytes.len() {
            assert!(read_message(&mut &bytes[..cut], MESSAGE_BYTES_MAX).is_err());
        }
        for prefix in [0u32, 5000, u32::MAX] {
            assert!(read_message(&mut &prefix.to_be_bytes()[..], HELLO_BYTES_MAX).is_err());
        }
    }
}
