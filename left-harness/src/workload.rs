//! What has been written where: the model every expectation is held against.
//!
//! The model keeps recipes, not bytes: content follows from its seed, so a checker
//! knows every version without having kept it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use blake3::Hash;

use crate::check::content;

/// How a version's bytes come about.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// Generated on the host from a seed.
    Seeded(content::Version),
    /// A file of the dev box.
    Sent(PathBuf),
    /// A file of the dev box with seeded bytes over a part of it: there is only the
    /// host's word for the whole.
    Patched,
}

impl Recipe {
    /// The version with seeded bytes over a part of it.
    pub fn overwritten(&self, seed: String, at: u64, size: u64) -> Self {
        let seeded = match self {
            Self::Seeded(version) => version.overwritten(seed, at, size),
            Self::Sent(_) | Self::Patched => None,
        };
        seeded.map_or(Self::Patched, Self::Seeded)
    }

    /// What the bytes must be, by the harness's own reckoning. Takes a second for a
    /// gigabyte or two: not for an async task.
    ///
    /// # Errors
    /// If a file of the dev box cannot be read.
    pub fn hash(&self) -> io::Result<Option<Hash>> {
        match self {
            Self::Seeded(version) => Ok(Some(version.hash())),
            Self::Sent(path) => {
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(std::fs::File::open(path)?)?;
                Ok(Some(hasher.finalize()))
            }
            Self::Patched => Ok(None),
        }
    }
}

/// One version of a file, as a host acknowledged it.
#[derive(Debug, Clone)]
pub struct Version {
    /// Where it was written.
    pub origin: String,
    /// In bytes.
    pub size: u64,
    /// What the host says it wrote; held against the recipe when the run is checked.
    pub blake3: Hash,
    /// How to make it again.
    pub recipe: Recipe,
    /// When the injection had ended.
    pub injected: Instant,
}

/// Everything that was written so far.
#[derive(Debug, Default)]
pub struct Model {
    versions: BTreeMap<String, Version>,
    folders: BTreeMap<String, Instant>,
    written: BTreeMap<String, u64>,
    sizes: BTreeMap<String, u64>,
}

impl Model {
    /// A host is about to write `written` new bytes, which make a file of `size`:
    /// triggers and bars can count on it before it is complete.
    pub fn announce(&mut self, host: &str, path: &str, size: u64, written: u64) {
        *self.written.entry(host.to_owned()).or_default() += written;
        self.sizes.insert(path.to_owned(), size);
    }

    /// A file has a new version.
    pub fn wrote(&mut self, path: String, version: Version) {
        self.sizes.insert(path.clone(), version.size);
        self.versions.insert(path, version);
    }

    /// A folder is complete.
    pub fn made_folder(&mut self, path: String) {
        self.folders.insert(path, Instant::now());
    }

    /// The latest version of a file.
    pub fn version(&self, path: &str) -> Option<&Version> {
        self.versions.get(path)
    }

    /// How large a file is or is about to be.
    pub fn size(&self, path: &str) -> Option<u64> {
        self.sizes.get(path).copied()
    }

    /// The files a path stands for: itself, or all below it.
    pub fn files_of(&self, path: &str) -> Vec<(String, Version)> {
        let below = format!("{path}/");
        self.versions
            .iter()
            .filter(|(name, _)| *name == path || name.starts_with(&below))
            .map(|(name, version)| (name.clone(), version.clone()))
            .collect()
    }

    /// When the last injection into a path ended.
    pub fn injected(&self, path: &str) -> Option<Instant> {
        let files = self
            .files_of(path)
            .into_iter()
            .map(|(_, version)| version.injected);
        files.chain(self.folders.get(path).copied()).max()
    }

    /// Every file with its latest version.
    pub fn versions(&self) -> impl Iterator<Item = (&String, &Version)> {
        self.versions.iter()
    }

    /// Content bytes that were, or are being, written on a host.
    pub fn written_on(&self, host: &str) -> u64 {
        self.written.get(host).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(origin: &str, size: u64) -> Version {
        Version {
            origin: origin.into(),
            size,
            blake3: blake3::hash(b""),
            recipe: Recipe::Patched,
            injected: Instant::now(),
        }
    }

    #[test]
    fn a_folder_stands_for_all_below_it_and_for_nothing_beside_it() {
        let mut model = Model::default();
        for path in ["d/a", "d/e/b", "d2", "dd/c"] {
            model.wrote(path.into(), version("a", 1));
        }
        let names: Vec<String> = model
            .files_of("d")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["d/a", "d/e/b"]);
    }

    #[test]
    fn bytes_add_up_by_host_and_a_size_is_known_before_the_file_is_complete() {
        let mut model = Model::default();
        model.announce("a", "big", 100, 100);
        assert_eq!(model.size("big"), Some(100));
        model.wrote("big".into(), version("a", 100));
        model.announce("b", "big", 100, 5);
        assert_eq!((model.written_on("a"), model.written_on("b")), (100, 5));
        assert_eq!(model.size("big"), Some(100));
    }
}
