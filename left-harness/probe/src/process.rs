//! What /proc knows of a process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The kernel's unit for times in /proc, the same on every architecture we run on.
const TICK_MS: u64 = 10;

/// From /proc/PID/stat; readable until the process is reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Running, sleeping, or `Z` for one that has ended.
    pub state: char,
    /// Its parent.
    pub parent: i32,
    /// Together with the pid this names a process for good.
    pub start_time: u64,
    /// Time spent in its own code.
    pub user_ms: u64,
    /// Time the kernel spent for it.
    pub system_ms: u64,
}

/// Looks at a process; `None` when there is none.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&read_small(&format!("/proc/{pid}/stat"))?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The second field is the program's name in parentheses and may hold anything, also parentheses.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    // Starts with field 3.
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        user_ms: number(14)? * TICK_MS,
        system_ms: number(15)? * TICK_MS,
        start_time: number(22)?,
    })
}

/// The most memory it had so far, in KiB; `None` once it has ended.
pub fn peak_kib(pid: i32) -> Option<u64> {
    let status = String::from_utf8(read_small(&format!("/proc/{pid}/status"))?).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A file of /proc in one go: growing a buffer piece by piece asks the kernel eight times.
fn read_small(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(8192);
    fs::File::open(path)
        .ok()?
        .take(8192)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

/// Children of all threads of a process; `None` where the kernel does not list them.
fn children(pid: i32) -> Option<Vec<i32>> {
    let mut all = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => all.extend(
                list.split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<i32>().ok()),
            ),
            Err(_) if task.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(all)
}

/// Every process below one, at any depth, that has not ended, with what names it for good.
pub fn descendants(of: i32) -> Vec<(i32, u64)> {
    let parents = if children(of).is_some() {
        None
    } else {
        Some(all_parents())
    };
    let below = |pid: i32| match &parents {
        None => children(pid).unwrap_or_default(),
        Some(all) => all
            .iter()
            .filter(|(_, parent)| *parent == pid)
            .map(|(child, _)| *child)
            .collect(),
    };
    let mut found = Vec::new();
    let mut seen = HashSet::from([of]);
    let mut todo = below(of);
    while let Some(pid) = todo.pop() {
        if !seen.insert(pid) {
            continue;
        }
        todo.extend(below(pid));
        if let Some(stat) = stat(pid)
            && stat.state != 'Z'
        {
            found.push((pid, stat.start_time));
        }
    }
    found
}

/// Direct children that have ended and wait to be reaped.
pub fn ended_children(of: i32) -> Vec<i32> {
    let all = children(of).unwrap_or_else(|| {
        all_parents()
            .into_iter()
            .filter(|(_, parent)| *parent == of)
            .map(|(child, _)| child)
            .collect()
    });
    all.into_iter()
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.state == 'Z'))
        .collect()
}

fn all_parents() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect()
}

/// A descriptor of a process, if the kernel has them and it is still the same process.
pub fn descriptor(pid: i32, start_time: u64) -> Option<std::os::fd::OwnedFd> {
    let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after opening: from here on the descriptor means this process and no other.
    (stat(pid)?.start_time == start_time).then_some(fd)
}

/// Sends a signal to exactly this process; nothing happens when it is gone.
pub fn signal(
    pid: i32,
    start_time: u64,
    fd: Option<&std::os::fd::OwnedFd>,
    signal: Signal,
) -> rustix::io::Result<()> {
    match fd {
        Some(fd) => pidfd_send_signal(fd, signal),
        None => match (stat(pid), Pid::from_raw(pid)) {
            (Some(stat), Some(pid)) if stat.start_time == start_time => {
                rustix::process::kill_process(pid, signal)
            }
            _ => Ok(()),
        },
    }
}

/// One of the processes listens on the TCP port.
pub fn listens(pids: &[i32], port: u16) -> bool {
    let Some(first) = pids.first() else {
        return false;
    };
    let mut sockets = listening(*first);
    sockets.retain(|_, listening| *listening == port);
    !sockets.is_empty() && pids.iter().any(|pid| holds_any(*pid, &sockets).is_some())
}

/// The TCP ports that a process listens on, sorted.
pub fn listening_ports(pid: i32) -> Vec<u16> {
    let mut sockets = listening(pid);
    let mut ports = Vec::new();
    while let Some((socket, port)) = holds_any(pid, &sockets) {
        sockets.remove(&socket);
        ports.push(port);
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What is listened on in the network of a process, with the ports.
fn listening(pid: i32) -> HashMap<String, u16> {
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let mut sockets = HashMap::new();
    for table in tables.iter().flatten() {
        sockets.extend(table.lines().filter_map(listening_inode));
    }
    sockets
}

fn listening_inode(line: &str) -> Option<(String, u16)> {
    const LISTEN: &str = "0A";
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
    let socket = format!("socket:[{}]", fields.get(9)?);
    (*fields.get(3)? == LISTEN).then_some((socket, port))
}

fn holds_any(pid: i32, sockets: &HashMap<String, u16>) -> Option<(String, u16)> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|fd| fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned))
        .find_map(|to| sockets.get(&to).map(|port| (to.clone(), *port)))
}

/// The signals people send, by name.
const SIGNALS: [(&str, Signal); 24] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("CHLD", Signal::CHILD),
    ("CONT", Signal::CONT),
    ("STOP", Signal::STOP),
    ("TSTP", Signal::TSTP),
    ("TTIN", Signal::TTIN),
    ("TTOU", Signal::TTOU),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
    ("SYS", Signal::SYS),
];

/// `TERM` or `SIGTERM`.
pub fn signal_by_name(name: &str) -> Option<Signal> {
    let name = name.strip_prefix("SIG").unwrap_or(name);
    SIGNALS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, signal)| *signal)
}

/// `KILL` for 9; the number itself for one without a name.
pub fn signal_name(number: i32) -> String {
    let named = SIGNALS.iter().find(|(_, signal)| signal.as_raw() == number);
    named.map_or_else(|| number.to_string(), |(name, _)| (*name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_named_like_the_table_itself() {
        let text = b"42 (a) S 1 (b) Z 7 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 1 0 98765 1 2 3";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_time), ('Z', 7, 98765));
        assert_eq!((stat.user_ms, stat.system_ms), (1500, 250));
    }

    #[test]
    fn only_listening_sockets_count() {
        let listen = "   0: 0100007F:5208 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 12345 1 0";
        let found = listening_inode(listen);
        assert_eq!(found, Some(("socket:[12345]".into(), 21000)));
        assert_eq!(listening_inode(&listen.replace(" 0A ", " 01 ")), None);
    }

    #[test]
    fn we_know_ourselves() {
        let own = std::process::id() as i32;
        assert!(peak_kib(own).unwrap() > 0);
        assert_ne!(stat(own).unwrap().start_time, 0);
        assert!(
            descriptor(own, 1).is_none(),
            "another start time is another process"
        );
    }

    #[test]
    fn signals_have_names_both_ways() {
        assert_eq!(
            signal_name(signal_by_name("SIGTERM").unwrap().as_raw()),
            "TERM"
        );
        assert_eq!(signal_name(64), "64");
        assert!(signal_by_name("NOPE").is_none());
    }
}
