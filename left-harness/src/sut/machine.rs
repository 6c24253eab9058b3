//! What a host is, and which programs it can execute.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::host::remote::{Command, Exit, Remote, path_text};

/// `uname -m` says a word.
const WORD_BYTES_MAX: usize = 32;

/// By `uname -m`: the Rust target whose programs need nothing of the host, and the
/// machine in the header of an executable.
const MACHINES: [(&str, &str, u16); 8] = [
    ("x86_64", "x86_64-unknown-linux-gnu", 62),
    ("aarch64", "aarch64-unknown-linux-musl", 183),
    ("armv7l", "armv7-unknown-linux-musleabihf", 40),
    ("armv6l", "arm-unknown-linux-musleabihf", 40),
    ("i686", "i686-unknown-linux-musl", 3),
    ("riscv64", "riscv64gc-unknown-linux-musl", 243),
    ("ppc64le", "powerpc64le-unknown-linux-musl", 21),
    ("s390x", "s390x-unknown-linux-musl", 22),
];

/// What a host calls its kind of processor.
///
/// # Errors
/// If it does not say.
pub async fn ask(remote: &dyn Remote) -> Result<String> {
    let output = remote.exec(Command::new(["uname", "-m"])).await?;
    let word = match output.exit {
        Exit::Code(0) => String::from_utf8_lossy(output.stdout.trim_ascii()),
        _ => "".into(),
    };
    told(remote.name(), &word)
}

/// What a host has called its kind of processor, if that can be one.
///
/// # Errors
/// If it cannot.
pub fn told(host: &str, word: &str) -> Result<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if word.is_empty() || word.len() > WORD_BYTES_MAX {
        bail!("host {host} does not say what it is: `uname -m` gives nothing usable");
    }
    if !word.chars().all(is_word) {
        bail!("host {host} does not say what it is: `uname -m` gives no word");
    }
    Ok(word.to_owned())
}

/// The target that programs for such a host are built for.
pub fn target(machine: &str) -> String {
    if machine == std::env::consts::ARCH {
        // What this toolchain has already; linked statically it needs nothing either.
        return format!("{machine}-unknown-linux-gnu");
    }
    let known = MACHINES.iter().find(|(name, ..)| *name == machine);
    known.map_or_else(
        || format!("{machine}-unknown-linux-musl"),
        |(_, target, _)| (*target).to_owned(),
    )
}

/// How to get a program for a host that is not what this machine is.
pub fn how_to_build(package: &str, binary: &str, machine: &str) -> String {
    let target = target(machine);
    format!(
        "build it with\n  \
         rustup target add {target}\n  \
         RUSTFLAGS='-C target-feature=+crt-static -C linker=rust-lld' \
         cargo build --locked --profile deploy --target {target} -p {package} --bin {binary}\n\
         (one with C in it needs a cross compiler instead of rust-lld), copy \
         target/{target}/deploy/{binary} to DIR/{binary}-{machine} and say --bin-dir DIR"
    )
}

/// The program in a folder of the user's: `NAME-MACHINE`, else `NAME` if such a host
/// can execute it.
///
/// # Errors
/// If there is only one that it cannot execute, or it cannot be read.
pub fn find(dir: &Path, name: &str, machine: &str) -> Result<Option<PathBuf>> {
    let own = dir.join(format!("{name}-{machine}"));
    if own.is_file() {
        return Ok(Some(own));
    }
    let path = dir.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    match made_for(&path)? {
        Some(other) if !executes(machine, other) => bail!(
            "{} is for another machine ({}), the host is {machine}: put one for it beside it, as {name}-{machine}",
            path.display(),
            word_for(other)
        ),
        _ => Ok(Some(path)),
    }
}

/// The machine in a program's header; `None` for a script, or what we do not know.
fn made_for(path: &Path) -> Result<Option<u16>> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(20).read_to_end(&mut header))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let is_elf = header.starts_with(b"\x7fELF");
    Ok(match (is_elf, header.get(5), header.get(18..20)) {
        (true, Some(1), Some(&[low, high])) => Some(u16::from_le_bytes([low, high])),
        (true, Some(2), Some(&[high, low])) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    })
}

fn executes(machine: &str, made_for: u16) -> bool {
    let mut known = MACHINES.iter().filter(|(name, ..)| *name == machine);
    // One we do not know is the user's to know.
    known.next().is_none_or(|(.., own)| *own == made_for)
}

