//! What a run has on its hosts, each under a lease that is renewed from here: its
//! folders, and the programs it started.
//!
//! Whatever is brought into being is made by a task of its own and entered here,
//! also when nobody waits for it any more: a user who interrupts at just that
//! moment must not leave it behind. Renewing goes on until all is taken away;
//! when the harness is killed, the hosts do that by themselves.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::ledger::Page;
use crate::host::probe::{Exited, GuardSpec, Guarded, Held, HoldSpec, Probe, ProbeError};
use crate::host::remote::{Command, Exit, path_text};
use crate::lab::run_folder;

/// A process whose harness is gone dies after this: short enough that nothing is
/// left within ten seconds, long enough for a machine that is busy for a moment.
pub const PROGRAM_LEASE: Duration = Duration::from_secs(5);

/// How often leases are renewed: several times in a lease.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// SIGKILL is a matter of milliseconds, unless a process hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// Everything of one run.
#[derive(Default)]
pub struct Leases {
    folders: Mutex<Vec<Folder>>,
    /// Of every host that there is or was a folder on.
    pages: Mutex<Vec<Page>>,
    programs: Mutex<Vec<Program>>,
    making: Mutex<JoinSet<()>>,
}

#[derive(Clone)]
struct Folder {
    probe: Probe,
    dir: PathBuf,
    id: String,
    guard: Guarded,
}

#[derive(Clone)]
struct Program {
    host: String,
    held: Held,
}

impl Leases {
    /// Nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Makes a folder for `run` on a host.
    ///
    /// # Errors
    /// If it cannot be made or guarded; then it is not there.
    pub async fn folder(self: &Arc<Self>, probe: &Probe, dir: &Path, run: &str) -> Result<()> {
        let (leases, probe) = (self.clone(), probe.clone());
        let (dir, id) = (dir.to_owned(), run.to_owned());
        let making = async move {
            let spec = GuardSpec {
                dir: dir.clone(),
                id: id.clone(),
                lease: run_folder::LEASE,
            };
            lock(&leases.pages).push(Page {
                run: id.clone(),
                probe: probe.clone(),
                dir: dir.clone(),
            });
            let guard = probe.guard_new(&spec).await?;
            lock(&leases.folders).push(Folder {
                probe,
                dir,
                id,
                guard,
            });
            Ok::<(), ProbeError>(())
        };
        Ok(self.see_through(making).await??)
    }

