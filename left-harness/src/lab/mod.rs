//! Where hosts come from.
//!
//! A [`Source`] is a lab as the user asked for it; a [`Lab`] is one that is up: a
//! list of [`Host`]s and the link between them. What a run does with them is the
//! same in every lab.

pub mod capability;

pub mod places;

pub mod run_folder;

pub mod registry;

pub mod facts;

pub mod needs;

pub mod local;

pub mod netns;

pub mod inventory;

pub mod strays;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use self::inventory::file::Hosts;
use crate::host::remote::Remote;
use crate::link::Link;
use crate::scenario::{Case, HostSpec, LinkSpec, Scenario};
use crate::sut::deploy::Program;
use crate::teardown::Teardown;

/// A lab as the user asked for it.
#[derive(Debug, Clone)]
pub enum Source {
    /// Folders of this machine, below this one.
    Local(PathBuf),
    /// Network namespaces of this machine, with folders below this one.
    Netns(PathBuf),
    /// The user's own hosts.
    Inventory(Arc<Hosts>),
}

impl Source {
    /// `local`
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => local::NAME,
            Self::Netns(_) => netns::NAME,
            Self::Inventory(_) => inventory::NAME,
        }
    }

    /// Whether each host has addresses and ports that are its alone.
    pub fn gives_own_network(&self) -> bool {
        matches!(self, Self::Netns(_))
    }

    /// What its hosts are, by `uname -m`, where that is known before they are there.
    pub fn machine(&self) -> Option<&'static str> {
        match self {
            Self::Local(_) | Self::Netns(_) => Some(std::env::consts::ARCH),
            Self::Inventory(_) => None,
        }
    }

    /// Why this lab cannot carry a case of a scenario, if so.
    pub fn skip_reason(&self, scenario: &Scenario, case: &Case) -> Option<String> {
        if let Self::Netns(_) = self
            && let Some(missing) = netns::needs::missing()
        {
            return Some(missing);
        }
        let needs = needs::needs(scenario, case);
        needs.iter().find_map(|need| match self {
            Self::Local(_) => local::lacks(need),
            Self::Netns(_) => netns::lacks(need),
            Self::Inventory(hosts) => inventory::lacks(Some((hosts, scenario)), need),
        })
    }

    /// What is wrong with asking for this scenario in this lab, if anything is.
    ///
    /// # Errors
    /// A mistake of the user's, ready to be read.
    pub fn suits(&self, scenario: &Scenario) -> Result<(), String> {
        match self {
            Self::Local(_) | Self::Netns(_) => Ok(()),
            Self::Inventory(hosts) => inventory::suits(hosts, scenario),
        }
    }

    /// Connects to every host of the lab, without a link between them.
    ///
    /// # Errors
    /// If the lab does not let it.
    pub async fn grounds(&self, teardown: &mut Teardown) -> anyhow::Result<Vec<Ground>> {
        match self {
            // The folders of network namespaces are this machine's: no namespace is needed
            // to look at them.
            Self::Local(dir) | Self::Netns(dir) => local::grounds(dir, teardown).await,
            Self::Inventory(hosts) => inventory::grounds(hosts, teardown).await,
        }
    }

    /// Brings the hosts and the link between them up, for this run if it is for one. The
    /// probe is brought to hosts that carry the link by it.
    ///
    /// # Errors
    /// If the lab does not let it.
    pub async fn up(
        &self,
        hosts: &[HostSpec],
        link: &LinkSpec,
        run: Option<&str>,
        probes: &dyn Probes,
        teardown: &mut Teardown,
    ) -> anyhow::Result<Lab> {
        match self {
            Self::Local(dir) => local::up(dir, hosts, link, run, teardown).await,
            Self::Netns(dir) => netns::up(dir, hosts, link, run, teardown).await,
            Self::Inventory(known) => {
                inventory::up(known, hosts, link, run, probes, teardown).await
            }
        }
    }
}

/// Finds or builds the probe for hosts of a kind, by `uname -m`.
#[async_trait]
pub trait Probes: Sync {
    /// The one that such hosts execute.
    async fn probe(&self, machine: &str) -> anyhow::Result<Program>;
}

/// A host without a place on the data network: enough to look at it and tidy up.
pub struct Ground {
    /// The connection to it.
    pub remote: Arc<dyn Remote>,
    /// The harness's own folder there.
    pub home: PathBuf,
}

/// A machine with an SSH door and a place on the data network.
pub struct Host {
    /// `a`
    pub name: String,
    /// The connection to it.
    pub remote: Arc<dyn Remote>,
    /// The harness's own folder there. Outlives runs, so that nothing is deployed twice.
    pub home: PathBuf,
    /// A disk for the share alone, where the scenario asks for one.
    pub disk: Option<PathBuf>,
    /// Where the program under test listens.
    pub listen: SocketAddr,
    /// Where it finds its peer.
    pub peer: SocketAddr,
}

/// Hosts that answer, and the wire between them.
pub struct Lab {
    /// `local`
    pub name: &'static str,
    /// `local-1a2b3c4d`; nothing where there is no place to enter it.
    pub id: Option<String>,
    /// In the scenario's order.
    pub hosts: Vec<Host>,
    /// The data path.
    pub link: Arc<dyn Link>,
    /// What the user should know of the hosts, though they work.
    pub notes: Vec<String>,
}

impl Lab {
    /// The host with this name.
    ///
    /// # Panics
    /// If there is none: a scenario's names are known to be good before a lab comes up.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    /// The other one.
    pub fn other(&self, name: &str) -> &Host {
        self.hosts
            .iter()
            .find(|host| host.name != name)
            .unwrap_or_else(|| panic!("host {name} is alone in the lab"))
    }
}
