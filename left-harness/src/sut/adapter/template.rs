//! Text with placeholders: all of them are known when the adapter is read, and filled
//! with what is where on a host when the program is started there.

use std::net::SocketAddr;

use crate::scenario::error::{Span, tame};
use crate::scenario::raw::{Node, Reader};

/// Where things are on one host, for the placeholders of an adapter.
#[derive(Debug, Clone)]
pub struct Places {
    /// `{bin}`: the program, deployed or found.
    pub bin: String,
    /// `{share}`: the directory that is synchronised.
    pub share: String,
    /// `{state}`: a folder outside the share for whatever the program writes.
    pub state: String,
    /// `{uid}`: the number of the user it runs as; empty unless the adapter asks for it.
    pub uid: String,
    /// `{listen}`, `{listen_ip}`, `{listen_port}`: where the program listens.
    pub listen: SocketAddr,
    /// `{peer}`, `{peer_ip}`, `{peer_port}`: where it finds the other side.
    pub peer: SocketAddr,
}

/// Text with placeholders that are all known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Bin,
    Share,
    State,
    Uid,
    Listen,
    ListenIp,
    ListenPort,
    Peer,
    PeerIp,
    PeerPort,
}

const PLACES: [(&str, Place); 10] = [
    ("bin", Place::Bin),
    ("share", Place::Share),
    ("state", Place::State),
    ("uid", Place::Uid),
    ("listen", Place::Listen),
    ("peer", Place::Peer),
    ("listen_ip", Place::ListenIp),
    ("listen_port", Place::ListenPort),
    ("peer_ip", Place::PeerIp),
    ("peer_port", Place::PeerPort),
];

impl Template {
    pub(super) fn fill(&self, places: &Places) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Place(place) => filled.push_str(&place.fill(places)),
            }
        }
        filled
    }

    /// For a file with lines: a path with a line break would add lines of its own.
    pub(super) fn fill_lines(&self, places: &Places) -> Result<String, String> {
        for piece in &self.0 {
            if let Piece::Place(place) = piece
                && let value = place.fill(places)
                && value.chars().any(char::is_control)
            {
                return Err(format!("{value:?} cannot stand in a file with lines"));
            }
        }
        Ok(self.fill(places))
    }

    pub(super) fn names(&self, wanted: Place) -> bool {
        self.0.contains(&Piece::Place(wanted))
    }

    pub(super) fn read(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Self> {
        let text = node.text()?;
        let (mut pieces, mut rest, mut whole) = (Vec::new(), text, true);
        while let Some((before, after)) = rest.split_once('{') {
            pieces.push(Piece::Text(before.to_owned()));
            if let Some(after) = after.strip_prefix('{') {
                pieces.push(Piece::Text("{".into()));
                rest = after;
                continue;
            }
            let Some((name, after)) = after.split_once('}') else {
                reader.wrong(
                    node.span,
                    "a `{` without its `}`; `{{` stands for the brace itself",
                );
                return None;
            };
            match PLACES.iter().find(|(known, _)| *known == name) {
                Some((_, place)) => pieces.push(Piece::Place(*place)),
                None => {
                    unknown(reader, node.span, name);
                    whole = false;
                }
            }
            rest = after;
        }
        if text.contains('\0') {
            reader.wrong(node.span, "no argument can hold a NUL");
            whole = false;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        whole.then_some(Self(pieces))
    }

    /// All of a list.
    pub(super) fn read_all(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Vec<Self>> {
        let nodes = node.list("a list of texts")?;
        let templates: Vec<Self> = nodes
            .iter()
            .filter_map(|node| Self::read(reader, *node))
            .collect();
        (templates.len() == nodes.len()).then_some(templates)
    }
}

fn unknown(reader: &Reader<'_>, span: Span, name: &str) {
    let names = PLACES.iter().map(|(known, _)| *known);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(plain) {
        let message = format!("unknown placeholder `{{{}}}`", tame(name));
        reader.unknown(span, message, name, names);
    } else {
        // Most likely the brace of a format that has its own.
        let message = format!(
            "`{{{}}}` is no placeholder; `{{{{` stands for the brace itself",
            tame(name)
        );
        reader.wrong(span, message);
    }
}

impl Place {
    fn fill(self, places: &Places) -> String {
        match self {
            Place::Bin => places.bin.clone(),
            Place::Share => places.share.clone(),
            Place::State => places.state.clone(),
            Place::Uid => places.uid.clone(),
            Place::Listen => places.listen.to_string(),
            Place::ListenIp => places.listen.ip().to_string(),
            Place::ListenPort => places.listen.port().to_string(),
            Place::Peer => places.peer.to_string(),
            Place::PeerIp => places.peer.ip().to_string(),
            Place::PeerPort => places.peer.port().to_string(),
        }
    }
}
