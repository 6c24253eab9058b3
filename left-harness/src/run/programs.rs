//! The programs that hosts need for a run.

use std::path::Path;

use anyhow::{Context, Result};

use crate::sut::adapter::Adapter;
use crate::sut::build::{self, BuildProgress, PROBE};
use crate::sut::deploy::Program;

/// What is deployed.
pub struct Programs {
    /// The harness's own helper.
    pub probe: Program,
    /// The program under test, where the adapter says how it is built.
    pub sut: Option<Program>,
}

/// Finds or builds them; who waits for a build is told its progress by name.
///
/// # Errors
/// If one of them is neither found nor can be built.
pub async fn programs(
    adapter: &Adapter,
    bin_dir: Option<&Path>,
    on_progress: &(dyn Fn(&str, BuildProgress) + Sync),
) -> Result<Programs> {
    let mut found = Vec::new();
    let sut = adapter
        .build
        .as_ref()
        .map(|build| (build.package.as_str(), build.binary.as_str()));
    for (package, name) in std::iter::once((PROBE, PROBE)).chain(sut) {
        let wanted = build::Wanted {
            package,
            binary: name,
            arch: std::env::consts::ARCH,
        };
        // The probe is ours: whoever brings a program of their own need not bring it.
        let ours = |dir: &&Path| name != PROBE || dir.join(name).is_file();
        let bin_dir = bin_dir.filter(ours);
        let progress = |progress| on_progress(name, progress);
        let path = build::program(&wanted, bin_dir, &progress).await?;
        found.push(Program::at(name, &path)?);
    }
    let mut found = found.into_iter();
    Ok(Programs {
        probe: found.next().context("no probe was built")?,
        sut: found.next(),
    })
}
