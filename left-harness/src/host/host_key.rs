//! What a host must prove before we say anything to it.

use std::sync::{Arc, Mutex};

use russh::Preferred;
use russh::keys::{Algorithm, HashAlg};

use super::keys::{PublicKey, fingerprint};
use super::known_hosts::{Judgement, KnownHosts, keyscan_type, name, shown};

/// Which key a host must have.
#[derive(Clone)]
#[non_exhaustive]
pub enum HostKey {
    /// Exactly this one: a lab that made the host knows it.
    Pinned(PublicKey),
    /// One that the user's `known_hosts` files have for it.
    Known(Known),
    /// Any, the first time; afterwards that one. Only for machines that the user has made
    /// and that nobody can know yet.
    FirstUse(Pin),
}

/// A host as `known_hosts` files know it.
#[derive(Clone)]
pub struct Known {
    pub(super) files: Arc<KnownHosts>,
    pub(super) host: String,
    pub(super) port: u16,
    /// It answers at that name, so that `ssh-keyscan` finds it.
    pub(super) scannable: bool,
}

/// The key that was seen first; clones share it.
#[derive(Clone, Default)]
pub struct Pin(Arc<Mutex<Option<PublicKey>>>);

impl HostKey {
    /// The kinds of key to ask the host for, best first.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let wanted = match self {
            // Of a host with several keys it must show this one, or a good host would
            // look changed.
            Self::Pinned(key) => return signing(key.algorithm()),
            Self::Known(known) => known.files.algorithms(&known.host, known.port),
            Self::FirstUse(pin) => pin.seen().map(|key| key.algorithm()).into_iter().collect(),
        };
        // The others too: what it has instead is part of the error.
        let mut all = Vec::new();
        let rest = Preferred::DEFAULT.key.iter().cloned();
        for kind in wanted.into_iter().flat_map(signing).chain(rest) {
            if !all.contains(&kind) && kind != (Algorithm::Rsa { hash: None }) {
                all.push(kind);
            }
        }
        all
    }

    /// Whether the host may have `key`, or why not.
    pub(super) fn judge(&self, key: &PublicKey) -> Result<(), String> {
        match self {
            Self::Pinned(pinned) => same(pinned, key),
            Self::FirstUse(pin) => {
                let mut first = pin.0.lock().map_err(|_| "nothing is known of its key")?;
                same(first.get_or_insert_with(|| key.clone()), key)
            }
            Self::Known(known) => known.judge(key),
        }
    }
}

impl Pin {
    fn seen(&self) -> Option<PublicKey> {
        self.0.lock().ok()?.clone()
    }
}

impl Known {
    fn judge(&self, key: &PublicKey) -> Result<(), String> {
        let shown = shown(key);
        let name = name(&self.host, self.port);
        match self.files.judge(&self.host, self.port, key) {
            Judgement::Known => Ok(()),
            Judgement::Revoked(place) => {
                Err(format!("it shows the key {shown}, which {place} revokes"))
            }
            Judgement::Changed { place, known } => Err(format!(
                "it shows the key {shown}, but {place} says {known}: it is another machine or was \
                 set up anew, or somebody stands in between; if the new key is right, forget the \
                 old one with `ssh-keygen -R '{name}' -f {}`",
                place.file.display()
            )),
            Judgement::Unknown { authority } => Err(self.unknown(key, &shown, authority.map(
                |place| format!(" ({place} has an authority for it, which is not supported here: the host's own key is needed)"),
            ))),
        }
    }

    fn unknown(&self, key: &PublicKey, shown: &str, authority: Option<String>) -> String {
        let files: Vec<String> = self
            .files
            .files()
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        let name = name(&self.host, self.port);
        let file = files.first().map_or("~/.ssh/known_hosts", String::as_str);
        let add = match self.scannable {
            true => format!(
                "ssh-keyscan -p {} -t {} {} >> {file}",
                self.port,
                keyscan_type(key),
                self.host
            ),
            // It has another name, or is seen only from the host before it.
            false => format!(
                "echo '{name} {}' >> {file}",
                key.to_openssh().unwrap_or_default()
            ),
        };
        format!(
            "its key {shown} is not known: no line for {name} in {}{}; if that fingerprint is what \
             the host itself says, add it with `{add}`",
            match files.is_empty() {
                true => "any file".to_owned(),
                false => files.join(", "),
            },
            authority.unwrap_or_default()
        )
    }
}

/// The ways to sign with a kind of key: RSA has three, never that with SHA-1.
fn signing(kind: Algorithm) -> Vec<Algorithm> {
    match kind {
        Algorithm::Rsa { .. } => [HashAlg::Sha512, HashAlg::Sha256]
            .map(|hash| Algorithm::Rsa { hash: Some(hash) })
            .into(),
        other => vec![other],
    }
}

fn same(expected: &PublicKey, key: &PublicKey) -> Result<(), String> {
    if key.key_data() == expected.key_data() {
        return Ok(());
    }
    Err(format!(
        "it shows the key {}, but {} is expected: it is another machine, or somebody stands in \
         between",
        fingerprint(key),
        fingerprint(expected)
    ))
}
