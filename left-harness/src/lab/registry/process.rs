//! A process, named for good.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// SIGKILL is a matter of milliseconds, unless the kernel has hung.
const DEATH_DEADLINE: Duration = Duration::from_secs(5);

/// Pids are used again; together with the start time and the boot they are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// In ticks after the boot.
    pub start_time: u64,
    /// The kernel's id of the boot.
    pub boot: String,
}

impl Process {
    /// The process that has this number now, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: start_time(pid)?,
            boot: boot()?,
        })
    }

    /// Whether it has not ended. One that is dead but not yet reaped has.
    pub fn is_alive(&self) -> bool {
        boot().is_some_and(|boot| boot == self.boot)
            && start_time(self.pid) == Some(self.start_time)
    }

    /// Kills exactly this process and waits until it is dead; `false` if it was already.
    ///
    /// # Errors
    /// If it may not be killed, or does not die.
    pub fn kill(&self) -> Result<bool> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| self.is_alive()) else {
            return Ok(false);
        };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(false);
        };
        // The number may have changed hands before it was opened, but not since.
        if !self.is_alive() {
            return Ok(false);
        }
        pidfd_send_signal(&descriptor, Signal::KILL)
            .with_context(|| format!("cannot kill process {}", self.pid))?;
        let deadline = Instant::now() + DEATH_DEADLINE;
        while self.is_alive() {
            if Instant::now() > deadline {
                bail!(
                    "process {} does not die of its SIGKILL within {} s",
                    self.pid,
                    DEATH_DEADLINE.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }
}

/// Field 22 of /proc/PID/stat; nothing for a process that has ended.
fn start_time(pid: u32) -> Option<u64> {
    parse_start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_read_whatever_the_program_is_called() {
        let stat = "7 (a) Z (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9\n";
        assert_eq!(parse_start_time(stat), Some(4711));
        assert_eq!(parse_start_time(&stat.replace(") S", ") Z")), None);
        assert_eq!(parse_start_time("7 (a"), None);
    }

    #[test]
    fn a_process_with_a_number_used_again_is_not_killed() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep is there");
        let real = Process::of(child.id()).expect("it runs");
        let former = Process {
            start_time: real.start_time - 1,
            ..real.clone()
        };
        assert!(!former.is_alive());
        assert!(!former.kill().expect("it is gone"));
        assert!(real.is_alive());
        assert!(real.kill().expect("it may be killed"));
        assert!(!real.is_alive(), "also before it is reaped");
        child.wait().expect("it ended");
    }
}
