//! SSH keys: made for one run, shown as fingerprints.

pub use russh::keys::{PrivateKey, PublicKey};

/// A fresh Ed25519 key that lives as long as the process that made it.
pub fn generate() -> anyhow::Result<PrivateKey> {
    use anyhow::Context;
    PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519)
        .context("cannot make an ssh key")
}

/// `SHA256:…`, as OpenSSH shows it.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
}
