//! Where hosts come from.
//!
//! A [`Source`] is a lab as the user asked for it; a [`Lab`] is one that is up: a
//! list of [`Host`]s and the link between them. What a run does with them is the
//! same in every lab.

pub mod capability;

pub mod places;

pub mod registry;

pub mod local;

pub mod netns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::host::remote::Remote;
use crate::link::Link;
use crate::scenario::{HostSpec, LinkSpec, Scenario};
use crate::teardown::Teardown;

/// A lab as the user asked for it.
#[derive(Debug, Clone)]
pub enum Source {
    /// Folders of this machine, below this one.
    Local(PathBuf),
    /// Network namespaces of this machine, with folders below this one.
    Netns(PathBuf),
}

impl Source {
    /// `local`
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => local::NAME,
            Self::Netns(_) => netns::NAME,
        }
    }

    /// What its hosts are, by `uname -m`, where that is known before they are there.
    pub fn machine(&self) -> Option<&'static str> {
        match self {
            Self::Local(_) | Self::Netns(_) => Some(std::env::consts::ARCH),
        }
    }

    /// Why this lab cannot carry a scenario, if so.
    pub fn skip_reason(&self, scenario: &Scenario) -> Option<String> {
        match self {
            Self::Local(_) => local::skip_reason(scenario),
            Self::Netns(_) => netns::skip_reason(scenario),
        }
    }

    /// Brings the hosts and the link between them up.
    ///
    /// # Errors
    /// If the lab does not let it.
    pub async fn up(
        &self,
        hosts: &[HostSpec],
        link: &LinkSpec,
        teardown: &mut Teardown,
    ) -> anyhow::Result<Lab> {
        match self {
            Self::Local(dir) => local::up(dir, hosts, link, teardown).await,
            Self::Netns(dir) => netns::up(dir, hosts, link, teardown).await,
        }
    }
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
    /// In the scenario's order.
    pub hosts: Vec<Host>,
    /// The data path.
    pub link: Arc<dyn Link>,
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