fn word_for(made_for: u16) -> String {
    let known = MACHINES.iter().find(|(.., machine)| *machine == made_for);
    known.map_or_else(
        || format!("number {made_for} in its header"),
        |(name, ..)| (*name).to_owned(),
    )
}

/// Why a host does not execute what was put into a folder, as far as it can be told.
pub async fn why_not_executed(remote: &dyn Remote, folder: &Path) -> Option<String> {
    let table = ["cat".to_owned(), "/proc/mounts".into()];
    let mounts = remote.exec(Command::new(table)).await.ok()?;
    let mount = noexec_mount(
        &String::from_utf8_lossy(&mounts.stdout),
        &path_text(folder).ok()?,
    )?;
    Some(format!(
        "{} lies on {}, which is mounted noexec: give the harness a folder elsewhere on host {}",
        folder.display(),
        crate::check::text::escaped(mount.as_bytes()),
        remote.name()
    ))
}

/// The mount that a path lies on, if nothing there can be executed.
fn noexec_mount(mounts: &str, path: &str) -> Option<String> {
    let mut found: Option<(String, bool)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(mount), Some(options)) = (fields.nth(1), fields.nth(1)) else {
            continue;
        };
        let mount = mount.replace("\\040", " ");
        let below = path.strip_prefix(mount.trim_end_matches('/'));
        let is_on = below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // A later one lies over an earlier one of the same length.
        if is_on
            && found
                .as_ref()
                .is_none_or(|(other, _)| other.len() <= mount.len())
        {
            found = Some((mount, options.split(',').any(|option| option == "noexec")));
        }
    }
    found.and_then(|(mount, is_noexec)| is_noexec.then_some(mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(18, 0);
        header.extend(machine.to_le_bytes());
        header
    }

    #[test]
    fn a_program_of_the_users_is_taken_only_if_the_host_can_execute_it() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let put = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).expect("a file can be written");
        };
        let found = |machine: &str| find(dir.path(), "left", machine);
        assert_eq!(found("x86_64").expect("nothing is there"), None);
        put("left", &elf(183));
        let refused = found("x86_64").expect_err("it is for another").to_string();
        assert!(
            refused.contains("for another machine (aarch64)") && refused.contains("left-x86_64"),
            "{refused}"
        );
        assert_eq!(
            found("aarch64").expect("good"),
            Some(dir.path().join("left"))
        );
        put("left-x86_64", &elf(62));
        assert_eq!(
            found("x86_64").expect("good"),
            Some(dir.path().join("left-x86_64"))
        );
        put("left", b"#!/bin/sh\n");
        assert_eq!(
            found("riscv64").expect("good"),
            Some(dir.path().join("left"))
        );
    }

    #[test]
    fn a_host_calls_itself_by_a_word_or_is_refused() {
        assert_eq!(told("a", "x86_64").expect("a word"), "x86_64");
        for odd in ["", "../x86", "x86 64", &"x".repeat(33)] {
            let refused = told("a", odd).expect_err(odd).to_string();
            assert!(refused.contains("host a does not say what it is"), "{odd}");
        }
    }

    #[test]
    fn the_line_that_builds_it_names_target_and_program() {
        let how = how_to_build("left-harness-probe", "probe", "aarch64");
        for line in [
            "rustup target add aarch64-unknown-linux-musl",
            "cargo build --locked --profile deploy --target aarch64-unknown-linux-musl -p left-harness-probe --bin probe",
            "DIR/probe-aarch64",
        ] {
            assert!(how.contains(line), "{how}");
        }
    }

    #[test]
    fn the_innermost_mount_decides_whether_anything_is_executed() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw,nosuid,noexec 0 0\n\
                      /dev/b /tmp/good\\040place ext4 rw 0 0\n/dev/c /tmpother ext4 rw,noexec 0 0\n";
        assert_eq!(noexec_mount(mounts, "/home/u"), None);
        assert_eq!(noexec_mount(mounts, "/tmp/x"), Some("/tmp".into()));
        assert_eq!(noexec_mount(mounts, "/tmp/good place/x"), None);
        assert_eq!(noexec_mount(mounts, "/tmpo"), None);
    }
}
