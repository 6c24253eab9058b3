//! A private key in a file: seen without its passphrase, opened with it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use russh::keys::{Error, decode_secret_key, load_public_key};

use super::ask::{Asker, Secret};
use super::keys::{PrivateKey, PublicKey};

/// The largest RSA key has a tenth of it.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Times that a passphrase is asked for.
const TRIES_MAX: usize = 3;

/// Encrypted keys that were opened, so that nobody is asked twice in one process.
static OPEN: Mutex<Option<HashMap<PathBuf, Arc<PrivateKey>>>> = Mutex::new(None);

/// A key as far as it is known without its passphrase.
pub(super) struct KeyFile {
    pub(super) path: PathBuf,
    /// From the file itself, or from the one beside it.
    pub(super) public: Option<PublicKey>,
    pub(super) encrypted: bool,
    text: String,
}

/// Looks at a file; `None` where there is none.
pub(super) fn look(path: &Path) -> Result<Option<KeyFile>, String> {
    let why = |what: &str| format!("the key {} {what}", path.display());
    let text = match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Err(why("is too large")),
        Ok(_) => std::fs::read_to_string(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(why("cannot be read")),
    };
    let (public, encrypted) = match decode_secret_key(&text, None) {
        Ok(key) => (Some(key.public_key().clone()), false),
        Err(Error::KeyIsEncrypted) => (
            PrivateKey::from_openssh(&text)
                .ok()
                .map(|key| key.public_key().clone()),
            true,
        ),
        // Older formats do not say so in the same way.
        Err(_) if text.contains("ENCRYPTED") => (None, true),
        Err(_) => return Err(why("is of no kind that is understood here")),
    };
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    let public = public.or_else(|| load_public_key(beside).ok());
    Ok(Some(KeyFile {
        path: path.into(),
        public,
        encrypted,
        text,
    }))
}

/// Whether nobody need be asked for it any more.
pub(super) fn is_open(path: &Path) -> bool {
    opened(path).is_some()
}

fn opened(path: &Path) -> Option<Arc<PrivateKey>> {
    let open = OPEN.lock().ok()?;
    open.as_ref()?.get(path).cloned()
}

/// The private key, after asking for the passphrase if need be.
pub(super) async fn open(file: &KeyFile, asker: &Asker) -> Result<Arc<PrivateKey>, String> {
    let path = &file.path;
    if !file.encrypted {
        let key = decode_secret_key(&file.text, None);
        return key
            .map(Arc::new)
            .map_err(|error| format!("the key {}: {error}", path.display()));
    }
    if let Some(key) = opened(path) {
        return Ok(key);
    }
    for _ in 0..TRIES_MAX {
        let secret = Secret::Passphrase(path.clone());
        let passphrase = asker.ask(&secret).await?;
        let text = file.text.clone();
        // Made to take long, so that nobody guesses.
        let opening =
            tokio::task::spawn_blocking(move || decode_secret_key(&text, Some(&passphrase)));
        if let Ok(Ok(key)) = opening.await {
            let key = Arc::new(key);
            if let Ok(mut open) = OPEN.lock() {
                open.get_or_insert_default()
                    .insert(path.clone(), key.clone());
            }
            return Ok(key);
        }
        if secret.is_given() {
            break;
        }
    }
    Err(format!(
        "the passphrase does not open the key {}",
        path.display()
    ))
}
