//! `doctor`: what this machine and the user's hosts can do, and what mends the rest.

mod kept;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use self::kept::Kept;
use super::{EXIT_INFRASTRUCTURE, EXIT_OK, place, say, say_json, wait_for};
use crate::cli::DoctorArgs;
use crate::lab::capability::{Capability, Have};
use crate::lab::facts::{self, Limits};
use crate::lab::inventory::survey::{self, Surveyed};
use crate::lab::{Source, inventory, local, netns};
use crate::sut::build;

/// What was found of one lab, or of one host of a lab.
struct Ward {
    /// `local lab`
    title: String,
    needed: Vec<Capability>,
    helpful: Vec<Capability>,
    /// What else is to be known.
    notes: Vec<String>,
}

impl Ward {
    fn works(&self) -> bool {
        self.needed.iter().all(|one| one.missing().is_none())
    }
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<u8> {
    let hosts = place::hosts(&args.place)?;
    let lab_dir = match place::local(&args.place) {
        Ok(Source::Local(dir)) => Ok(dir),
        Ok(_) => unreachable!("the local lab was asked for"),
        Err(error) => Err(error),
    };
    let mut wards = wait_for(async {
        let mut wards = vec![local_lab(lab_dir.as_deref()).await, netns_lab()];
        if let Some(hosts) = &hosts {
            wards.extend(survey::look(hosts).await.into_iter().map(ward));
        }
        Ok(wards)
    })?;
    if hosts.is_none() {
        wards.push(Ward {
            title: format!("{} lab", inventory::NAME),
            needed: Vec::new(),
            helpful: Vec::new(),
            notes: vec!["name your hosts to have them looked at: `left-harness doctor --hosts hosts.toml` (see scenarios/INVENTORY.md)".into()],
        });
    }
    let kept = kept::places(lab_dir.ok().as_deref());
    match args.json {
        true => say_json(&as_json(&wards, &kept)),
        false => as_text(&wards, &kept).iter().for_each(|line| say(line)),
    }
    // The netns lab is one more, not one that everybody must have.
    let needed = |ward: &&Ward| ward.title != NETNS_TITLE;
    Ok(match wards.iter().filter(needed).all(Ward::works) {
        true => EXIT_OK,
        false => EXIT_INFRASTRUCTURE,
    })
}

const NETNS_TITLE: &str = "netns lab (this machine)";

fn netns_lab() -> Ward {
    Ward {
        title: NETNS_TITLE.into(),
        needed: netns::needs::capabilities(),
        helpful: vec![client()],
        notes: Vec::new(),
    }
}

async fn local_lab(dir: Result<&Path, &anyhow::Error>) -> Ward {
    let mut ward = Ward {
        title: format!("{} lab (this machine)", local::NAME),
        needed: vec![loopback(), programs()],
        helpful: Vec::new(),
        notes: Vec::new(),
    };
    let dir = match dir {
        Ok(dir) => dir.display().to_string(),
        Err(error) => {
            let mend = "name a folder with --lab-dir";
            ward.needed
                .push(Capability::no("folder", format!("{error:#}"), mend));
            return ward;
        }
    };
    match facts::here(&dir).await {
        Ok(facts) => {
            let judged = facts.judge(Limits::default());
            ward.needed.extend(judged.needed);
            ward.helpful = judged.helpful;
            ward.helpful.push(client());
        }
        Err(error) => {
            let mend = "a POSIX sh in the PATH";
            ward.needed
                .push(Capability::no("sh", format!("{error:#}"), mend));
        }
    }
    ward
}

/// What `lab shell` is.
fn client() -> Capability {
    const NAME: &str = "OpenSSH client";
    // It says so on standard error.
    match std::process::Command::new("ssh").arg("-V").output() {
        Ok(output) => Capability::yes(NAME, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => Capability::no(
            NAME,
            format!("`lab shell` needs it: {error}"),
            "apt-get install openssh-client",
        ),
    }
}

/// Each run has addresses of its own there.
fn loopback() -> Capability {
    const NAME: &str = "loopback addresses";
    match TcpListener::bind((Ipv4Addr::new(127, 64, 1, 1), 0)) {
        Ok(_) => Capability::yes(NAME, "127.64.1.1 can be listened on"),
        Err(error) => Capability::no(
            NAME,
            format!("127.64.1.1 cannot be listened on: {error}"),
            "Linux with its loopback up: `ip link set lo up`",
        ),
    }
}

/// Where the programs that are deployed come from.
fn programs() -> Capability {
    const NAME: &str = "programs";
    if let Some(root) = build::workspace() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let asked = std::process::Command::new(cargo).arg("--version").output();
        return match asked {
            Ok(output) if output.status.success() => {
                Capability::yes(NAME, format!("built from {}", root.display()))
            }
            _ => Capability::no(
                NAME,
                format!(
                    "the sources are in {}, but cargo does not run",
                    root.display()
                ),
                "install Rust from https://rustup.rs, or name a folder of built programs with --bin-dir",
            ),
        };
    }
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|exe| Some(exe.parent()?.join(build::PROBE)));
    match beside.filter(|path| path.is_file()) {
        Some(path) => Capability::yes(NAME, format!("{} and its neighbours", path.display())),
        None => Capability::no(
            NAME,
            format!("neither sources nor {} beside this program", build::PROBE),
            "name a folder of built programs with --bin-dir",
        ),
    }
}

