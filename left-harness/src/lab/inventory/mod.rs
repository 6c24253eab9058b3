//! Any hosts that are reached over SSH: the user's own machines.
//!
//! [`file`] says which and what may be done to them, [`connect`] gets in, [`folder`]
//! is the harness's own place there, [`survey`] looks at hosts without touching them.
//! The data path is carried by the hosts' own probes, see [`crate::link::relay`]: it
//! needs no privileges, and nobody's network is changed.

pub mod file;

pub mod connect;

pub mod folder;

pub mod survey;

mod client;

pub use client::entrance;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::connect::Connected;
use self::file::{Entered, Hosts};
use super::facts::{self, Limits};
use super::needs::Need;
use super::{Ground, Host, Lab, Probes, registry};
use crate::link::{RelayEnd, RelayLink};
use crate::scenario::{HostSpec, LinkSpec, Scenario};
use crate::sut::deploy::deploy_probe;
use crate::sut::machine;
use crate::teardown::Teardown;

/// What it is called.
pub const NAME: &str = "inventory";

/// How long the end of a connection may take.
const DOWN_DEADLINE: Duration = Duration::from_secs(5);

/// From the first packet to a folder that is known to be ours: a login through a few
/// hosts and one script.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Why this lab cannot carry something, if so; of hosts that are not known only what
/// no host can carry.
pub fn lacks(known: Option<(&Hosts, &Scenario)>, need: &Need) -> Option<String> {
    match need {
        Need::Loss => {
            Some("the inventory lab's link carries streams: it cannot lose packets".into())
        }
        Need::LimitedShare(host) => Some(format!(
            "the inventory lab cannot limit the size of the share of {host}"
        )),
        Need::Fault(hurt, name) => {
            let (hosts, scenario) = known?;
            let names = names(&scenario.hosts);
            let at = names.iter().position(|other| other == name)?;
            let entered = *hosts.matched(&names).ok()?.get(at)?;
            let word = hurt.word();
            (!entered.may.contains(hurt)).then(|| {
                format!(
                    "{} does not allow `{word}` on host {}: add it to its `may`",
                    hosts.origin, entered.name
                )
            })
        }
        Need::Rate | Need::Delay | Need::Count | Need::Hold => None,
    }
}

/// Whether these hosts are the ones that a scenario names.
///
/// # Errors
/// If not, with the known ones.
pub fn suits(hosts: &Hosts, scenario: &Scenario) -> Result<(), String> {
    hosts.matched(&names(&scenario.hosts)).map(drop)
}

fn names(hosts: &[HostSpec]) -> Vec<&str> {
    hosts.iter().map(|host| host.name.as_str()).collect()
}

/// Connects to the hosts, sees that they are ours to use and can be used, brings the
/// probe there and joins them by their relays.
///
/// # Errors
/// If one of them cannot be reached, was not adopted or lacks what a run needs.
pub async fn up(
    known: &Hosts,
    hosts: &[HostSpec],
    link: &LinkSpec,
    run: Option<&str>,
    probes: &dyn Probes,
    teardown: &mut Teardown,
) -> Result<Lab> {
    let matched = known.matched(&names(hosts)).map_err(anyhow::Error::msg)?;
    let [a, b] = matched[..] else {
        bail!(
            "the inventory lab carries two hosts, the scenario has {}",
            hosts.len()
        );
    };
    let registered = registry::register(registry::Coming {
        kind: NAME,
        run,
        ..registry::Coming::default()
    })?;
    let (id, entrances) = (registered.id(), registered.entrances());
    teardown.push("forget the lab", DOWN_DEADLINE, async move {
        tokio::task::spawn_blocking(|| registered.remove()).await?
    });
    let (one, other) = tokio::join!(
        ready(&hosts[0].name, a, known),
        ready(&hosts[1].name, b, known)
    );
    // Both are entered for tear-down before one of them can fail the other.
    for ready in [&one, &other].into_iter().flatten() {
        close_later(ready, teardown);
    }
    let ready = match (one, other) {
        (Ok(one), Ok(other)) => [one, other],
        (Err(one), Err(other)) => bail!("{one:#}; {other:#}"),
        (Err(alone), _) | (_, Err(alone)) => return Err(alone),
    };

    let mut ends = Vec::new();
    let mut notes = Vec::new();
    for ready in &ready {
        notes.extend(ready.notes.iter().cloned());
        let remote = &ready.connected.remote;
        let probe = probes.probe(&machine::ask(&**remote).await?).await?;
        let (there, _) = deploy_probe(remote, &ready.home, &probe, &|_, _, _| {}).await?;
        ends.push(RelayEnd {
            name: remote.name().to_owned(),
            probe: there,
            data: ready.data,
            data_port: ready.data_port,
        });
    }
    let ends: [RelayEnd; 2] = match ends.try_into() {
        Ok(ends) => ends,
        Err(_) => bail!("the inventory lab carries two hosts"),
    };
    let relayed = RelayLink::up(ends, link, teardown).await;
    let (link, addresses) = relayed.with_context(|| {
        format!(
            "cannot bring the link up between the data addresses {} and {} (`data` and \
             `data_port` in {})",
            ready[0].data, ready[1].data, known.origin
        )
    })?;
    let client = |(spec, entered): (&HostSpec, &Entered)| entrance(&spec.name, entered);
    let clients: Result<Vec<_>> = hosts.iter().zip([a, b]).map(client).collect();
    let told = clients.and_then(|clients| entrances.tell(&clients));
    notes.extend(registry::closed(told));
    let mut up = Vec::new();
    for (ready, (listen, peer)) in ready.into_iter().zip(addresses) {
        up.push(Host {
            name: ready.connected.remote.name().to_owned(),
            remote: ready.connected.remote,
            home: ready.home,
            disk: None,
            listen,
            peer,
        });
    }
    Ok(Lab {
        name: NAME,
        id,
        hosts: up,
        link: Arc::new(link),
        notes,
    })
}

