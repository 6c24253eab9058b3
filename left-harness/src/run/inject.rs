//! Puts files into a share, and into the model of what must arrive.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};

use super::halt::Halt;
use super::steps::StepResult;
use super::world::World;
use crate::check::content;
use crate::event::{EventKind, Unit};
use crate::host::probe::{TreeSpec, WriteSpec, Written};
use crate::host::remote::{Command, Exit, path_text};
use crate::lab::Host;
use crate::scenario::{Action, Amount, Content, How};
use crate::sut::deploy;
use crate::workload::{Recipe, Version};

/// Permission bits of what is written into a share.
const FILE_MODE: u32 = 0o644;

/// Makes known what is about to be written, so that triggers can count on it and
/// nobody takes what is there already for it.
///
/// # Errors
/// If its size is not known or cannot be found out.
pub async fn announce(world: &World, action: &Action) -> Result<(), Halt> {
    let (host, path, size, written) = match action {
        Action::Write { on, path, size, .. } => (on, path, *size, *size),
        Action::Put { on, path, from } => {
            let stat = tokio::fs::metadata(from).await;
            let stat = stat.with_context(|| format!("cannot send the file {}", from.display()))?;
            (on, path, stat.len(), stat.len())
        }
        Action::Tree {
            on,
            path,
            files,
            size,
        } => {
            let bytes = files.saturating_mul(*size);
            (on, path, bytes, bytes)
        }
        Action::Overwrite {
            on, path, amount, ..
        } => {
            let size = known_size(world, path)?;
            (on, path, size, amount.of(size).min(size))
        }
        _ => return Ok(()),
    };
    world.model().announce(host, path, size, written);
    world.injection_begins(path);
    Ok(())
}

/// Performs a step that writes; `None` for every other step. It was announced.
pub async fn perform(world: &World, number: &str, action: &Action) -> Option<StepResult> {
    let (Action::Write { on, path, .. }
    | Action::Put { on, path, .. }
    | Action::Tree { on, path, .. }
    | Action::Overwrite { on, path, .. }) = action
    else {
        return None;
    };
    let injection = Injection {
        world,
        on,
        path,
        seed: format!("{}/{number}/{path}", world.seed),
    };
    let result = match action {
        Action::Write {
            size, content, how, ..
        } => injection.write(*size, *content, *how).await,
        Action::Put { from, .. } => injection.put(from).await,
        Action::Tree { files, size, .. } => injection.tree(*files, *size).await,
        Action::Overwrite { amount, at, .. } => injection.overwrite(*amount, *at).await,
        _ => return None,
    };
    world.injection_ended(path);
    Some(result)
}

/// What is written where.
struct Injection<'a> {
    world: &'a World,
    on: &'a str,
    path: &'a str,
    /// Of its content.
    seed: String,
}

