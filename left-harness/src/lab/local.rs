//! The embedded lab: hosts are folders of this machine, each behind an SSH server
//! inside the harness. No privileges, no configuration; the way over SSH and SFTP
//! is the real one, and so are the processes.
//!
//! Each run has loopback addresses of its own. A host reaches its peer only at a
//! *stand-in* on which the link listens, and the link dials on from the stand-in of
//! the caller, so that both sides see the address they were given for their peer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::RngExt;

use super::needs::{Hurt, Need};
use super::strays::MARK;
use super::{Ground, Host, Lab, places, registry};
use crate::host::client_config::ClientHost;
use crate::host::keys::{self, PrivateKey, PublicKey};
use crate::host::remote::Remote;
use crate::host::server::{self, ServerSpec};
use crate::host::ssh::{Credential, Door, HostKey, Ssh, Way};
use crate::link::{Route, StreamLink};
use crate::scenario::{HostSpec, LinkSpec};
use crate::teardown::Teardown;

/// What it is called.
pub const NAME: &str = "local";

/// Who logs in. The embedded server does not mind.
const USER: &str = "left";

/// Programs at once on one connection. The embedded server has no limit of its own;
/// a run holds a few and bursts when it looks at many things.
const SESSIONS_MAX: usize = 64;

/// How long each part of the lab may take to go away.
const DOWN_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take to end what people have started on the hosts.
const FORGET_DEADLINE: Duration = Duration::from_secs(15);

/// Why this lab cannot carry something, if so.
pub fn lacks(need: &Need) -> Option<String> {
    match need {
        Need::Loss => Some("the local lab's link carries streams: it cannot lose packets".into()),
        Need::LimitedShare(host) => Some(format!(
            "the local lab cannot limit the size of the share of {host}"
        )),
        // Its hosts share one network and one clock with this machine.
        Need::Fault(Hurt::Clock, host) => {
            Some(format!("the local lab cannot set the clock of {host}"))
        }
        Need::Fault(..) | Need::Rate | Need::Delay | Need::Count | Need::Hold => None,
    }
}

/// Brings the hosts and the link between them up.
///
/// # Errors
/// If this machine does not let it: no space, no loopback, no ports.
pub async fn up(
    dir: &Path,
    hosts: &[HostSpec],
    link: &LinkSpec,
    run: Option<&str>,
    teardown: &mut Teardown,
) -> Result<Lab> {
    if !cfg!(target_os = "linux") {
        bail!("the local lab needs Linux: every 127.x.y.z address must be this machine's own");
    }
    let [_, _] = hosts else {
        bail!(
            "the local lab carries two hosts, the scenario has {}",
            hosts.len()
        );
    };
    let addresses = Addresses::choose(hosts.len())?;
    let key = Arc::new(keys::generate()?);

    let mut homes = Vec::new();
    for spec in hosts {
        homes.push(registry::Home {
            host: spec.name.clone(),
            dir: places::home(dir, &spec.name)?,
        });
    }
    let registered = registry::register(registry::Coming {
        kind: NAME,
        run,
        init: None,
        homes: homes.clone(),
    })?;
    let (id, entrances) = (registered.id(), registered.entrances());
    teardown.push("forget the lab", FORGET_DEADLINE, async move {
        tokio::task::spawn_blocking(|| registered.remove()).await?
    });

    // What people start on a host that merely stands is part of the lab and goes with
    // it; what a run starts has holders and bears the run's name.
    let env: Vec<(String, String)> = match (run, &id) {
        (None, Some(id)) => vec![(MARK.into(), id.clone())],
        _ => Vec::new(),
    };
    let mut served = Vec::new();
    for home in homes {
        served.push(host(home, &key, env.clone(), teardown).await?);
    }
    let clients = served.iter().map(|host| ClientHost {
        name: &host.name,
        address: "127.0.0.1",
        port: host.port,
        user: USER,
        key: &key,
        host_key: &host.host_key,
    });
    let opened = entrances.open(&Vec::from_iter(clients));
    let mut up = Vec::new();
    for (index, host) in served.into_iter().enumerate() {
        up.push(Host {
            name: host.name,
            remote: host.remote,
            home: host.home,
            disk: None,
            listen: addresses.listen[index],
            peer: addresses.stand_in[1 - index],
        });
    }

    let mut routes = Vec::new();
    for (from, to) in [(0, 1), (1, 0)] {
        routes.push(Route {
            from: up[from].name.clone(),
            to: up[to].name.clone(),
            listen: addresses.stand_in[to],
            dial: addresses.listen[to],
            source: addresses.stand_in[from].ip(),
        });
    }
    let link = StreamLink::up(routes, link)
        .await
        .context("cannot bring the link up")?;
    let going_down = link.clone();
    teardown.push("take the link down", DOWN_DEADLINE, async move {
        going_down.down().await;
        Ok(())
    });
    Ok(Lab {
        name: NAME,
        id,
        hosts: up,
        link: Arc::new(link),
        notes: Vec::from_iter(registry::closed(opened)),
    })
}