fn ward(surveyed: Surveyed) -> Ward {
    let title = format!(
        "{} lab, host {} ({})",
        inventory::NAME,
        surveyed.name,
        surveyed.ssh
    );
    match surveyed.seen {
        Ok(seen) => Ward {
            title,
            needed: seen.judged.needed,
            helpful: seen.judged.helpful,
            notes: seen.notes,
        },
        Err(error) => Ward {
            title,
            needed: vec![Capability::no(
                "way in",
                format!("{error:#}"),
                format!("`ssh {}` must work without questions", surveyed.ssh),
            )],
            helpful: Vec::new(),
            notes: Vec::new(),
        },
    }
}

fn as_text(wards: &[Ward], kept: &[Kept]) -> Vec<String> {
    let mut lines = Vec::new();
    for ward in wards {
        let state = match (ward.needed.is_empty(), ward.works()) {
            (true, _) => "not looked at",
            (false, true) => "works",
            (false, false) => "does not work",
        };
        lines.push(format!("{}: {state}", ward.title));
        for one in &ward.needed {
            line(one, "MISSING", &mut lines);
        }
        for one in &ward.helpful {
            line(one, "without", &mut lines);
        }
        lines.extend(ward.notes.iter().map(|note| format!("  note     {note}")));
        lines.push(String::new());
    }
    lines.push("kept on this machine:".into());
    lines.extend(kept.iter().map(|kept| format!("  {kept}")));
    lines
}

fn line(one: &Capability, missing: &str, lines: &mut Vec<String>) {
    match &one.state {
        Have::Yes(note) => lines.push(format!("  ok       {}: {note}", one.name)),
        Have::No { why, mend } => {
            lines.push(format!("  {missing:<8} {}: {why}", one.name));
            lines.push(format!("           mend: {mend}"));
        }
    }
}

fn as_json(wards: &[Ward], kept: &[Kept]) -> Value {
    let capability = |one: &Capability| match &one.state {
        Have::Yes(note) => json!({ "name": one.name, "has": true, "note": note }),
        Have::No { why, mend } => {
            json!({ "name": one.name, "has": false, "why": why, "mend": mend })
        }
    };
    let labs: Vec<Value> = wards
        .iter()
        .map(|ward| {
            json!({
                "name": ward.title,
                "works": (!ward.needed.is_empty()).then(|| ward.works()),
                "needed": ward.needed.iter().map(capability).collect::<Vec<_>>(),
                "helpful": ward.helpful.iter().map(capability).collect::<Vec<_>>(),
                "notes": ward.notes,
            })
        })
        .collect();
    let kept: Vec<Value> = kept.iter().map(Kept::json).collect();
    json!({ "labs": labs, "kept": kept })
}
