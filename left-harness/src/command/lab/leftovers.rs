//! `lab status` and `lab down`: what runs have on the hosts of a lab, and what crashed
//! ones have left there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{EXIT_INFRASTRUCTURE, EXIT_OK, and_close, place, say, say_json, wait_for};
use crate::cli::{LabArgs, StatusArgs};
use crate::host::probe::Probe;
use crate::host::remote::Remote;
use crate::lab::registry::{self, Entry, Life};
use crate::lab::strays::{self, Stray};
use crate::lab::{Ground, Source};
use crate::run::leftovers::{self, Found, State};
use crate::sut::build::PROBE;
use crate::teardown::Teardown;

/// All that is on one host.
struct Host {
    ground: Ground,
    /// The one that was deployed last and still runs; without it there was no run.
    probe: Option<Probe>,
    folders: Vec<Found>,
    processes: Vec<Stray>,
    /// The ids of labs that stand, to which processes may belong.
    standing: Vec<String>,
}

pub(super) fn status(args: &StatusArgs) -> Result<u8> {
    let source = place::source(args.lab.lab, &args.lab.place)?;
    wait_for(and_close(
        Teardown::new(),
        async |teardown: &mut Teardown| {
            let labs = labs(&source)?;
            let mut hosts = Vec::new();
            for ground in source.grounds(teardown).await? {
                hosts.push(look(ground, &labs).await?);
            }
            if args.json {
                let hosts: Vec<Value> = hosts.iter().map(Host::json).collect();
                let labs = labs.iter().map(lab_json).collect::<Result<Vec<_>>>()?;
                say_json(&json!({ "lab": source.name(), "labs": labs, "hosts": hosts }));
                return Ok(EXIT_OK);
            }
            for entry in &labs {
                say(&format!(
                    "{}: {}, {}, since {}",
                    entry.id,
                    purpose(entry),
                    life(entry),
                    entry.since
                ));
                if entry.life() == Life::Alive
                    && let [first, ..] = &entry.entrances()?[..]
                {
                    let (host, id) = (&first.host, &entry.id);
                    say(&format!(
                        "  `left-harness lab shell {host} --run {id}` enters it"
                    ));
                }
            }
            if hosts.is_empty() {
                say(&format!("the {} lab has had no host yet", source.name()));
            }
            for host in &hosts {
                host.lines().iter().for_each(|line| say(line));
            }
            Ok(EXIT_OK)
        },
    ))
}

pub(super) fn down(args: &LabArgs) -> Result<u8> {
    let source = place::source(args.lab, &args.place)?;
    wait_for(and_close(
        Teardown::new(),
        async |teardown: &mut Teardown| {
            let mut code = EXIT_OK;
            let labs = labs(&source)?;
            for entry in &labs {
                if entry.life() != Life::Alive {
                    for done in registry::remove(entry)? {
                        say(&done);
                    }
                }
            }
            for ground in source.grounds(teardown).await? {
                let name = ground.remote.name().to_owned();
                // What cannot be removed on one host does not protect the other.
                match remove(look(ground, &labs).await).await {
                    Ok(0) => say(&format!("host {name}: nothing was left")),
                    Ok(count) => say(&format!("host {name}: {count} leftovers removed")),
                    Err(error) => {
                        eprintln!("left-harness: host {name}: {error:#}");
                        code = EXIT_INFRASTRUCTURE;
                    }
                }
            }
            Ok(code)
        },
    ))
}

/// The labs of this kind that are up on this machine, or were and left an entry.
fn labs(source: &Source) -> Result<Vec<Entry>> {
    let mut entries = registry::list()?;
    entries.retain(|entry| entry.kind == source.name());
    Ok(entries)
}

pub(super) fn life(entry: &Entry) -> String {
    match entry.life() {
        Life::Alive => format!("in use by process {}", entry.harness.pid),
        Life::Orphaned => "its harness is gone, it ends by itself".into(),
        Life::Dead => "gone, and `lab down` forgets it".into(),
    }
}

/// What a lab is up for.
pub(super) fn purpose(entry: &Entry) -> String {
    match &entry.run {
        Some(run) => format!("run {run} in the {} lab", entry.kind),
        None => format!("a standing {} lab", entry.kind),
    }
}

