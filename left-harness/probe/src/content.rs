//! Generated content: every byte of a file follows from its seed, so that the
//! harness knows what must arrive without having seen it.

use blake3::{Hasher, OutputReader};

/// Part of the definition of all content; another sentence is other content.
const CONTEXT: &str = "left-harness content v1";

const WORDS: [&str; 16] = [
    "amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty",
    "knoll", "larch", "marsh", "north", "ocean", "prism",
];

/// What a file is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Incompressible.
    Random,
    /// Lines of words.
    Text,
    /// Zero bytes.
    Zeros,
}

impl Kind {
    /// The word of the command line.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "random" => Some(Self::Random),
            "text" => Some(Self::Text),
            "zeros" => Some(Self::Zeros),
            _ => None,
        }
    }
}

/// The bytes of one file, from the first on.
pub struct Content {
    kind: Kind,
    stream: OutputReader,
    /// The number of the next line of `Text`.
    line: u64,
    /// What is left of the line begun.
    rest: Vec<u8>,
}

impl Content {
    /// The content of this seed.
    pub fn new(kind: Kind, seed: &str) -> Self {
        let mut hasher = Hasher::new_derive_key(CONTEXT);
        hasher.update(seed.as_bytes());
        Self {
            kind,
            stream: hasher.finalize_xof(),
            line: 0,
            rest: Vec::new(),
        }
    }

    /// The next bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        match self.kind {
            Kind::Random => self.stream.fill(buffer),
            Kind::Zeros => buffer.fill(0),
            Kind::Text => self.fill_text(buffer),
        }
    }

    fn fill_text(&mut self, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            if self.rest.is_empty() {
                self.rest = self.next_line();
            }
            let some = buffer.len().min(self.rest.len());
            let (now, later) = buffer.split_at_mut(some);
            now.copy_from_slice(&self.rest[..some]);
            self.rest.drain(..some);
            buffer = later;
        }
    }

    fn next_line(&mut self) -> Vec<u8> {
        // The stream stands at 8 * line: each line takes eight bytes in turn.
        let mut picks = [0; 8];
        self.stream.fill(&mut picks);
        let mut line = format!("{:08}", self.line);
        self.line += 1;
        for pick in picks {
            line.push(' ');
            line.push_str(WORDS[usize::from(pick % 16)]);
        }
        line.push('\n');
        line.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_once(kind: Kind, size: usize) -> Vec<u8> {
        let mut all = vec![0; size];
        Content::new(kind, "7/x").fill(&mut all);
        all
    }

    #[test]
    fn pieces_make_the_same_bytes_as_a_whole() {
        for kind in [Kind::Random, Kind::Text, Kind::Zeros] {
            for piece in [1, 7, 64, 1000] {
                let mut content = Content::new(kind, "7/x");
                let mut pieces = vec![1; 5000];
                pieces
                    .chunks_mut(piece)
                    .for_each(|chunk| content.fill(chunk));
                assert_eq!(pieces, at_once(kind, 5000), "{kind:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn text_is_lines_of_eight_words() {
        let text = String::from_utf8(at_once(Kind::Text, 4000)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("00000000 ") && lines[9].starts_with("00000009 "));
        assert_eq!(lines[3].split(' ').count(), 9);
    }
}
