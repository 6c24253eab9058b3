//! `look parts`: what lies under names that a program gives its partial files.

use std::ffi::{CString, OsString};
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::beneath;
use crate::fail::{Doing, Result};
use crate::json::Line;

/// Writes a line for each match of any glob; a star stays within one component.
pub fn parts(root: &Path, globs: &[OsString], out: impl Write) -> Result<()> {
    let root = beneath::open_root(root)?;
    let mut out = BufWriter::new(out);
    for glob in globs {
        beneath::checked(glob.as_bytes())?;
        let patterns: Vec<_> = glob.as_bytes().split(|byte| *byte == b'/').collect();
        let folder = root.try_clone().doing(|| "copy a descriptor".into())?;
        matches(folder, Vec::new(), &patterns, &mut out)?;
    }
    out.write_all(Line::new().yes("end").end().as_bytes())
        .and_then(|()| out.flush())
        .doing(|| "write the answer".into())
}

/// As deep as the pattern has components, which the command line bounds.
fn matches(folder: OwnedFd, path: Vec<u8>, patterns: &[&[u8]], out: &mut impl Write) -> Result<()> {
    let Some((pattern, deeper)) = patterns.split_first() else {
        return Ok(());
    };
    let names = match beneath::names(&folder) {
        Ok(names) => names,
        Err(error) => return say(out, problem(&path, error)),
    };
    for name in names.iter().filter(|name| fits(pattern, name.as_bytes())) {
        let mut path = path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        if deeper.is_empty() {
            if let Some(line) = describe(&folder, name, &path) {
                say(out, line)?;
            }
        } else if let Ok(inner) = beneath::open_folder(folder.as_fd(), name) {
            matches(inner, path, deeper, out)?;
        }
    }
    Ok(())
}

fn describe(folder: &OwnedFd, name: &CString, path: &[u8]) -> Option<Line> {
    match beneath::look(folder, name) {
        Ok(stat) => Some(
            Line::new()
                .name("path", path)
                .text("kind", beneath::kind_word(&stat))
                .number("size", stat.st_size as u64)
                // In units of 512 bytes, whatever the file system's blocks are.
                .number("allocated", stat.st_blocks as u64 * 512),
        ),
        Err(rustix::io::Errno::NOENT) => None,
        Err(error) => Some(problem(path, error)),
    }
}

fn problem(path: &[u8], error: rustix::io::Errno) -> Line {
    Line::new()
        .name("path", path)
        .text("problem", &crate::fail::reason(&error.into()))
}

fn say(out: &mut impl Write, line: Line) -> Result<()> {
    out.write_all(line.end().as_bytes())
        .doing(|| "write the answer".into())
}

/// `*` stands for any bytes, everything else for itself.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on after the last star when what follows it does not fit.
    let mut retry = None;
    while seen < name.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, seen));
            at += 1;
        } else if pattern.get(at) == Some(&name[seen]) {
            at += 1;
            seen += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            at = after_star;
            seen = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_fit_any_bytes() {
        for (pattern, name, fit) in [
            ("*", "", true),
            ("*", "x", true),
            (".x*.part", ".x12.part", true),
            (".x*.part", ".x12.partial", false),
            ("a*b*c", "a--b--b-c", true),
            ("a*b*c", "a--c", false),
            ("ab", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(
                fits(pattern.as_bytes(), name.as_bytes()),
                fit,
                "{pattern} on {name}"
            );
        }
    }
}
