//! A look at the user's hosts that changes nothing there.

use std::time::Duration;

use anyhow::{Result, bail};

use super::file::{Entered, Hosts};
use super::folder;
use super::{connect, limits};
use crate::lab::capability::Capability;
use crate::lab::facts::{self, Facts, Judged};

/// For one host; a doctor must not wait for ever for one that hangs.
const LOOK_DEADLINE: Duration = Duration::from_secs(45);

/// What was seen of one host.
pub struct Surveyed {
    /// `a`
    pub name: String,
    /// As the user says it to ssh.
    pub ssh: String,
    /// What it can do, or why that is not known.
    pub seen: Result<Seen>,
}

/// A host that answers.
pub struct Seen {
    /// What it has and lacks.
    pub judged: Judged,
    /// What its configuration says and is not followed.
    pub notes: Vec<String>,
}

impl Surveyed {
    /// Why nothing can run there, if so.
    pub fn missing(&self) -> Vec<String> {
        match &self.seen {
            Ok(seen) => {
                let missing = seen.judged.missing().into_iter();
                missing
                    .map(|why| format!("host {}: {why}", self.name))
                    .collect()
            }
            Err(error) => vec![format!("{error:#}")],
        }
    }
}

/// Looks at all of them at once.
pub async fn look(hosts: &Hosts) -> Vec<Surveyed> {
    let mut looking = Vec::new();
    for entered in &hosts.list {
        let (entered, hosts) = (entered.clone(), hosts.clone());
        looking.push(tokio::spawn(async move {
            let look = tokio::time::timeout(LOOK_DEADLINE, one(&entered, &hosts)).await;
            let seen = look.unwrap_or_else(|_| {
                let seconds = LOOK_DEADLINE.as_secs();
                Err(anyhow::anyhow!(
                    "host {} ({}) did not say what it is within {seconds} s",
                    entered.name,
                    entered.ssh
                ))
            });
            Surveyed {
                name: entered.name,
                ssh: entered.ssh,
                seen,
            }
        }));
    }
    let mut surveyed = Vec::new();
    for (look, entered) in looking.into_iter().zip(&hosts.list) {
        surveyed.push(look.await.unwrap_or_else(|error| Surveyed {
            name: entered.name.clone(),
            ssh: entered.ssh.clone(),
            seen: Err(anyhow::anyhow!("a task of the harness broke: {error}")),
        }));
    }
    surveyed
}

async fn one(entered: &Entered, hosts: &Hosts) -> Result<Seen> {
    let connected = connect::connect(&entered.name, entered).await?;
    let facts = facts::ask(&*connected.remote, &entered.folder).await;
    let seen = match facts {
        Ok(facts) => {
            let mut judged = facts.judge(limits(entered));
            judged.needed.push(sftp(&connected, &facts, hosts).await);
            Ok(Seen {
                judged,
                notes: connected.notes.clone(),
            })
        }
        Err(error) => Err(error),
    };
    connected.remote.close().await;
    seen
}

/// Whether files can be sent, and whether the folder is ours: both by one question.
async fn sftp(connected: &connect::Connected, facts: &Facts, hosts: &Hosts) -> Capability {
    let remote = &*connected.remote;
    match remote.stat(std::path::Path::new("/")).await {
        Err(error) => Capability::no(
            "SFTP",
            error.to_string(),
            "`Subsystem sftp internal-sftp` in its sshd_config; for dropbear, OpenSSH's sftp-server",
        ),
        Ok(_) => match folder::ours(remote, facts, hosts).await {
            Ok(folder) => Capability::yes("folder", format!("{}, adopted", folder.display())),
            Err(_) => Capability::no(
                "folder",
                match facts.folder() {
                    Some(folder) => format!("{} was not given to the harness", folder.display()),
                    None => "the host does not say where it is".into(),
                },
                format!("`left-harness lab adopt {}`", hosts.option),
            ),
        },
    }
}

/// All that keeps a run from these hosts.
///
/// # Errors
/// If there is anything.
pub async fn usable(hosts: &Hosts) -> Result<()> {
    let missing: Vec<String> = look(hosts)
        .await
        .iter()
        .flat_map(Surveyed::missing)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}", missing.join("; "))
}
