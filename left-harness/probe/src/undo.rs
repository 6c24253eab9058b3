//! `guard --undo`: keeps the undo of an active fault under a lease, and performs it
//! when the fault is to be healed or when nobody renews any more.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::control::Control;
use crate::fail::{Doing, Fail, Result};
use crate::guard::healed;
use crate::json::Line;
use crate::lease::Lease;

/// What the undo complains about.
const LOG: &str = "undo.log";
/// Shown of it.
const COMPLAINT_BYTES_MAX: usize = 1000;
/// When nobody is there to be told, it is tried so often.
const TRIES_MAX: u32 = 5;
/// And so long after.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What is guarded.
pub struct Spec {
    /// Of the guard itself, made if it is missing.
    pub folder: PathBuf,
    /// How long the fault lives without a word.
    pub lease: Duration,
    /// How long the undo may take.
    pub within: Duration,
    /// The program that undoes it, and proves that by exit code 0.
    pub argv: Vec<OsString>,
}

/// Guards until healed, dismissed or lapsed.
pub fn guard(spec: &Spec) -> Result<()> {
    // Fails only when we lead a session already, which is what we want.
    let _ = rustix::process::setsid();
    std::env::set_current_dir(&spec.folder).doing(|| format!("enter {}", spec.folder.display()))?;
    // Opened now: when it is needed the disk may be full, or the folder gone.
    let mut options = OpenOptions::new();
    let log = options.read(true).append(true).create(true).mode(0o600);
    let log = log.open(LOG).doing(|| format!("open {LOG}"))?;
    let Some(mut control) = Control::open()? else {
        return Ok(());
    };
    let line = Line::new().yes("guarding");
    control.say(&line.number("pid", std::process::id()).end());
    let mut lease = Lease::new(spec.lease);
    let last_words = loop {
        let Some(left) = lease.left() else {
            break healed(until_done(spec, &log)).yes("lease_lapsed");
        };
        let woken = control.wait(None, left)?;
        let mut last_words = None;
        for order in woken.orders {
            match order.as_str() {
                "renew" => lease.renew(),
                "heal" => last_words = Some(healed(undo(spec, &log))),
                "dismiss" => last_words = Some(Line::new().yes("dismissed")),
                _ => {
                    let refused = format!("no such order: {order}");
                    control.say(&Line::new().text("refused", &refused).end());
                }
            }
        }
        if let Some(last_words) = last_words {
            break last_words;
        }
    };
    control.end(&last_words.end());
    Ok(())
}

fn until_done(spec: &Spec, log: &File) -> Result<()> {
    let mut done = undo(spec, log);
    for _ in 1..TRIES_MAX {
        if done.is_ok() {
            break;
        }
        std::thread::sleep(RETRY_AFTER);
        done = undo(spec, log);
    }
    done
}

fn undo(spec: &Spec, log: &File) -> Result<()> {
    let (program, arguments) = spec
        .argv
        .split_first()
        .ok_or_else(|| Fail("no program is given after --".into()))?;
    let errors = log.try_clone().doing(|| format!("open {LOG}"))?;
    let mut child = Command::new(program)
        .args(arguments)
        // The guard's folder may be gone by now, with everything of its run.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .process_group(0)
        .spawn()
        .doing(|| format!("execute {}", program.display()))?;
    let deadline = Instant::now() + spec.within;
    let status = loop {
        if let Some(status) = child.try_wait().doing(|| "wait for the undo".into())? {
            break status;
        }
        if Instant::now() >= deadline {
            if let Some(group) = Pid::from_raw(child.id() as i32) {
                // Our child, not reaped: its number is its own.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            let within = spec.within.as_secs_f64();
            return Err(Fail(format!(
                "{} did not end within {within} s",
                program.display()
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    };
    if status.success() {
        return Ok(());
    }
    Err(Fail(format!(
        "{} ended with {status}{}",
        program.display(),
        complaint(log)
    )))
}

fn complaint(log: &File) -> String {
    let size = log.metadata().map_or(0, |meta| meta.len());
    let mut tail = vec![0; COMPLAINT_BYTES_MAX];
    let from = size.saturating_sub(COMPLAINT_BYTES_MAX as u64);
    let read = log.read_at(&mut tail, from).unwrap_or(0);
    match String::from_utf8_lossy(&tail[..read]).trim() {
        "" => String::new(),
        complaint => format!(": {complaint}"),
    }
}
