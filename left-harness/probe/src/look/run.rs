//! `look run` and `end`: the processes that are attributable to a run.
//!
//! A program under test carries the run's id in its environment, and so does all that
//! it starts, wherever that goes. What is below a holder of the run belongs to it as
//! well. Probes of the run are told apart: they are the harness's own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::fail::{Doing, Result};
use crate::json::Line;
use crate::process;

/// The variable that names the run.
const VARIABLE: &str = "LEFT_HARNESS_RUN";
/// An environment may have some MiB; more than that is not read.
const ENVIRONMENT_BYTES_MAX: u64 = 8 << 20;
/// Read of a command line.
const COMMAND_BYTES_MAX: u64 = 64 << 10;
/// Shown of it.
const COMMAND_BYTES_SHOWN: usize = 300;
/// More processes than this are counted, but not shown.
const SHOWN_MAX: usize = 1000;
/// Even a fork bomb dies within this; a process in an uninterruptible wait does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// A look for those born meanwhile.
const ROUND: Duration = Duration::from_millis(10);

/// A process of the run.
struct Member {
    pid: i32,
    start_time: u64,
    command: Vec<u8>,
    /// It is a probe.
    is_ours: bool,
}

/// Tells every process of a run.
pub fn run(id: &str, mut out: impl Write) -> Result<()> {
    let members = members(id).doing(|| "list /proc".into())?;
    for member in members.iter().take(SHOWN_MAX) {
        say(&mut out, member.line(&process::listening_ports(member.pid)))?;
    }
    let end = Line::new()
        .yes("end")
        .number("entries", members.len() as u64);
    say(&mut out, end)
}

/// Kills what is not the harness's own, each by what names it for good, until nothing
/// of it is left; tells what it was.
pub fn end(id: &str, mut out: impl Write) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = Vec::new();
    let stuck = loop {
        let mut living = members(id).doing(|| "list /proc".into())?;
        living.retain(|member| !member.is_ours);
        if living.is_empty() || Instant::now() >= deadline {
            break living.len();
        }
        let mut fds = Vec::new();
        for member in &living {
            let name = (member.pid, member.start_time);
            if !told.contains(&name) && told.len() < SHOWN_MAX {
                told.push(name);
                say(&mut out, member.line(&process::listening_ports(member.pid)))?;
            }
            let fd = process::descriptor(member.pid, member.start_time);
            // One that is not ours to kill is counted as stuck in the end.
            let _ = process::signal(member.pid, member.start_time, fd.as_ref(), Signal::KILL);
            fds.extend(fd);
        }
        let mut waits: Vec<_> = fds
            .iter()
            .map(|fd| PollFd::new(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: ROUND.subsec_nanos().into(),
        };
        // Interrupted or not, the next round looks again.
        let _ = poll(&mut waits, Some(&timeout));
    };
    say(
        &mut out,
        Line::new().yes("end").number("stuck", stuck as u64),
    )
}

impl Member {
    fn line(&self, ports: &[u16]) -> Line {
        let words: Vec<_> = self
            .command
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        let command: String = words.join(" ").chars().take(COMMAND_BYTES_SHOWN).collect();
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        Line::new()
            .number("pid", self.pid)
            .number("start_time", self.start_time)
            .text("command", command.trim_end())
            .truth("ours", self.is_ours)
            .text("ports", &ports.join(","))
    }
}

fn members(id: &str) -> std::io::Result<Vec<Member>> {
    let own = std::process::id() as i32;
    let program = fs::metadata(crate::hold::SELF)?;
    let is_probe = |pid: i32| {
        fs::metadata(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| (exe.dev(), exe.ino()) == (program.dev(), program.ino()))
    };
    let variable = format!("{VARIABLE}={id}");
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        // The id is compared with what is read, and what is not ours to read is not ours.
        let command = read(pid, "cmdline", COMMAND_BYTES_MAX);
        let is_ours = contains(&command, id.as_bytes()) && is_probe(pid);
        let environment = read(pid, "environ", ENVIRONMENT_BYTES_MAX);
        let mut variables = environment.split(|byte| *byte == 0);
        if is_ours || variables.any(|one| one == variable.as_bytes()) {
            members.extend(Member::look(pid, command, is_ours));
        }
    }
    // Who has cleared its environment is still below its holder.
    let holders: Vec<_> = members.iter().filter(|member| member.is_ours).collect();
    let below: Vec<_> = holders
        .iter()
        .flat_map(|holder| process::descendants(holder.pid))
        .map(|(pid, _)| pid)
        .filter(|pid| *pid != own && members.iter().all(|member| member.pid != *pid))
        .collect();
    for pid in below {
        members.extend(Member::look(
            pid,
            read(pid, "cmdline", COMMAND_BYTES_MAX),
            is_probe(pid),
        ));
    }
    members.sort_unstable_by_key(|member| member.pid);
    members.dedup_by_key(|member| member.pid);
    Ok(members)
}

impl Member {
    fn look(pid: i32, command: Vec<u8>, is_ours: bool) -> Option<Self> {
        let stat = process::stat(pid).filter(|stat| stat.state != 'Z')?;
        Some(Self {
            pid,
            start_time: stat.start_time,
            command,
            is_ours,
        })
    }
}

fn read(pid: i32, what: &str, bytes_max: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // It may be gone, or not ours to read; what was read before an error counts.
    if let Ok(file) = File::open(format!("/proc/{pid}/{what}")) {
        let _ = file.take(bytes_max).read_to_end(&mut bytes);
    }
    bytes
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

fn say(out: &mut impl Write, line: Line) -> Result<()> {
    out.write_all(line.end().as_bytes())
        .and_then(|()| out.flush())
        .doing(|| "write the answer".into())
}