/// Connects to all hosts of the file, without a link between them.
///
/// # Errors
/// If one of them cannot be reached or was not adopted.
pub async fn grounds(hosts: &Hosts, teardown: &mut Teardown) -> Result<Vec<Ground>> {
    let mut grounds = Vec::new();
    for entered in &hosts.list {
        let ready = ready(&entered.name, entered, hosts).await?;
        close_later(&ready, teardown);
        grounds.push(Ground {
            remote: ready.connected.remote,
            home: ready.home,
        });
    }
    Ok(grounds)
}

/// A host that may be used, with its place on the data network.
pub struct Ready {
    /// The connection.
    pub connected: Connected,
    /// The harness's folder there.
    pub home: std::path::PathBuf,
    data: IpAddr,
    data_port: Option<u16>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// Gets into a host, which a scenario calls `name`, and sees that it can be used.
///
/// # Errors
/// If not.
pub async fn ready(name: &str, entered: &Entered, hosts: &Hosts) -> Result<Ready> {
    let getting_ready = async {
        let connected = connect::connect(name, entered).await?;
        match checked(name, entered, hosts, &connected).await {
            Ok((home, data, notes)) => Ok(Ready {
                home,
                data,
                data_port: entered.data_port,
                notes,
                connected,
            }),
            Err(error) => {
                connected.remote.close().await;
                Err(error)
            }
        }
    };
    match tokio::time::timeout(READY_DEADLINE, getting_ready).await {
        Ok(ready) => ready,
        Err(_) => bail!(
            "host {name} ({}) was not ready within {} s",
            entered.ssh,
            READY_DEADLINE.as_secs()
        ),
    }
}

async fn checked(
    name: &str,
    entered: &Entered,
    hosts: &Hosts,
    connected: &Connected,
) -> Result<(std::path::PathBuf, IpAddr, Vec<String>)> {
    let remote = &*connected.remote;
    let facts = facts::ask(remote, &entered.folder).await?;
    let home = folder::ours(remote, &facts, hosts).await?;
    let judged = facts.judge(limits(entered));
    let missing = judged.missing();
    if !missing.is_empty() {
        bail!("host {name} cannot be used: {}", missing.join("; "));
    }
    let data = match entered.data {
        Some(data) => data,
        None => data_address(name, &connected.address, connected.port).await?,
    };
    let mut notes = connected.notes.clone();
    let clocks = judged.helpful.iter().filter(|one| one.name == "clock");
    notes.extend(
        clocks
            .filter_map(|clock| clock.missing())
            .map(|trouble| format!("host {name}: {trouble}")),
    );
    Ok((home, data, notes))
}

/// What the user has said of a host.
pub fn limits(entered: &Entered) -> Limits {
    Limits {
        sudo: entered.sudo,
        root: entered.root,
    }
}

/// Where SSH goes, as an address: the other host reaches it there if nothing else is said.
async fn data_address(name: &str, address: &str, port: u16) -> Result<IpAddr> {
    if let Ok(literal) = address.parse() {
        return Ok(literal);
    }
    let found = tokio::net::lookup_host((address, port)).await;
    let first = found.ok().and_then(|mut found| found.next());
    let first = first.with_context(|| {
        format!(
            "cannot tell the data address of host {name} from {address:?}: say `data = \"ADDRESS\"` for it"
        )
    })?;
    Ok(first.ip())
}

fn close_later(ready: &Ready, teardown: &mut Teardown) {
    let closing = ready.connected.remote.clone();
    let what = format!("close the connection to host {}", closing.name());
    teardown.push(what, DOWN_DEADLINE, async move {
        closing.close().await;
        Ok(())
    });
}
