//! `lab up`: a lab that merely stands, for people to look around in, until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{EXIT_INTERRUPTED, EXIT_OK, place, say, wait_for};
use crate::cli::UpArgs;
use crate::host::shell::pasteable;
use crate::lab::registry::{self, Entrance, Entry};
use crate::lab::{Host, Lab, Probes, Source, netns, places};
use crate::report::text::json_for_terminals;
use crate::run::interrupt::Interrupt;
use crate::scenario::{HostSpec, LinkSpec};
use crate::sut::build::{self, PROBE};
use crate::sut::deploy::Program;
use crate::teardown::Teardown;

/// How often it is looked whether the lab still stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) fn up(args: &UpArgs) -> Result<u8> {
    let source = place::source(args.lab.lab, &args.lab.place)?;
    places::cache_dir().context("a standing lab needs a place for its keys")?;
    if let Source::Netns(_) = source
        && let Some(missing) = netns::needs::missing()
    {
        bail!("the netns lab cannot stand here: {missing}");
    }
    wait_for(stand(args, &source))
}

async fn stand(args: &UpArgs, source: &Source) -> Result<u8> {
    let mut interrupt = Interrupt::listen(|| {
        eprintln!(
            "left-harness: left at once; what was started in the lab goes by itself, \
             `left-harness lab down` sees to the rest"
        );
    })?;
    let mut teardown = Teardown::new();
    let mut is_up = false;
    let stood = tokio::select! {
        stood = until_it_falls(args, source, &mut teardown, &mut is_up) => {
            stood.map(|never| match never {})
        }
        () = interrupt.asked() => Ok(()),
    };
    let failed = teardown.run().await;
    for failed in &failed {
        eprintln!("left-harness: {failed}");
    }
    stood?;
    if !failed.is_empty() {
        bail!("something of the lab is left: `left-harness lab status` shows it");
    }
    eprintln!("left-harness: the lab is gone, nothing is left");
    // Ctrl-C is how it ends, unless it was not there yet.
    Ok(match is_up {
        true => EXIT_OK,
        false => EXIT_INTERRUPTED,
    })
}

enum Never {}

async fn until_it_falls(
    args: &UpArgs,
    source: &Source,
    teardown: &mut Teardown,
    is_up: &mut bool,
) -> Result<Never> {
    let hosts = host_specs(source);
    let probes = Found {
        bin_dir: args.bin_dir.clone(),
    };
    let link = LinkSpec::default();
    let lab = source.up(&hosts, &link, None, &probes, teardown).await?;
    for note in &lab.notes {
        eprintln!("left-harness: {note}");
    }
    let entry = entry(&lab)?;
    let entrances = entry.entrances()?;
    if entrances.is_empty() {
        bail!("nobody could enter lab {}, so it need not stand", entry.id);
    }
    match args.json {
        // In one line, for whoever reads it while the lab stands.
        true => say(&json_for_terminals(
            &json_of(&lab, &entry, &entrances).to_string(),
        )),
        false => tell(&lab, &entry, &entrances),
    }
    *is_up = true;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(why) = entry.fallen() {
            bail!("the lab stands no more: {why}");
        }
        let asked = lab.link.activity().await;
        asked.context("the lab stands no more")?;
    }
}

/// The hosts that a lab has when no scenario names them.
fn host_specs(source: &Source) -> Vec<HostSpec> {
    let names: Vec<&str> = match source {
        Source::Inventory(hosts) => hosts.list.iter().map(|host| host.name.as_str()).collect(),
        Source::Local(_) | Source::Netns(_) => vec!["a", "b"],
    };
    let spec = |name: &str| HostSpec {
        name: name.to_owned(),
        share_bytes: None,
    };
    names.into_iter().map(spec).collect()
}

fn entry(lab: &Lab) -> Result<Entry> {
    let id = lab.id.as_deref().unwrap_or_default();
    let entries = registry::list()?;
    let own = entries.into_iter().find(|entry| entry.id == id);
    own.with_context(|| format!("the entry of lab {id} is gone"))
}

fn tell(lab: &Lab, entry: &Entry, entrances: &[Entrance]) {
    say(&format!("lab {} is up; Ctrl-C takes it away", entry.id));
    for host in &lab.hosts {
        say(&format!(
            "host {}: {}; a program there may listen at {} and finds its peer at {}",
            host.name,
            host.home.display(),
            host.listen,
            host.peer
        ));
        say(&format!("  left-harness lab shell {}", host.name));
        for entrance in entrances.iter().filter(|one| one.host == host.name) {
            for words in [entrance.ssh(), entrance.sftp(), entrance.scp()] {
                say(&format!("  {}", pasteable(&words)));
            }
        }
    }
}

fn json_of(lab: &Lab, entry: &Entry, entrances: &[Entrance]) -> Value {
    let host = |host: &Host| {
        let entrance = entrances.iter().find(|one| one.host == host.name);
        json!({
            "name": host.name,
            "home": host.home.display().to_string(),
            "listen": host.listen.to_string(),
            "peer": host.peer.to_string(),
            "ssh": entrance.map(Entrance::ssh),
            "sftp": entrance.map(Entrance::sftp),
            "scp": entrance.map(Entrance::scp),
        })
    };
    let hosts: Vec<Value> = lab.hosts.iter().map(host).collect();
    json!({ "lab": lab.name, "id": entry.id, "since": entry.since, "hosts": hosts })
}

/// The probe, for hosts whose link is carried by it.
struct Found {
    bin_dir: Option<PathBuf>,
}

#[async_trait]
impl Probes for Found {
    async fn probe(&self, machine: &str) -> Result<Program> {
        let wanted = build::Wanted {
            package: PROBE,
            binary: PROBE,
            machine,
        };
        let path = build::program(&wanted, self.bin_dir.as_deref(), &|_| {}).await?;
        Program::at(PROBE, &path)
    }
}
