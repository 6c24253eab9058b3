//! `lab shell`: the user's own `ssh`, told the way to a host: one of a lab that is up, be
//! it for a run or standing, or one of the user's own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use super::leftovers::{life, purpose};
use super::place;
use crate::cli::{LabKind, ShellArgs};
use crate::collect::Mistaken;
use crate::lab::registry::{self, Entrance, Entry, Life};
use crate::lab::{inventory, local, netns};

pub(super) fn shell(args: &ShellArgs) -> Result<u8> {
    let entrance = match place::hosts(&args.lab.place)? {
        Some(hosts) => {
            if let Some(LabKind::Local | LabKind::Netns) = args.lab.lab {
                // It says what is wrong with that.
                place::source(args.lab.lab, &args.lab.place)?;
            }
            let ways = hosts.list.iter();
            let ways = ways.map(|host| inventory::entrance(&host.name, host));
            let ways = ways.collect::<Result<Vec<_>>>()?;
            pick(ways, &args.host, &hosts.origin)?
        }
        None => {
            let entry = standing(args)?;
            let name = format!("lab {}", entry.id);
            pick(entry.entrances()?, &args.host, &name)?
        }
    };
    // It takes this program's place: signals, terminal and exit code are its own.
    let error = Command::new("ssh")
        .args(&entrance.options)
        .args(["--", &entrance.destination])
        .args(&args.command)
        .exec();
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            bail!(
                "there is no `ssh` in PATH: install an OpenSSH client (apt-get install openssh-client)"
            )
        }
        _ => Err(anyhow!(error).context("cannot run ssh")),
    }
}

fn pick(entrances: Vec<Entrance>, wanted: &str, origin: &str) -> Result<Entrance> {
    let known: Vec<String> = entrances.iter().map(|one| one.host.clone()).collect();
    let found = entrances.into_iter().find(|one| one.host == wanted);
    found.ok_or_else(|| {
        let known = known.join(", ");
        Mistaken::of(format!(
            "no host named `{wanted}` in {origin} (known: {known})"
        ))
        .into()
    })
}

/// The one lab that is up and was meant.
fn standing(args: &ShellArgs) -> Result<Entry> {
    let mut up = Vec::new();
    for entry in registry::list()? {
        if entry.life() == Life::Alive && is_of(&entry, args) {
            up.push(entry);
        }
    }
    let meant: Vec<Entry> = match &args.run {
        Some(name) => {
            let is_named = |entry: &&Entry| entry.id == *name || entry.run.as_ref() == Some(name);
            up.iter().filter(is_named).cloned().collect()
        }
        None => up.clone(),
    };
    let mut open = Vec::new();
    for entry in &meant {
        if !entry.entrances()?.is_empty() {
            open.push(entry.clone());
        }
    }
    match (&open[..], &meant[..]) {
        ([one], _) => Ok(one.clone()),
        ([], [coming, ..]) => Err(Mistaken::of(format!(
            "lab {} is only coming up, or has no way in: try again in a moment",
            coming.id
        ))
        .into()),
        ([], []) => Err(Mistaken::of(nothing(args, &up)).into()),
        (several, _) => Err(Mistaken::of(format!(
            "several labs are up; say which with --run:\n{}",
            lines(several)
        ))
        .into()),
    }
}

/// Whether a lab is of the kind and in the place that was asked for.
fn is_of(entry: &Entry, args: &ShellArgs) -> bool {
    let kind = args.lab.lab.map(|kind| match kind {
        LabKind::Local => local::NAME,
        LabKind::Netns => netns::NAME,
        LabKind::Inventory => inventory::NAME,
    });
    let dir = args.lab.place.lab_dir.as_deref().map(real);
    let is_there = |dir: &Path| entry.homes.iter().any(|home| home.dir.starts_with(dir));
    kind.is_none_or(|kind| entry.kind == kind) && dir.as_deref().is_none_or(is_there)
}

/// As entries name it; a folder that is not there has no lab in it.
fn real(dir: &Path) -> std::path::PathBuf {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned())
}

fn nothing(args: &ShellArgs, up: &[Entry]) -> String {
    match (&args.run, up) {
        (Some(name), [_, ..]) => format!("no lab or run `{name}` is up; there are:\n{}", lines(up)),
        _ => format!(
            "no lab is up{}: start one with `left-harness lab up` in another terminal, or name your \
             own hosts with --hosts hosts.toml or --ssh-hosts vm1,vm2",
            match args.lab.lab.is_some() || args.lab.place.lab_dir.is_some() {
                true => " of the kind and in the place that you name",
                false => "",
            }
        ),
    }
}

fn lines(entries: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let name = entry.run.as_ref().unwrap_or(&entry.id);
        let purpose = purpose(entry);
        format!(
            "  --run {name}   {purpose}, {}, since {}",
            life(entry),
            entry.since
        )
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}
