//! The program under test on a host: it is started, stopped and killed, and watched
//! while it must run.

use std::time::Duration;

use tokio::task::JoinSet;

use super::halt::Halt;
use super::leases;
use super::site::Site;
use super::world::World;
use crate::event::EventKind;
use crate::host::probe::{Exited, Held, HoldSpec, Readiness};

/// The longest a program may take until it is ready.
const READY_DEADLINE: Duration = Duration::from_secs(30);

impl World {
    /// Starts the program on a host and waits until it is ready.
    ///
    /// # Errors
    /// A failure of the program if it ends first or is not ready in time.
    pub async fn start(&self, name: &str) -> Result<(), Halt> {
        let site = self.site(name);
        if let Some(held) = site.held() {
            self.still_runs(site, &held).await?;
            return Err(Halt::inconclusive(format!(
                "{} runs on {name} already",
                self.adapter.name
            )));
        }
        let listens = self.adapter.listens(site.seat);
        let probe = site.probe.path.to_string_lossy();
        let spec = HoldSpec {
            dir: site.hold_dir(site.next_start()),
            argv: self.adapter.argv(site.seat, &site.places(), &probe),
            env: vec![("LEFT_HARNESS_RUN".into(), self.run.clone())],
            cwd: Some(site.state()),
            listen: listens.then_some(site.listen.port()),
            open_files: None,
            lease: leases::PROGRAM_LEASE,
        };
        let held = self.leases.program(&site.probe, spec).await?;
        let pid = held.process().map_or(0, |(pid, _)| pid);
        self.process_event(name, format!("started, pid {pid}"));
        site.runs(held.clone());
        if !listens {
            return Ok(());
        }
        tokio::select! {
            ready = held.ready() => match ready? {
                Readiness::Listening { .. } => Ok(()),
                Readiness::Exited(exited) => Err(self.died(site, &exited, "before it was ready").await),
            },
            () = tokio::time::sleep(READY_DEADLINE) => {
                let details = site.log_tail().await;
                Err(Halt::fail(format!(
                    "{} on {name} does not listen on port {} after {} s",
                    self.adapter.name, site.listen.port(), READY_DEADLINE.as_secs()
                )).with_details(details))
            }
        }
    }

    /// Asks the program to end, as its adapter says, and waits for it.
    ///
    /// # Errors
    /// A failure of the program if it had ended before, if it crashes over it, or if it
    /// takes too long; it is then killed.
    pub async fn stop(&self, name: &str) -> Result<String, Halt> {
        let site = self.site(name);
        let Some(held) = site.held() else {
            return Ok(format!("{name} does not run"));
        };
        self.still_runs(site, &held).await?;
        site.is_to_end();
        let stop = &self.adapter.stop;
        held.signal(stop.signal).await?;
        let Ok(exited) = tokio::time::timeout(stop.within, held.exited()).await else {
            return Err(self.stop_by_force(site, &held).await?);
        };
        let exited = exited?;
        if exited.lease_lapsed {
            return Err(self.died(site, &exited, "by itself").await);
        }
        site.ended(&exited);
        let text = format!("ended: {}", exited.how());
        self.process_event(name, text.clone());
        let crashed = exited.signal.as_deref().is_some_and(|by| by != stop.signal);
        if crashed {
            let details = site.log_tail().await;
            return Err(Halt::fail(format!(
                "{} on {name} crashed when it was asked to end by SIG{}: {}",
                self.adapter.name,
                stop.signal,
                exited.how()
            ))
            .with_details(details));
        }
        // What a code means is the program's own affair; a user should see it.
        let clean = |code| stop.codes.iter().any(|known| i32::from(*known) == code);
        if exited.code.is_some_and(|code| !clean(code)) {
            self.sink.warn(format!(
                "{} on {name} ended with {} when it was asked to end by SIG{}",
                self.adapter.name,
                exited.how(),
                stop.signal
            ));
        }
        Ok(text)
    }

    /// Kills a program that does not end when it is asked to.
    async fn stop_by_force(&self, site: &Site, held: &Held) -> Result<Halt, Halt> {
        let stop = &self.adapter.stop;
        let exited = leases::kill(&site.name, held).await?;
        site.ended(&exited);
        if let Some(why) = held.refused() {
            return Err(anyhow::anyhow!(
                "cannot send SIG{} to {} on host {}: {why}",
                stop.signal,
                self.adapter.name,
                site.name
            )
            .into());
        }
        let details = site.log_tail().await;
        Ok(Halt::fail(format!(
            "{} on {} did not end within {} s of SIG{}",
            self.adapter.name,
            site.name,
            stop.within.as_secs_f64(),
            stop.signal
        ))
        .with_details(details))
    }

    /// The programs on these hosts, which must run.
    ///
    /// # Errors
    /// Inconclusive where nothing was started, a failure where it has ended by itself.
    pub async fn running(&self, names: &[String]) -> Result<Vec<(String, Held)>, Halt> {
        let mut running = Vec::new();
        for name in names {
            let site = self.site(name);
            let Some(held) = site.held() else {
                return Err(Halt::inconclusive(format!("nothing runs on {name}")));
            };
            self.still_runs(site, &held).await?;
            running.push((name.clone(), held));
        }
        Ok(running)
    }

    /// Waits until a program that must run ends by itself; never returns otherwise.
    pub async fn any_death(&self) -> Halt {
        let mut running = JoinSet::new();
        for (index, site) in self.sites.iter().enumerate() {
            if let Some(held) = site.held() {
                running.spawn(async move { (index, held.exited().await) });
            }
        }
        while let Some(ended) = running.join_next().await {
            match ended {
                // Another step has killed or stopped it, which is that step's affair.
                Ok((index, Ok(exited)))
                    if self.sites[index].is_ending() && !exited.lease_lapsed => {}
                Ok((index, Ok(exited))) => {
                    return self.died(&self.sites[index], &exited, "by itself").await;
                }
                Ok((_, Err(error))) => return error.into(),
                Err(error) => return anyhow::Error::from(error).into(),
            }
        }
        std::future::pending().await
    }

    async fn still_runs(&self, site: &Site, held: &Held) -> Result<(), Halt> {
        match held.has_exited() {
            Some(exited) => Err(self.died(site, &exited, "by itself").await),
            None => Ok(()),
        }
    }

    /// A program ended though nobody asked it to.
    pub async fn died(&self, site: &Site, exited: &Exited, when: &str) -> Halt {
        let details = site.log_tail().await;
        site.ended(exited);
        let text = format!("ended {when}: {}", exited.how());
        self.process_event(&site.name, text.clone());
        if exited.lease_lapsed {
            // Its holder killed it because we were silent for too long.
            return anyhow::anyhow!(
                "this machine was too slow to renew the lease of {} on {}: try again with less load on it",
                self.adapter.name,
                site.name
            )
            .into();
        }
        Halt::fail(format!("{} on {} {text}", self.adapter.name, site.name)).with_details(details)
    }

    /// Something happened to the program on a host.
    pub fn process_event(&self, on: &str, text: impl Into<String>) {
        self.sink.send(EventKind::Process {
            on: on.into(),
            text: text.into(),
        });
    }
}
