//! The content that was asked for, computed here: the harness's own word for
//! what must arrive, shared neither with the probe that wrote it nor with the
//! program that carried it.
//!
//! The definition: the bytes of a BLAKE3 stream in key derivation mode with the
//! context below and the seed as key material. `random` is the stream itself;
//! line k of `text` is its number in eight digits and eight words picked by the
//! stream's bytes 8k to 8k+7, each modulo 16; `zeros` is zeros.

use std::io::{self, Read};

use blake3::{Hash, Hasher, OutputReader};

use super::manifest::Name;
use crate::scenario::Content;

const CONTEXT: &str = "left-harness content v1";
const WORDS: &str = "amber birch cedar delta ember fjord grove heath inlet jetty knoll larch marsh north ocean prism";
/// Computed at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Every second ten files of a tree lie in a folder of their own.
const FILES_A_FOLDER: u64 = 10;

/// One version of a file: how it was written first, and what was put over it since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    content: Content,
    seed: String,
    size: u64,
    patches: Vec<Patch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    at: u64,
    size: u64,
    seed: String,
}

impl Version {
    /// As `write` makes it.
    pub fn written(content: Content, seed: impl Into<String>, size: u64) -> Self {
        Self {
            content,
            seed: seed.into(),
            size,
            patches: Vec::new(),
        }
    }

    /// The next version, as `overwrite` makes it; `None` where that would begin beyond the end.
    pub fn overwritten(&self, seed: impl Into<String>, at: u64, size: u64) -> Option<Self> {
        let end = at.checked_add(size).filter(|_| at <= self.size)?;
        let mut next = self.clone();
        next.size = next.size.max(end);
        next.patches.push(Patch {
            at,
            size,
            seed: seed.into(),
        });
        Some(next)
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes, from the first on, without ever holding all of them.
    pub fn bytes(&self) -> Bytes<'_> {
        Bytes {
            version: self,
            stream: stream(&self.seed),
            patches: self
                .patches
                .iter()
                .map(|patch| (patch, stream(&patch.seed)))
                .collect(),
            at: 0,
            line: Vec::new(),
        }
    }

    /// Of all of it. Takes a second a gigabyte or two: not for an async task.
    pub fn hash(&self) -> Hash {
        let mut bytes = self.bytes();
        let mut hasher = Hasher::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match bytes.fill(&mut chunk) {
                0 => return hasher.finalize(),
                some => hasher.update(&chunk[..some]),
            };
        }
    }
}

/// Reads a version.
pub struct Bytes<'a> {
    version: &'a Version,
    stream: OutputReader,
    patches: Vec<(&'a Patch, OutputReader)>,
    at: u64,
    /// The line of `Text` that `at` lies in.
    line: Vec<u8>,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.fill(buffer))
    }
}

impl Bytes<'_> {
    /// Fills as much as there is.
    fn fill(&mut self, buffer: &mut [u8]) -> usize {
        let left = self.version.size - self.at;
        let some = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..some];
        match self.version.content {
            Content::Random => {
                self.stream.set_position(self.at);
                self.stream.fill(buffer);
            }
            Content::Zeros => buffer.fill(0),
            Content::Text => self.fill_text(buffer),
        }
        let end = self.at + some as u64;
        for (patch, stream) in &mut self.patches {
            let (from, to) = (self.at.max(patch.at), end.min(patch.at + patch.size));
            if from < to {
                stream.set_position(from - patch.at);
                stream.fill(&mut buffer[(from - self.at) as usize..(to - self.at) as usize]);
            }
        }
        self.at = end;
        some
    }

    fn fill_text(&mut self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.line.is_empty() {
                self.line = self.text_line();
            }
            let some = self.line.len().min(buffer.len() - filled);
            buffer[filled..filled + some].copy_from_slice(&self.line[..some]);
            self.line.drain(..some);
            filled += some;
        }
    }

    fn text_line(&mut self) -> Vec<u8> {
        let words: Vec<_> = WORDS.split(' ').collect();
        // Lines are taken in order, eight bytes each: the position is the count.
        let number = self.stream.position() / 8;
        let mut picks = [0; 8];
        self.stream.fill(&mut picks);
        let chosen = picks
            .map(|pick| words[usize::from(pick) % words.len()])
            .join(" ");
        format!("{number:08} {chosen}\n").into_bytes()
    }
}

fn stream(seed: &str) -> OutputReader {
    Hasher::new_derive_key(CONTEXT)
        .update(seed.as_bytes())
        .finalize_xof()
}

/// What `tree` makes: names relative to its folder, each with its version.
pub fn tree(seed: &str, files: u64, size: u64) -> impl Iterator<Item = (Name, Version)> + '_ {
    let last = files.saturating_sub(1);
    let width = last.to_string().len().max(4);
    (0..files).filter_map(move |number| {
        let file = format!("f{number:0width$}");
        let ten = number / FILES_A_FOLDER;
        let path = if ten.is_multiple_of(2) {
            file
        } else {
            format!("d{}/{file}", ten / 2)
        };
        let version = Version::written(Content::Random, format!("{seed}/{path}"), size);
        Some((Name::parse(path)?, version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(version: &Version) -> Vec<u8> {
        let mut all = Vec::new();
        version.bytes().read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn an_overwritten_version_is_the_old_one_with_other_bytes() {
        let old = Version::written(Content::Text, "s", 10_000);
        let patch = all(&Version::written(Content::Random, "p", 100));
        let mut expected = all(&old);
        expected[9_950..].copy_from_slice(&patch[..50]);
        expected.extend_from_slice(&patch[50..]);
        let new = old.overwritten("p", 9_950, 100).unwrap();
        assert_eq!((new.size(), all(&new) == expected), (10_050, true));
        // The later one wins where they overlap.
        let newer = new.overwritten("q", 9_940, 20).unwrap();
        expected[9_940..9_960].copy_from_slice(&all(&Version::written(Content::Random, "q", 20)));
        assert_eq!(newer.hash(), blake3::hash(&expected));
        assert_eq!(newer.overwritten("q", 10_051, 1), None);
    }

    #[test]
    fn pieces_of_any_size_make_the_same_bytes() {
        for content in [Content::Random, Content::Text, Content::Zeros] {
            let version = Version::written(content, "s", 1000)
                .overwritten("p", 100, 333)
                .unwrap();
            let mut pieces = Vec::new();
            let mut bytes = version.bytes();
            let mut buffer = [0; 7];
            while let some @ 1.. = bytes.read(&mut buffer).unwrap() {
                pieces.extend_from_slice(&buffer[..some]);
            }
            assert_eq!(pieces, all(&version));
            assert_eq!(blake3::hash(&pieces), version.hash());
        }
    }
}