/// Every host that this lab has ever had, connected to, without a link.
///
/// # Errors
/// If this machine does not let it.
pub async fn grounds(dir: &Path, teardown: &mut Teardown) -> Result<Vec<Ground>> {
    let key = Arc::new(keys::generate()?);
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut grounds = Vec::new();
    for name in names {
        let home = registry::Home {
            dir: places::home(dir, &name)?,
            host: name,
        };
        let Served { remote, home, .. } = host(home, &key, Vec::new(), teardown).await?;
        grounds.push(Ground { remote, home });
    }
    Ok(grounds)
}

/// A host whose server listens and has let us in.
struct Served {
    name: String,
    home: PathBuf,
    remote: Arc<dyn Remote>,
    port: u16,
    host_key: PublicKey,
}

/// Starts the SSH server of a host and connects to it.
async fn host(
    registry::Home {
        host: name,
        dir: home,
    }: registry::Home,
    key: &Arc<PrivateKey>,
    env: Vec<(String, String)>,
    teardown: &mut Teardown,
) -> Result<Served> {
    let server = server::serve(ServerSpec {
        home: home.clone(),
        authorized: key.public_key().clone(),
        env,
    })
    .await
    .with_context(|| format!("cannot start the SSH server of host {name}"))?;
    let way = Way::Tcp {
        address: Ipv4Addr::LOCALHOST.to_string(),
        port: server.port,
    };
    let (port, host_key) = (server.port, server.host_key.clone());
    let door = Door::new(
        &name,
        way,
        USER,
        Credential::Key(key.clone()),
        HostKey::Pinned(server.host_key.clone()),
    )
    .sessions_max(SESSIONS_MAX);
    let what = format!("stop the SSH server of host {name}");
    teardown.push(what, DOWN_DEADLINE, async move {
        server.stop().await;
        Ok(())
    });
    let remote: Arc<dyn Remote> = Arc::new(Ssh::connect(door).await?);
    let closing = remote.clone();
    let what = format!("close the connection to host {name}");
    teardown.push(what, DOWN_DEADLINE, async move {
        closing.close().await;
        Ok(())
    });
    Ok(Served {
        name,
        home,
        remote,
        port,
        host_key,
    })
}

/// The loopback addresses of one run.
struct Addresses {
    listen: Vec<SocketAddr>,
    stand_in: Vec<SocketAddr>,
}

impl Addresses {
    /// A random 127.x.y.0/24, away from the low ones that people use, on which all
    /// ports that are needed are free.
    fn choose(hosts: usize) -> Result<Self> {
        const TRIES_MAX: u32 = 20;
        let mut random = rand::rng();
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let net: (u8, u8) = (random.random_range(64..=254), random.random_range(1..=254));
            match Self::on(net, hosts) {
                Ok(addresses) => return Ok(addresses),
                Err(error) => last = Some(error),
            }
        }
        let last = last.map(|error| format!(": {error}")).unwrap_or_default();
        bail!("found no free loopback addresses in {TRIES_MAX} tries{last}");
    }

    fn on((x, y): (u8, u8), hosts: usize) -> std::io::Result<Self> {
        let mut listeners = Vec::new();
        let mut free = |last: u8| -> std::io::Result<SocketAddr> {
            let listener = TcpListener::bind((IpAddr::from([127, x, y, last]), 0))?;
            let address = listener.local_addr()?;
            // Held until all are chosen, so that no two are the same.
            listeners.push(listener);
            Ok(address)
        };
        let mut addresses = Self {
            listen: Vec::new(),
            stand_in: Vec::new(),
        };
        for host in 0..hosts as u8 {
            addresses.listen.push(free(1 + host)?);
            addresses.stand_in.push(free(101 + host)?);
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_a_run_is_its_own() {
        let addresses = Addresses::choose(2).expect("loopback is there");
        let all: std::collections::BTreeSet<IpAddr> = addresses
            .listen
            .iter()
            .chain(&addresses.stand_in)
            .map(SocketAddr::ip)
            .collect();
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(IpAddr::is_loopback));
    }
}
