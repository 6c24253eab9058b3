//! The harness's own folder on a user's host: recognised by its marker, made by
//! `lab adopt` and by nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::file::Hosts;
use crate::host::remote::Remote;
use crate::lab::facts::Facts;

/// The file that says that everything in its folder is the harness's.
pub const MARKER: &str = ".left-harness-folder";

/// What a person reads who finds it.
const MARKER_TEXT: &str = "This folder belongs to left-harness: programs, and the folders of runs \
     while they last.\nIt may be removed whenever no run goes on.\n";

/// What became of a folder that was to be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It was made, or was empty, and bears the marker now.
    Now,
    /// It bore the marker already.
    Before,
}

/// The folder, if it is the harness's.
///
/// # Errors
/// If it is not, with the command that makes it so.
pub async fn ours(remote: &dyn Remote, facts: &Facts, hosts: &Hosts) -> Result<PathBuf> {
    let folder = path(remote.name(), facts)?;
    // By SFTP, as everything will go there.
    if remote.stat(&folder.join(MARKER)).await?.is_some() {
        return Ok(folder);
    }
    let what = match facts.get("folder_is") {
        Some(_) => format!("does not have the harness's marker ({MARKER})"),
        None => "is not there".to_owned(),
    };
    bail!(
        "the harness uses only folders that were given to it: {} on host {} {what}; \
         `left-harness lab adopt {}` makes it",
        folder.display(),
        remote.name(),
        hosts.option
    )
}

/// Makes the folder and its marker.
///
/// # Errors
/// If it is somebody's home, the root, or holds what is not the harness's.
pub async fn adopt(remote: &dyn Remote, facts: &Facts) -> Result<(PathBuf, Adopted)> {
    let folder = path(remote.name(), facts)?;
    let marker = folder.join(MARKER);
    if let Some(stat) = remote.stat(&folder).await? {
        if !stat.is_dir {
            bail!("{} is no folder, and is left alone", at(remote, &folder));
        }
        if remote.stat(&marker).await?.is_some() {
            return Ok((folder, Adopted::Before));
        }
        if let Some(name) = remote.list(&folder).await?.first() {
            bail!(
                "{} is not empty (there is {name:?}) and is left alone: choose another `folder`, \
                 or empty it yourself",
                at(remote, &folder)
            );
        }
    }
    remote.make_dir(&folder).await?;
    remote.write(&marker, MARKER_TEXT.as_bytes(), 0o600).await?;
    Ok((folder, Adopted::Now))
}

fn path(host: &str, facts: &Facts) -> Result<PathBuf> {
    let folder = facts.folder();
    let folder = folder.with_context(|| format!("host {host} does not say where its folder is"))?;
    let home = facts.get("home").map(PathBuf::from);
    // Component by component: `/home/alice/` and `/home/./alice` are the home, too.
    let is_home = home.is_some_and(|home| folder.components().eq(home.components()));
    if is_home || folder.parent().is_none() || !folder.is_absolute() {
        bail!(
            "{} on host {host} can be no folder of the harness's own: choose another `folder`",
            folder.display()
        );
    }
    Ok(folder)
}

fn at(remote: &dyn Remote, folder: &Path) -> String {
    format!("{} on host {}", folder.display(), remote.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::local_remote::LocalRemote;
    use crate::lab::facts;

    async fn facts_of(folder: &Path) -> Facts {
        let folder = folder.display().to_string();
        facts::ask(&LocalRemote, &folder)
            .await
            .expect("there is a sh")
    }

    fn hosts() -> Hosts {
        Hosts {
            origin: "my.toml".into(),
            option: "--hosts my.toml".into(),
            list: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_folder_is_made_once_and_is_ours_from_then_on() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join("deep/er");
        let refused = ours(&LocalRemote, &facts_of(&folder).await, &hosts()).await;
        let refused = refused.expect_err("not there").to_string();
        assert!(
            refused.contains("is not there; `left-harness lab adopt --hosts my.toml`"),
            "{refused}"
        );
        for wanted in [Adopted::Now, Adopted::Before] {
            let adopted = adopt(&LocalRemote, &facts_of(&folder).await).await;
            assert_eq!(adopted.expect("it can be made"), (folder.clone(), wanted));
        }
        let facts = facts_of(&folder).await;
        assert!(facts.is_adopted());
        let found = ours(&LocalRemote, &facts, &hosts()).await;
        assert_eq!(found.expect("it has the marker"), folder);
    }

    #[tokio::test]
    async fn what_is_somebody_elses_is_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "mine").expect("written");
        let home = PathBuf::from(std::env::var_os("HOME").expect("a home"));
        for (folder, shown) in [
            (dir.path(), "is not empty (there is \"file\")"),
            (&file, "is no folder"),
            (Path::new("/"), "can be no folder of the harness's own"),
            (&home.join("."), "can be no folder of the harness's own"),
        ] {
            let adopted = adopt(&LocalRemote, &facts_of(folder).await).await;
            let refused = adopted.expect_err("somebody's").to_string();
            assert!(refused.contains(shown), "{shown}: {refused}");
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).expect("it is there").count(),
            1
        );
    }
}
