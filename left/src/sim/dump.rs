//! What is in a share, for comparing.

use std::collections::BTreeMap;
use std::path::Path;

use super::inode::{Id, Kind};
use super::tree::{FileSystem, ROOT};
use crate::disk::Stat;
use crate::entry::Mtime;
use crate::path::{STATE_DIR, escape_bytes};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: Mtime,
        /// How many names it has.
        links: u64,
        /// Length in bytes.
        size: u64,
        /// BLAKE3 of its content.
        hash: String,
    },
    /// A folder.
    Dir {
        /// Permission bits.
        mode: u32,
        /// Modification time.
        mtime: Mtime,
    },
    /// A symbolic link.
    Link {
        /// What it says, escaped.
        target: String,
    },
}

/// Everything by its path, escaped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tree(pub(crate) BTreeMap<String, Item>);

impl Tree {
    pub(super) fn of_machine(fs: &FileSystem) -> Self {
        let mut tree = Self::default();
        tree.add_machine(fs, ROOT, "");
        tree
    }

    fn add_machine(&mut self, fs: &FileSystem, folder: Id, prefix: &str) {
        for (name, id) in &fs.get(folder).names {
            let Some(path) = below(prefix, name) else {
                continue;
            };
            let (inode, stat) = (fs.get(*id), fs.stat(*id));
            let item = match &inode.kind {
                Kind::File => Item::file(&stat, &inode.data.all()),
                Kind::Dir => Item::dir(&stat),
                Kind::Link(target) => Item::Link {
                    target: escape_bytes(target),
                },
            };
            self.0.insert(path.clone(), item);
            if inode.is_dir() {
                self.add_machine(fs, *id, &path);
            }
        }
    }

    /// The tree below a real folder, read by other means than those under test.
    pub(super) fn of_folder(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self::default();
        tree.add_folder(root, "")?;
        Ok(tree)
    }

    fn add_folder(&mut self, folder: &Path, prefix: &str) -> std::io::Result<()> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::PermissionsExt;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Some(path) = below(prefix, entry.file_name().as_bytes()) else {
                continue;
            };
            let stat = stat_of(&entry.metadata()?);
            let item = if stat.is_link() {
                let target = std::fs::read_link(entry.path())?;
                Item::Link {
                    target: escape_bytes(target.as_os_str().as_bytes()),
                }
            } else if stat.is_dir() {
                Item::dir(&stat)
            } else {
                let set = |mode| {
                    let mode = std::fs::Permissions::from_mode(mode);
                    std::fs::set_permissions(entry.path(), mode)
                };
                set(stat.permissions() | 0o400)?;
                let bytes = std::fs::read(entry.path())?;
                set(stat.permissions())?;
                Item::file(&stat, &bytes)
            };
            self.0.insert(path.clone(), item);
            if stat.is_dir() {
                let set = |mode| {
                    let mode = std::fs::Permissions::from_mode(mode);
                    std::fs::set_permissions(entry.path(), mode)
                };
                set(stat.permissions() | 0o500)?;
                self.add_folder(&entry.path(), &path)?;
                set(stat.permissions())?;
            }
        }
        Ok(())
    }
}

fn stat_of(metadata: &std::fs::Metadata) -> Stat {
    use std::os::unix::fs::MetadataExt;
    Stat {
        dev: metadata.dev(),
        ino: metadata.ino(),
        mode: metadata.mode(),
        links: metadata.nlink(),
        size: metadata.size(),
        mtime: Mtime {
            secs: metadata.mtime(),
            nanos: metadata.mtime_nsec() as u32,
        },
        ctime: Mtime {
            secs: metadata.ctime(),
            nanos: metadata.ctime_nsec() as u32,
        },
    }
}

/// The path of a name; the state folder is no part of the tree.
fn below(prefix: &str, name: &[u8]) -> Option<String> {
    match (prefix, escape_bytes(name)) {
        ("", name) if name == STATE_DIR => None,
        ("", name) => Some(name),
        (prefix, name) => Some(format!("{prefix}/{name}")),
    }
}

impl Item {
    fn file(stat: &Stat, bytes: &[u8]) -> Self {
        Item::File {
            mode: stat.permissions(),
            mtime: stat.mtime,
            links: stat.links,
            size: stat.size,
            hash: blake3::hash(bytes).to_hex().to_string(),
        }
    }

    fn dir(stat: &Stat) -> Self {
        Item::Dir {
            mode: stat.permissions(),
            mtime: stat.mtime,
        }
    }
}
