//! From the options that say which hosts are meant to a lab.

use std::sync::Arc;

use anyhow::Result;

use crate::cli::{LabKind, PlaceArgs};
use crate::collect::Mistaken;
use crate::lab::inventory::file::Hosts;
use crate::lab::{Source, local, netns, places};

/// The lab that was asked for.
///
/// # Errors
/// A mistake in the options or in the file of hosts; or no place for the local lab.
pub fn source(lab: Option<LabKind>, place: &PlaceArgs) -> Result<Source> {
    let hosts = hosts(place)?;
    match (lab, hosts) {
        (None | Some(LabKind::Inventory), Some(hosts)) => Ok(Source::Inventory(Arc::new(hosts))),
        (Some(LabKind::Inventory), None) => Err(Mistaken::of(
            "--lab inventory needs your hosts: --hosts hosts.toml (see scenarios/INVENTORY.md), \
             or --ssh-hosts vm1,vm2",
        )
        .into()),
        (Some(LabKind::Local | LabKind::Netns), Some(hosts)) => Err(Mistaken::of(format!(
            "{} names hosts of your own, which only --lab inventory uses: leave one of them out",
            hosts.option
        ))
        .into()),
        (Some(LabKind::Netns), None) => netns(place),
        (None | Some(LabKind::Local), None) => local(place),
    }
}

/// The embedded lab, in the folder that was asked for.
///
/// # Errors
/// If there is no place for it.
pub fn local(place: &PlaceArgs) -> Result<Source> {
    Ok(Source::Local(match &place.lab_dir {
        Some(dir) => dir.clone(),
        None => places::cache_dir()?.join(local::NAME),
    }))
}

/// Network namespaces, with hosts' folders in the folder that was asked for.
///
/// # Errors
/// If there is no place for it.
pub fn netns(place: &PlaceArgs) -> Result<Source> {
    Ok(Source::Netns(match &place.lab_dir {
        Some(dir) => dir.clone(),
        None => places::cache_dir()?.join(netns::NAME),
    }))
}

/// The hosts of the user's own that were named, if any.
///
/// # Errors
/// Every mistake in how they were named.
pub fn hosts(place: &PlaceArgs) -> Result<Option<Hosts>, Mistaken> {
    if let Some(file) = &place.hosts {
        return Hosts::load(file).map(Some).map_err(Mistaken::of);
    }
    if place.ssh_hosts.is_empty() {
        return Ok(None);
    }
    let config = place.ssh_config.as_deref();
    let hosts = Hosts::of_aliases(config, &place.ssh_hosts);
    hosts.map(Some).map_err(Mistaken::of)
}
