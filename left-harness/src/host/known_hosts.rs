//! What is known of hosts' keys: `known_hosts` files, read as OpenSSH reads them.
//!
//! Decides and does nothing: [`KnownHosts::judge`] says what the files think of a
//! key that a host shows. Nothing is ever added to them from here.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ring::hmac;
use russh::keys::Algorithm;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};

use super::keys::{PublicKey, fingerprint};
use super::pattern;

/// A file of a hundred thousand hosts has a third of it.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The default port, which is not part of a host's name.
const PORT_DEFAULT: u16 = 22;

/// The lines of some files.
#[derive(Debug, Default)]
pub struct KnownHosts {
    files: Vec<PathBuf>,
    lines: Vec<Line>,
}

/// One line that holds a key.
#[derive(Debug)]
struct Line {
    place: Place,
    entry: Entry,
}

/// Where a line stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What the files think of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is the host's.
    Known,
    /// It must not be trusted, whoever shows it.
    Revoked(Place),
    /// The host has another key.
    Changed {
        /// Where that stands.
        place: Place,
        /// `ED25519 SHA256:…`
        known: String,
    },
    /// Nothing is known of the host.
    Unknown {
        /// A line with an authority for it, whose certificates are not understood here.
        authority: Option<Place>,
    },
}

impl KnownHosts {
    /// Reads all files that there are.
    ///
    /// # Errors
    /// If one is there and cannot be read: a key in it might be revoked.
    pub fn load(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for file in files {
            all.files.push(file.clone());
            let metadata = match std::fs::metadata(file) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", file.display()));
                }
            };
            if metadata.len() > FILE_BYTES_MAX {
                bail!(
                    "{} has more than {} MiB",
                    file.display(),
                    FILE_BYTES_MAX >> 20
                );
            }
            let bytes = std::fs::read(file);
            let bytes = bytes.with_context(|| format!("cannot read {}", file.display()))?;
            all.add(file, &String::from_utf8_lossy(&bytes));
        }
        Ok(all)
    }

    /// Takes the lines of a file; those that hold no key of a kind that is understood
    /// here say nothing, as in OpenSSH.
    fn add(&mut self, file: &Path, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Fields may be apart by more than one blank, which the parser does not take.
            let marked = line.starts_with('@');
            let fields: Vec<&str> = line
                .split_ascii_whitespace()
                .take(3 + usize::from(marked))
                .collect();
            if let Ok(entry) = fields.join(" ").parse() {
                let place = Place {
                    file: file.into(),
                    line: index + 1,
                };
                self.lines.push(Line { place, entry });
            }
        }
    }

    /// The files it was read from, also those that are not there.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Kinds of the keys that are known for a host: it should be asked for one of
    /// these first, or a host with several keys looks changed.
    pub fn algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let mut kinds = Vec::new();
        for line in self.of_host(host, port) {
            let kind = line.entry.public_key().algorithm();
            if line.entry.marker().is_none() && !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        kinds
    }

    /// What is to be thought of `key`, shown by `host` at `port`.
    pub fn judge(&self, host: &str, port: u16, key: &PublicKey) -> Judgement {
        let is = |line: &&Line| line.entry.public_key().key_data() == key.key_data();
        let mut authority = None;
        let mut others = Vec::new();
        let mut known = false;
        let of_host: Vec<&Line> = self.of_host(host, port).collect();
        // A revoked key is refused, whatever other lines say.
        let revoked = of_host
            .iter()
            .find(|line| line.entry.marker() == Some(&Marker::Revoked) && is(line));
        if let Some(line) = revoked {
            return Judgement::Revoked(line.place.clone());
        }
        for line in of_host {
            match line.entry.marker() {
                None if is(&line) => known = true,
                None => others.push(line),
                Some(Marker::CertAuthority) => authority = Some(line.place.clone()),
                Some(Marker::Revoked) => {}
            }
        }
        // Of the same kind first: that is the one which changed.
        let same = |line: &&&Line| line.entry.public_key().algorithm() == key.algorithm();
        let other = others.iter().find(same).or_else(|| others.first());
        match other {
            _ if known => Judgement::Known,
            Some(line) => Judgement::Changed {
                place: line.place.clone(),
                known: shown(line.entry.public_key()),
            },
            None => Judgement::Unknown { authority },
        }
    }

    /// The lines for `[host]:port`, or where there are none those for `host` alone,
    /// which OpenSSH takes for every port.
    fn of_host(&self, host: &str, port: u16) -> impl Iterator<Item = &Line> {
        let (host, full) = (host.to_lowercase(), name(host, port));
        let has_full = self.lines.iter().any(|line| {
            line.entry.marker().is_none() && matches(line.entry.host_patterns(), &full)
        });
        self.lines.iter().filter(move |line| {
            let patterns = line.entry.host_patterns();
            matches(patterns, &full)
                || (!has_full || line.entry.marker().is_some()) && matches(patterns, &host)
        })
    }
}

/// How a host is called in these files: `host`, or `[host]:port` for other ports.
pub fn name(host: &str, port: u16) -> String {
    let host = host.to_lowercase();
    match port {
        PORT_DEFAULT => host,
        port => format!("[{host}]:{port}"),
    }
}

/// `ED25519 SHA256:…`, as `ssh-keygen -l` shows it.
pub fn shown(key: &PublicKey) -> String {
    let kind = match key.algorithm() {
        Algorithm::Ed25519 => "ED25519",
        Algorithm::Rsa { .. } => "RSA",
        Algorithm::Ecdsa { .. } => "ECDSA",
        Algorithm::Dsa => "DSA",
        _ => "other",
    };
    format!("{kind} {}", fingerprint(key))
}