    /// Starts a program on a host.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn program(self: &Arc<Self>, probe: &Probe, spec: HoldSpec) -> Result<Held> {
        let (leases, probe) = (self.clone(), probe.clone());
        let making = async move {
            let held = probe.hold(&spec).await?;
            lock(&leases.programs).push(Program {
                host: probe.remote.name().to_owned(),
                held: held.clone(),
            });
            Ok::<Held, ProbeError>(held)
        };
        Ok(self.see_through(making).await??)
    }

    /// Renews everything for as long as it is polled.
    pub async fn renew(&self) {
        loop {
            lock(&self.programs).retain(|program| program.held.has_exited().is_none());
            let programs = lock(&self.programs).clone();
            let folders = lock(&self.folders).clone();
            // One that hangs must not cost the others their lease, and one that
            // fails shows itself where the program or folder is used next.
            let mut renewing = JoinSet::new();
            for program in programs {
                renewing.spawn(async move { program.held.renew().await });
            }
            for folder in folders {
                renewing.spawn(async move { folder.guard.renew().await });
            }
            tokio::time::sleep(RENEW_INTERVAL).await;
        }
    }

    /// Why a folder of the run is not guarded any more, and so may be gone.
    pub fn lost(&self) -> Option<String> {
        lock(&self.folders).iter().find_map(|folder| {
            let why = folder.guard.lost()?;
            let host = folder.probe.remote.name();
            Some(format!(
                "the guard of the run's folder on host {host} is gone: {why}"
            ))
        })
    }

    /// Kills whatever still runs, all at once.
    ///
    /// # Errors
    /// If one of them is not certainly dead.
    pub async fn kill_programs(&self) -> Result<()> {
        self.all_made().await;
        let mut killing = JoinSet::new();
        let programs = std::mem::take(&mut *lock(&self.programs));
        for Program { host, held } in programs {
            killing.spawn(async move { kill(&host, &held).await.map(drop) });
        }
        all(killing).await
    }

    /// Kills what the programs have left behind, wherever it went.
    ///
    /// # Errors
    /// If something of it is not certainly dead.
    pub async fn end_escaped(&self) -> Result<()> {
        self.all_made().await;
        let mut ending = JoinSet::new();
        for page in lock(&self.pages).clone() {
            ending.spawn(async move { page.end_processes().await });
        }
        all(ending).await
    }

    /// Looks whether anything of the run is left on its hosts.
    ///
    /// # Errors
    /// If it is, or a host cannot look.
    pub async fn check_ledger(&self, folders_stay: bool) -> Result<()> {
        let mut checking = JoinSet::new();
        for page in lock(&self.pages).clone() {
            checking.spawn(async move { page.check(folders_stay).await });
        }
        all(checking).await
    }

    /// Takes all folders away.
    ///
    /// # Errors
    /// If one of them stays.
    pub async fn remove_folders(&self) -> Result<()> {
        self.all_made().await;
        let mut healing = JoinSet::new();
        let folders = std::mem::take(&mut *lock(&self.folders));
        for folder in folders {
            healing.spawn(async move { Ok(folder.guard.heal().await?) });
        }
        all(healing).await
    }

    /// Leaves the folders to the user; says where they are.
    ///
    /// # Errors
    /// If one of them could not be kept.
    pub async fn keep_folders(&self) -> Result<Vec<String>> {
        self.all_made().await;
        let mut kept = Vec::new();
        let folders = std::mem::take(&mut *lock(&self.folders));
        for folder in folders {
            let place = format!(
                "host {}: {}",
                folder.probe.remote.name(),
                folder.dir.display()
            );
            folder
                .keep()
                .await
                .with_context(|| format!("cannot keep the folder on {place}"))?;
            kept.push(place);
        }
        Ok(kept)
    }

    /// What is under way is in the lists after this.
    async fn all_made(&self) {
        let mut making = std::mem::take(&mut *lock(&self.making));
        while making.join_next().await.is_some() {}
    }

    /// Does it to its end, whatever becomes of the caller.
    async fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = oneshot::channel();
        lock(&self.making).spawn(async move {
            // Nobody may want to hear it any more.
            let _ = tell.send(work.await);
        });
        told.await.context("a task of the harness broke")
    }
}

impl Folder {
    /// Without its marker nobody ever takes it for something to be removed.
    async fn keep(self) -> Result<()> {
        self.guard.dismiss().await?;
        let from = path_text(&self.dir.join(run_folder::MARKER))?;
        let to = path_text(&self.dir.join(run_folder::KEPT_MARKER))?;
        let moved = Command::new(["mv".to_owned(), "-f".into(), "--".into(), from, to]);
        let output = self.probe.remote.exec(moved).await?;
        if output.exit != Exit::Code(0) {
            bail!(
                "cannot rename the marker of run {}: {}",
                self.id,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }
}

/// Kills a program with all it started; returns when every death is certain.
///
/// # Errors
/// If that is not so in time.
pub async fn kill(host: &str, held: &Held) -> Result<Exited> {
    confirmed(host, held.kill()).await
}

/// What a kill has come to, within a bound.
///
/// # Errors
/// If nobody can tell that it is dead.
pub async fn confirmed(
    host: &str,
    death: impl Future<Output = Result<Exited, ProbeError>>,
) -> Result<Exited> {
    match tokio::time::timeout(KILL_DEADLINE, death).await {
        Ok(exited) => Ok(exited?),
        Err(_) => bail!(
            "nobody confirms the death of the program on host {host} within {} s of its SIGKILL",
            KILL_DEADLINE.as_secs()
        ),
    }
}

/// Ends when all have; everything that went wrong in one error.
async fn all(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    let mut wrong = Vec::new();
    while let Some(done) = tasks.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("{error:#}")),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    bail!("{}", wrong.join("; "))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that happens under these locks leaves them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
