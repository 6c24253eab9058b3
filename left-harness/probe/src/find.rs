//! `find`: where a program is on this host.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use crate::fail::{Doing, Result};
use crate::json::Line;

/// Where programs are on most machines. What a login has, a command over SSH often
/// lacks: daemons lie in `sbin`.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Tells the first of the names that is a program here: a path as it is, a name in the
/// folders of `PATH` and in the usual ones.
pub fn find(names: &[OsString], out: &mut impl Write) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names.iter().find_map(|name| place(name, &path));
    let line = match &found {
        Some(place) => Line::new().name("found", place.as_os_str().as_bytes()),
        None => Line::new().maybe_text("found", None),
    };
    out.write_all(line.yes("end").end().as_bytes())
        .doing(|| "write the answer".into())
}

fn place(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|place| is_program(place));
    }
    std::env::split_paths(path)
        .chain(std::env::split_paths(USUAL))
        // A relative folder would mean another place for whoever starts it.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|place| is_program(place))
}

fn is_program(place: &Path) -> bool {
    place.is_file() && access(place, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn found(names: &[&str], path: &Path) -> Option<PathBuf> {
        names
            .iter()
            .find_map(|name| place(OsStr::new(name), path.as_os_str()))
    }

    #[test]
    fn only_a_file_that_can_be_executed_is_a_program() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool-of-ours");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::create_dir(dir.path().join("folder-of-ours")).unwrap();
        let names = ["folder-of-ours", "tool-of-ours"];
        assert_eq!(found(&names, dir.path()), None);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(found(&names, dir.path()), Some(file.clone()));
        let full = file.display().to_string();
        assert_eq!(found(&[&full], Path::new("")), Some(file));
    }

    #[test]
    fn the_usual_folders_are_looked_at_whatever_the_path() {
        let found = found(&["no-such-tool", "sh"], Path::new("relative:/nowhere"));
        assert!(found.is_some_and(|place| place.is_absolute()));
    }
}