/// What `ssh-keyscan -t` calls a kind of key.
pub fn keyscan_type(key: &PublicKey) -> &'static str {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "rsa",
        Algorithm::Ecdsa { .. } => "ecdsa",
        _ => "ed25519",
    }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => {
            pattern::list_matches(patterns.iter().map(String::as_str), name)
        }
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, name.as_bytes(), hash).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::keys::generate;

    struct Keys {
        right: PublicKey,
        other: PublicKey,
    }

    fn keys() -> Keys {
        let key = || generate().unwrap().public_key().clone();
        Keys {
            right: key(),
            other: key(),
        }
    }

    fn known(text: &str) -> KnownHosts {
        let mut known = KnownHosts::default();
        known.add(Path::new("known"), text);
        known
    }

    fn place(line: usize) -> Place {
        Place {
            file: "known".into(),
            line,
        }
    }

    fn line(names: &str, key: &PublicKey) -> String {
        format!("{names} {}\n", key.to_openssh().unwrap())
    }

    #[test]
    fn a_name_matches_as_openssh_matches_it() {
        let keys = keys();
        for (names, host, port) in [
            ("web", "web", 22),
            ("web,10.0.0.1", "10.0.0.1", 22),
            ("WEB", "Web", 22),
            ("[web]:2222", "web", 2222),
            // A plain name holds for every port of which nothing else is said.
            ("web", "web", 2222),
            ("*.example.org,!mail.example.org", "a.example.org", 22),
            ("[*]:2222", "web", 2222),
            ("fe80::1", "fe80::1", 22),
        ] {
            let known = known(&line(names, &keys.right));
            let judged = known.judge(host, port, &keys.right);
            assert_eq!(judged, Judgement::Known, "{names} {host} {port}");
        }
        for (names, host, port) in [
            ("web", "webs", 22),
            ("[web]:2222", "web", 22),
            ("[web]:2222", "web", 2223),
            ("*.example.org,!mail.example.org", "mail.example.org", 22),
        ] {
            let known = known(&line(names, &keys.right));
            let judged = known.judge(host, port, &keys.right);
            let unknown = Judgement::Unknown { authority: None };
            assert_eq!(judged, unknown, "{names} {host} {port}");
        }
    }

    #[test]
    fn hashed_names_match_and_tell_nothing() {
        let salt = [7; 20];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
        let tag = hmac::sign(&key, b"[hidden]:2222");
        let patterns = HostPatterns::HashedName {
            salt: salt.into(),
            hash: tag.as_ref().try_into().unwrap(),
        };
        let keys = keys();
        let known = known(&line(&patterns.to_string(), &keys.right));
        assert_eq!(known.judge("hidden", 2222, &keys.right), Judgement::Known);
        let unknown = Judgement::Unknown { authority: None };
        assert_eq!(known.judge("hidden", 22, &keys.right), unknown);
    }

    #[test]
    fn a_changed_key_is_told_with_its_line() {
        let keys = keys();
        let text = format!(
            "# a comment\n\n{}{}",
            line("other", &keys.right),
            line("web", &keys.other)
        );
        let changed = Judgement::Changed {
            place: place(4),
            known: shown(&keys.other),
        };
        assert_eq!(known(&text).judge("web", 22, &keys.right), changed);
        // A key that is known for the port hides the one for the plain name.
        let text = line("web", &keys.right) + &line("[web]:2222", &keys.other);
        let judged = known(&text).judge("web", 2222, &keys.right);
        assert!(matches!(judged, Judgement::Changed { place: at, .. } if at == place(2)));
        // One of several is enough.
        let text = line("web", &keys.right) + &line("web", &keys.other);
        assert_eq!(known(&text).judge("web", 22, &keys.right), Judgement::Known);
    }

    #[test]
    fn revoked_keys_and_authorities_are_not_trusted() {
        let keys = keys();
        let text = line("web", &keys.right) + &line("@revoked *", &keys.right);
        let known_hosts = known(&text);
        assert_eq!(
            known_hosts.judge("web", 22, &keys.right),
            Judgement::Revoked(place(2))
        );
        let other = known_hosts.judge("web", 22, &keys.other);
        assert!(matches!(other, Judgement::Changed { .. }));
        let text = line("@cert-authority *.org", &keys.right);
        let known_hosts = known(&text);
        let authority = Some(place(1));
        assert_eq!(
            known_hosts.judge("a.org", 2222, &keys.right),
            Judgement::Unknown { authority }
        );
        assert!(known_hosts.algorithms("a.org", 22).is_empty());
    }

    #[test]
    fn what_is_no_line_is_passed_over() {
        let keys = keys();
        let text = format!(
            "nonsense\nweb ssh-rsa AAAA\n|1|x|y ssh-ed25519 z\nweb\t{}  me@here # x\n",
            keys.right.to_openssh().unwrap()
        );
        let known = known(&text);
        assert_eq!(known.judge("web", 22, &keys.right), Judgement::Known);
        assert_eq!(known.algorithms("web", 22), [Algorithm::Ed25519]);
    }

    #[test]
    fn several_files_count_together_and_a_missing_one_is_empty() {
        let keys = keys();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), line("web", &keys.other)).unwrap();
        std::fs::write(at("b"), line("web", &keys.right)).unwrap();
        let known = KnownHosts::load(&[at("a"), at("none"), at("b")]).unwrap();
        assert_eq!(known.judge("web", 22, &keys.right), Judgement::Known);
        let error = KnownHosts::load(&[folder.path().into()]).unwrap_err();
        let text = format!("cannot read {}", folder.path().display());
        assert_eq!(error.to_string(), text);
    }
}
