//! What the harness keeps on this machine, and how much space it takes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::report::text::bytes;

/// A runs folder of a long campaign; beyond it the size is a lower bound.
const ENTRIES_MAX: usize = 200_000;

/// A place where something is kept.
pub(super) struct Kept {
    what: &'static str,
    path: PathBuf,
    size: Option<Size>,
}

struct Size {
    bytes: u64,
    is_whole: bool,
}

/// Programs and kept runs of the local lab, and the results of runs made from here.
pub(super) fn places(lab_dir: Option<&Path>) -> Vec<Kept> {
    let lab = lab_dir.map(|dir| ("programs and kept folders of the local lab", dir.to_owned()));
    let runs = ("results of runs", PathBuf::from("runs"));
    lab.into_iter()
        .chain([runs])
        .map(|(what, path)| Kept {
            what,
            size: path.is_dir().then(|| size(&path)),
            path,
        })
        .collect()
}

/// What the files below a folder hold; links are not followed.
fn size(dir: &Path) -> Size {
    let (mut sum, mut seen) = (0, 0);
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Size {
                    bytes: sum,
                    is_whole: false,
                };
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => sum += meta.len(),
                // It went meanwhile.
                Err(_) => {}
            }
        }
    }
    Size {
        bytes: sum,
        is_whole: true,
    }
}

impl Kept {
    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "path": self.path.display().to_string(),
            "bytes": self.size.as_ref().map(|size| size.bytes),
        })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match &self.size {
            None => "nothing yet".to_owned(),
            Some(size) if size.is_whole => bytes(size.bytes),
            Some(size) => format!("more than {}", bytes(size.bytes)),
        };
        write!(f, "{}: {} ({size})", self.what, self.path.display())
    }
}