fn lab_json(entry: &Entry) -> Result<Value> {
    let alive = entry.life() == Life::Alive;
    let entrances = match alive {
        true => entry.entrances()?,
        false => Vec::new(),
    };
    let hosts: Vec<Value> = entrances
        .iter()
        .map(|one| json!({ "name": one.host, "ssh": one.ssh(), "sftp": one.sftp(), "scp": one.scp() }))
        .collect();
    Ok(json!({
        "id": entry.id,
        "run": entry.run,
        "since": entry.since,
        "state": life(entry),
        "alive": alive,
        "hosts": hosts,
    }))
}

async fn look(ground: Ground, labs: &[Entry]) -> Result<Host> {
    let remote = &ground.remote;
    let probe = deployed_probe(remote, &ground.home).await?;
    let processes = strays::find(&**remote, &ground.home).await?;
    let folders = match &probe {
        Some(probe) => leftovers::find(probe, &ground.home).await?,
        None => Vec::new(),
    };
    let standing = labs.iter().filter(|entry| entry.life() == Life::Alive);
    Ok(Host {
        standing: standing.map(|entry| entry.id.clone()).collect(),
        ground,
        probe,
        folders,
        processes,
    })
}

/// Removes what nobody else will; how much that was.
async fn remove(host: Result<Host>) -> Result<usize> {
    let host = host?;
    let mut count = 0;
    // Processes first: they would write into a folder while it goes.
    for stray in host.strays() {
        strays::kill(&*host.ground.remote, &host.ground.home, stray).await?;
        say(&format!(
            "host {}: killed process {} of run {}",
            host.ground.remote.name(),
            stray.pid,
            stray.run
        ));
        count += 1;
    }
    for found in host
        .folders
        .iter()
        .filter(|found| found.state == State::Left)
    {
        let probe = host.probe.as_ref().context("the probe is gone")?;
        leftovers::remove_one(probe, found).await?;
        say(&format!(
            "host {}: removed {}",
            host.ground.remote.name(),
            found.dir.display()
        ));
        count += 1;
    }
    Ok(count)
}

/// Any probe that an earlier run has brought there; all of them know folders and leases.
async fn deployed_probe(remote: &Arc<dyn Remote>, home: &Path) -> Result<Option<Probe>> {
    let bin = home.join("bin");
    if remote.stat(&bin).await?.is_none() {
        return Ok(None);
    }
    for name in remote.list(&bin).await? {
        if !name.starts_with(&format!("{PROBE}-")) {
            continue;
        }
        let probe = Probe::new(remote.clone(), bin.join(name));
        if probe.self_digest().await.is_ok() {
            return Ok(Some(probe));
        }
    }
    Ok(None)
}

impl Host {
    /// Processes whose run does not go on.
    fn strays(&self) -> impl Iterator<Item = &Stray> {
        let goes_on = |run: &str| {
            let mut in_use = self
                .folders
                .iter()
                .filter(|found| found.state == State::InUse);
            in_use.any(|found| found.run == run) || self.standing.iter().any(|lab| lab == run)
        };
        self.processes
            .iter()
            .filter(move |stray| !goes_on(&stray.run))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "host {}: {}",
            self.ground.remote.name(),
            self.ground.home.display()
        )];
        for found in &self.folders {
            let dir = found.dir.display();
            lines.push(match found.state {
                State::InUse => format!("  in use  {dir}"),
                State::Kept => format!("  kept    {dir} (yours to remove)"),
                State::Left => format!("  left    {dir} (`left-harness lab down` removes it)"),
            });
        }
        for stray in self.strays() {
            lines.push(format!(
                "  left    process {} of run {} (`left-harness lab down` kills it)",
                stray.pid, stray.run
            ));
        }
        if lines.len() == 1 {
            lines.push("  nothing of any run".into());
        }
        lines
    }

    fn json(&self) -> Value {
        let folders: Vec<Value> = self
            .folders
            .iter()
            .map(|found| {
                let state = match found.state {
                    State::InUse => "in use",
                    State::Kept => "kept",
                    State::Left => "left behind",
                };
                json!({ "run": found.run, "path": found.dir.display().to_string(), "state": state })
            })
            .collect();
        let strays: Vec<Value> = self
            .strays()
            .map(|stray| json!({ "pid": stray.pid, "run": stray.run }))
            .collect();
        json!({
            "name": self.ground.remote.name(),
            "home": self.ground.home.display().to_string(),
            "folders": folders,
            "processes_left": strays,
        })
    }
}
