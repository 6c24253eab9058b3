//! Processes that were started on the hosts of a standing lab, and are part of it: they
//! bear its id in their environment.

use anyhow::{Result, bail};

use super::Process;
use crate::lab::strays::MARK;

/// Who forks faster than it is killed is found the next time.
const ROUNDS_MAX: usize = 10;

/// Kills every process of this machine that bears the id of this lab.
///
/// # Errors
/// If one of them does not die, or may not be killed.
pub(super) fn kill(lab: &str) -> Result<()> {
    let mut wrong = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let found = find(lab);
        if found.is_empty() {
            return Ok(());
        }
        wrong.clear();
        for process in found {
            if let Err(error) = process.kill() {
                wrong.push(format!("{error:#}"));
            }
        }
    }
    match wrong.is_empty() {
        true => bail!("there are always new processes of lab {lab}"),
        false => bail!("{}", wrong.join("; ")),
    }
}

fn find(lab: &str) -> Vec<Process> {
    let mark = format!("{MARK}={lab}");
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        // Named before it is looked at: another one under its number is not taken for it.
        let process = Process::of(pid)?;
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        variables
            .any(|variable| variable == mark.as_bytes())
            .then_some(process)
    })
    .collect()
}
