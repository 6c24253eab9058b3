//! Processes that people start in a lab, as this machine sees them.

/// Longer than any test.
const SLEEP: &str = "sleep 600 </dev/null >/dev/null 2>&1";

/// Starts one process in the background and one in a session of its own, from a folder
/// below the host's, and says their numbers on the host.
pub fn start_two() -> String {
    format!("mkdir -p sub; cd sub; {SLEEP} & echo $!; setsid {SLEEP} & echo $!; sleep 0.2")
}

/// The processes with these numbers on a host, as this machine numbers them.
pub fn here(pids: &str, lab: &str) -> Vec<u32> {
    let pids: Vec<u32> = pids
        .lines()
        .map(|pid| pid.parse().expect("a number"))
        .collect();
    if lab == "local" {
        return pids;
    }
    // In a process namespace below: the last number of `NSpid` is the host's own.
    let entries = std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten();
    let all = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let numbers: Vec<&str> = numbers.unwrap_or_default().split_whitespace().collect();
        let inner = numbers.last().and_then(|last| last.parse().ok());
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        numbers.len() > 1
            && command == b"sleep\x00600\x00"
            && inner.is_some_and(|inner: u32| pids.contains(&inner))
    })
    .collect()
}

pub fn runs(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x00600\x00")
}

/// The processes that guard a lab.
pub fn guards(lab: &str) -> Vec<u32> {
    let wanted = format!("lab-guard\0{lab}\0");
    let entries = std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let guards: Vec<u32> = pids
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.ends_with(wanted.as_bytes())
        })
        .collect();
    assert_eq!(guards.len(), 1, "one guard a lab");
    guards
}
