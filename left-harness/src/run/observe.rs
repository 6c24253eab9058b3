//! Looks at both sides from the outside and holds what it sees against what the
//! scenario expects.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::halt::Halt;
use super::site::Site;
use super::steps::StepResult;
use super::world::World;
use crate::at_once;
use crate::check::kept::{Acknowledged, kept};
use crate::check::manifest::Manifest;
use crate::check::{Finding, explain, parts, resent};
use crate::event::{EventKind, Outcome};
use crate::host::probe::Depth;
use crate::scenario::{Bound, Expect};
use crate::workload::Version;

/// The manifests of all shares, in the order of the hosts, looked at in parallel.
///
/// # Errors
/// If a host cannot look.
pub async fn look(world: &Arc<World>, depth: Depth) -> Result<Vec<Manifest>> {
    let mut looking = JoinSet::new();
    for index in 0..world.sites.len() {
        let world = world.clone();
        looking.spawn(async move {
            let site = &world.sites[index];
            let private: Vec<&str> = world.adapter.private.iter().map(String::as_str).collect();
            let manifest = site
                .probe
                .tree(&site.share(), &private, depth)
                .await
                .with_context(|| format!("cannot look at the share of {}", site.name));
            (index, manifest)
        });
    }
    let mut manifests = Vec::new();
    while let Some(looked) = looking.join_next().await {
        let (index, manifest) = looked?;
        manifests.push((index, manifest?));
    }
    manifests.sort_by_key(|(index, _)| *index);
    Ok(manifests
        .into_iter()
        .map(|(_, manifest)| manifest)
        .collect())
}

/// Checks in the middle of a run.
///
/// # Errors
/// If a host cannot look.
pub async fn check_now(world: &Arc<World>, expect: &Expect) -> Result<Vec<Finding>> {
    let manifests = look(world, Depth::Hashed).await?;
    check(world, expect, &manifests).await
}

/// Holds manifests, link and parts against what is expected.
///
/// # Errors
/// If a host cannot look.
pub async fn check(
    world: &Arc<World>,
    expect: &Expect,
    manifests: &[Manifest],
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if expect.trees_identical {
        findings.push(trees(world, manifests).await);
        findings.push(nothing_lost(world, manifests).await?);
        findings.extend(another_way(world).await?);
    }
    if let Some(bound) = expect.resent {
        findings.extend(resent(world, bound).await?);
    }
    if expect.parts_none {
        let looking = world.sites.iter().map(async |site| {
            let (share, parts) = (site.share(), &world.adapter.parts);
            let found = site.probe.parts(&share, parts).await?;
            anyhow::Ok((site.name.as_str(), found))
        });
        findings.push(parts::none_left(&at_once::all_good(looking).await?));
    }
    Ok(findings)
}

/// In each direction into which something was written.
async fn resent(world: &World, bound: Bound) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (from, to) in world.directions() {
        let size = world.model().written_on(from);
        if size > 0 {
            let delivered = world.lab.link.delivered(from, to).await?;
            let mut finding = resent::resent(delivered, size, bound);
            finding.text = format!("{from} → {to}: {}", finding.text);
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        let text = "nothing was written that could be sent again";
        findings.push(Finding::new("resent", Outcome::Inconclusive, text));
    }
    Ok(findings)
}

/// What is on one side only by way of the link must have been seen there: if the
/// programs found another way to each other, no fault of ours has ever touched them.
async fn another_way(world: &World) -> Result<Option<Finding>> {
    let mut unseen = Vec::new();
    for (from, to) in world.directions() {
        let written = world.model().written_on(from);
        if written > 0 && world.lab.link.delivered(from, to).await? == 0 {
            unseen.push(format!("no byte passed the link {from} → {to}"));
        }
    }
    let text = format!(
        "{}: the programs have another way to each other",
        unseen.join(", ")
    );
    Ok((!unseen.is_empty()).then(|| Finding::new("link", Outcome::Inconclusive, text)))
}

/// Sends findings to whoever listens; the worst of them decides.
///
/// # Errors
/// The first finding that is not ok, fails before what we cannot tell.
pub fn report(world: &World, findings: &[Finding]) -> StepResult {
    for finding in findings {
        world.sink.send(EventKind::Checked {
            what: finding.what.clone(),
            outcome: finding.outcome,
            text: finding.text.clone(),
            details: finding.details.clone(),
        });
    }
    for worst in [
        Outcome::Fail,
        Outcome::Infrastructure,
        Outcome::Inconclusive,
    ] {
        if let Some(finding) = findings.iter().find(|finding| finding.outcome == worst) {
            let mut halt = Halt::fail(format!("{}: {}", finding.what, finding.text));
            halt.outcome = worst;
            return Err(halt);
        }
    }
    Ok(findings
        .iter()
        .map(|finding| finding.what.as_str())
        .collect::<Vec<_>>()
        .join(", "))
}

/// How the two trees compare, with what is in the files that differ.
pub async fn trees(world: &World, manifests: &[Manifest]) -> Finding {
    let shares: Vec<PathBuf> = world.sites.iter().map(Site::share).collect();
    let side = |index: usize| explain::Side {
        name: &world.sites[index].name,
        probe: &world.sites[index].probe,
        root: &shares[index],
        manifest: &manifests[index],
    };
    explain::trees(&side(0), &side(1)).await
}

/// Holds the trees against the model, whose hashes are made here again.
async fn nothing_lost(world: &World, manifests: &[Manifest]) -> Result<Finding> {
    let versions: Vec<(String, Version)> = world
        .model()
        .versions()
        .map(|(path, version)| (path.clone(), version.clone()))
        .collect();
    let acknowledged = tokio::task::spawn_blocking(move || {
        let known = versions
            .into_iter()
            .map(|(path, version)| -> Result<Acknowledged> {
                let own = version
                    .recipe
                    .hash()
                    .with_context(|| format!("cannot make the content of {path} again"))?;
                Ok(Acknowledged {
                    path,
                    size: version.size,
                    told: version.blake3,
                    own,
                })
            });
        known.collect::<Result<Vec<_>>>()
    })
    .await??;
    let names = world.sites.iter().map(|site| site.name.as_str());
    let trees: Vec<(&str, &Manifest)> = names.zip(manifests).collect();
    Ok(kept(&acknowledged, &trees))
}