impl Injection<'_> {
    async fn write(&self, size: u64, content: Content, how: How) -> StepResult {
        let site = self.world.site(self.on);
        let bar = self.bar("write", size, Unit::Bytes);
        let spec = WriteSpec {
            dest: site.share().join(self.path),
            temp: site.temp().join(self.temp_name()),
            seed: self.seed.clone(),
            size,
            mode: FILE_MODE,
            content,
            how,
        };
        let written = site.probe.write(&spec, &|done| bar.at(done)).await;
        drop(bar);
        let version = content::Version::written(content, self.seed.clone(), size);
        self.remember(self.path, &written?, Recipe::Seeded(version));
        Ok(String::new())
    }

    async fn put(&self, from: &Path) -> StepResult {
        let site = self.world.site(self.on);
        let total = self.world.model().size(self.path).unwrap_or(0);
        let bar = self.bar("put", total, Unit::Bytes);
        // Sent to a place outside the share first: the program must not see it grow,
        // nor the temporary name under which it comes.
        let temp = site.temp().join(self.temp_name());
        let remote = &site.probe.remote;
        let sent = remote
            .upload(from, &temp, FILE_MODE, &|done| bar.at(done))
            .await;
        drop(bar);
        sent?;
        let (size, hash) = deploy::digest(&site.probe, &temp).await?;
        let host = self.world.lab.host(self.on);
        move_into_place(host, &temp, &site.share().join(self.path)).await?;
        self.remember(
            self.path,
            &Written { size, hash },
            Recipe::Sent(from.to_owned()),
        );
        Ok(String::new())
    }

    async fn tree(&self, files: u64, size: u64) -> StepResult {
        let site = self.world.site(self.on);
        let bar = self.bar("tree", files, Unit::Items);
        let spec = TreeSpec {
            dest: site.share().join(self.path),
            temp: site.temp().join(self.temp_name()),
            seed: self.seed.clone(),
            files,
            size,
        };
        let written = site.probe.tree_write(&spec, &|done| bar.at(done)).await;
        drop(bar);
        let written = written?;
        for (name, file) in &written.files {
            let name = name
                .as_str()
                .context("the probe made a name that is not UTF-8")?;
            let seed = format!("{}/{name}", self.seed);
            let version = content::Version::written(Content::Random, seed, file.size);
            let path = format!("{}/{name}", self.path);
            self.remember(&path, file, Recipe::Seeded(version));
        }
        self.world.model().made_folder(self.path.to_owned());
        Ok(format!("{} files", written.files.len()))
    }

    async fn overwrite(&self, amount: Amount, at: Option<u64>) -> StepResult {
        let site = self.world.site(self.on);
        let base = self.world.model().version(self.path).cloned();
        let Some(base) = base else {
            return Err(unknown(self.path));
        };
        let file = site.share().join(self.path);
        let there = site.probe.remote.stat(&file).await?;
        if there.is_none_or(|there| there.size != base.size) {
            return Err(Halt::inconclusive(format!(
                "{} does not hold the last version of {} yet: let the scenario wait for it with `arrives`",
                self.on, self.path
            )));
        }
        let size = amount.of(base.size).min(base.size);
        // In the middle, unless said: neither a header nor a tail is a special case there.
        let at = at.unwrap_or((base.size - size) / 2);
        let written = site.probe.overwrite(&file, &self.seed, at, size).await?;
        let recipe = base.recipe.overwritten(self.seed.clone(), at, size);
        self.remember(self.path, &written, recipe);
        Ok(format!("{size} bytes at {at}"))
    }

    fn remember(&self, path: &str, written: &Written, recipe: Recipe) {
        let version = Version {
            origin: self.on.to_owned(),
            size: written.size,
            blake3: written.hash,
            recipe,
            injected: Instant::now(),
        };
        self.world.model().wrote(path.to_owned(), version);
    }

    /// Unique among the steps of a run, whatever the path is.
    fn temp_name(&self) -> String {
        format!("w-{}", &blake3::hash(self.seed.as_bytes()).to_hex()[..16])
    }

    fn bar(&self, word: &str, total: u64, unit: Unit) -> Bar<'_> {
        Bar {
            world: self.world,
            task: format!("{word} {}:{}", self.on, self.path),
            total,
            unit,
        }
    }
}

/// Shows how far an injection is, until it is dropped.
struct Bar<'a> {
    world: &'a World,
    task: String,
    total: u64,
    unit: Unit,
}

impl Bar<'_> {
    fn at(&self, done: u64) {
        self.world.sink.send(EventKind::Progress {
            task: self.task.clone(),
            done,
            total: self.total,
            unit: self.unit,
            note: String::new(),
        });
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.world.sink.send(EventKind::ProgressEnded {
            task: std::mem::take(&mut self.task),
        });
    }
}

/// Renames what was made outside the share into it.
async fn move_into_place(host: &Host, from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a file has no folder")?;
    let make = [
        "mkdir".to_owned(),
        "-p".into(),
        "--".into(),
        path_text(parent)?,
    ];
    let (from, to) = (path_text(from)?, path_text(to)?);
    let rename = ["mv".to_owned(), "-f".into(), "--".into(), from, to];
    for argv in [make.to_vec(), rename.to_vec()] {
        let doing = argv.join(" ");
        let output = host.remote.exec(Command::new(argv)).await?;
        if output.exit != Exit::Code(0) {
            bail!(
                "`{doing}` failed on host {}: {}",
                host.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }
    Ok(())
}

fn known_size(world: &World, path: &str) -> Result<u64, Halt> {
    let size = world.model().size(path);
    size.ok_or_else(|| unknown(path))
}

fn unknown(path: &str) -> Halt {
    Halt::inconclusive(format!("nothing is known to be at {path}"))
}
