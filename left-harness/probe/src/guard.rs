//! `guard`: keeps one undo under a lease: the folder of a run is removed, whatever becomes of the harness.

use std::fs::{self, DirBuilder};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::beneath::{self, Identity};
use crate::control::Control;
use crate::fail::{Doing, Fail, Result, reason};
use crate::json::Line;
use crate::lease::Lease;
use crate::remove;

/// The file that says whose a folder is.
pub const MARKER: &str = ".left-harness-run";
/// An id has a few dozen bytes.
const ID_BYTES_MAX: usize = 4096;
/// Something may still be writing while it is being ended elsewhere.
const PATIENCE: Duration = Duration::from_secs(5);
const TRY_EVERY: Duration = Duration::from_millis(5);

/// What is guarded.
pub struct Spec {
    /// The folder.
    pub folder: PathBuf,
    /// What its marker must say.
    pub id: String,
    /// How long it lives without a word.
    pub lease: Duration,
}

/// The marked folder, held open so that it cannot be mistaken for another.
struct Marked {
    parent: OwnedFd,
    name: std::ffi::CString,
    folder: OwnedFd,
    identity: Identity,
}

/// What lies under a guarded name.
enum Found {
    /// It is gone, by whoever's hand.
    Nothing,
    /// The folder that was guarded, still marked.
    Ours,
}

/// Refuses a folder that does not bear the id.
pub fn check(folder: &Path, id: &str) -> Result<()> {
    Marked::open(folder, id).map(|_| ())
}

/// Makes a folder that bears the id, for us alone. What cannot be marked does not stay.
pub fn make(folder: &Path, id: &str) -> Result<()> {
    let mut builder = DirBuilder::new();
    let made = builder.mode(0o700).create(folder);
    made.doing(|| format!("make folder {}", folder.display()))?;
    let marker = folder.join(MARKER);
    let marked = fs::write(&marker, id).doing(|| format!("write {}", marker.display()));
    if marked.is_err() {
        // As far as it goes: what failed is told, not this.
        let _ = fs::remove_file(&marker);
        let _ = fs::remove_dir(folder);
    }
    marked
}

/// Takes back what `make` made.
pub fn unmake(folder: &Path, id: &str) -> Result<()> {
    Marked::open(folder, id)?.heal(id)
}

/// Guards until healed, dismissed or lapsed.
pub fn guard(spec: Spec) -> Result<()> {
    // Fails only when we lead a session already, which is what we want.
    let _ = rustix::process::setsid();
    let marked = Marked::open(&spec.folder, &spec.id)?;
    std::env::set_current_dir(&spec.folder).doing(|| format!("enter {}", spec.folder.display()))?;
    let Some(mut control) = Control::open()? else {
        return Ok(());
    };
    control.say(
        &Line::new()
            .yes("guarding")
            .number("pid", std::process::id())
            .end(),
    );
    let mut lease = Lease::new(spec.lease);
    let last_words = loop {
        let Some(left) = lease.left() else {
            // Nobody listens any more, but who does may know.
            break healed(marked.heal(&spec.id)).yes("lease_lapsed");
        };
        let woken = control.wait(None, left)?;
        let mut last_words = None;
        for order in woken.orders {
            match order.as_str() {
                "renew" => lease.renew(),
                "heal" => last_words = Some(healed(marked.heal(&spec.id))),
                "dismiss" => last_words = Some(Line::new().yes("dismissed")),
                _ => control.say(
                    &Line::new()
                        .text("refused", &format!("no such order: {order}"))
                        .end(),
                ),
            }
        }
        if let Some(last_words) = last_words {
            break last_words;
        }
    };
    control.end(&last_words.end());
    Ok(())
}

/// The last words of a guard that has done what it could.
pub fn healed(done: Result<()>) -> Line {
    match done {
        Ok(()) => Line::new().yes("healed"),
        Err(fail) => Line::new().no("healed").text("why", &fail.0),
    }
}

impl Marked {
    fn open(path: &Path, id: &str) -> Result<Self> {
        let name = path
            .file_name()
            .ok_or_else(|| Fail(format!("{} has no name of its own", path.display())))?;
        let name = std::ffi::CString::new(name.as_encoded_bytes())
            .doing(|| format!("name {}", path.display()))?;
        let parent = beneath::parent_of(path)?;
        let folder = beneath::open_folder(&parent, &name)
            .doing(|| format!("open folder {}", path.display()))?;
        let identity =
            Identity::of(&fstat(&folder).doing(|| format!("look at {}", path.display()))?);
        let marked = Self {
            parent,
            name,
            folder,
            identity,
        };
        marked.bears(id)?;
        Ok(marked)
    }

    fn bears(&self, id: &str) -> Result<()> {
        let refused = |why: String| {
            Fail(format!(
                "refusing folder {}: {why}",
                self.name.to_string_lossy()
            ))
        };
        let marker = openat(&self.folder, MARKER, beneath::FILE, Mode::empty())
            .map_err(|error| refused(format!("cannot open {MARKER}: {}", reason(&error.into()))))?;
        let mut found = vec![0; ID_BYTES_MAX];
        let size = rustix::io::read(&marker, &mut found[..])
            .map_err(|error| refused(format!("cannot read {MARKER}: {}", reason(&error.into()))))?;
        if found[..size].trim_ascii() == id.as_bytes() {
            Ok(())
        } else {
            Err(refused(format!("{MARKER} bears another id")))
        }
    }

    /// Removes the folder. The marker goes last, so that an interrupted removal can be taken up again.
    fn heal(&self, id: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.look(id)? {
                Found::Nothing => return Ok(()),
                Found::Ours => {}
            }
            match self.remove(id) {
                Ok(()) => return Ok(()),
                Err(why) if Instant::now() >= deadline => return Err(why),
                Err(_) => std::thread::sleep(TRY_EVERY),
            }
        }
    }

    /// What now lies under the name; an error when it is not what was guarded.
    fn look(&self, id: &str) -> Result<Found> {
        let name = self.name.to_string_lossy();
        match beneath::look(&self.parent, &self.name) {
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error).doing(|| format!("look at {name}")),
            Ok(stat) if Identity::of(&stat) != self.identity => {
                Err(Fail(format!("another folder is now called {name}")))
            }
            Ok(_) => self.bears(id).map(|()| Found::Ours),
        }
    }

    fn remove(&self, id: &str) -> Result<()> {
        remove::empty(&self.folder, MARKER.as_bytes()).map_err(Fail)?;
        unlinkat(&self.folder, MARKER, AtFlags::empty()).doing(|| format!("remove {MARKER}"))?;
        match unlinkat(&self.parent, self.name.as_c_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => {
                // Something appeared in between: mark it again, or the next try would refuse.
                self.mark(id)?;
                Err(error).doing(|| format!("remove folder {}", self.name.to_string_lossy()))
            }
        }
    }

    fn mark(&self, id: &str) -> Result<()> {
        use rustix::fs::OFlags;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let marker = openat(&self.folder, MARKER, flags, Mode::RUSR | Mode::WUSR)
            .doing(|| format!("create {MARKER}"))?;
        rustix::io::write(&marker, id.as_bytes())
            .doing(|| format!("write {MARKER}"))
            .map(|_| ())
    }
}
