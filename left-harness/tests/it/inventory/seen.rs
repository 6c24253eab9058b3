//! What a user sees of hosts before anything is run on them.

use super::Inventory;
use crate::bench::{Bench, scenarios};

#[test]
fn doctor_says_of_each_host_what_it_has_and_what_mends_the_rest() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    let before = inventory.says(&["doctor"]);
    assert_eq!(before.code, 3, "{}", before.all());
    for shown in [
        "local lab (this machine): works",
        "inventory lab, host a",
        "does not work",
        "MISSING  folder",
        "mend: `left-harness lab adopt --hosts hosts.toml`",
    ] {
        assert!(before.stdout.contains(shown), "{shown}: {}", before.all());
    }
    inventory.adopt();
    let after = inventory.says(&["doctor", "--json"]);
    assert_eq!(after.code, 0, "{}", after.all());
    let said: serde_json::Value = serde_json::from_str(&after.stdout).expect("it is JSON");
    let labs = said["labs"].as_array().expect("labs are a list");
    assert_eq!(labs.len(), 4, "{said}");
    for host in &labs[2..] {
        assert_eq!(host["works"], true, "{host}");
        let names: Vec<&str> = ["needed", "helpful"]
            .iter()
            .flat_map(|kind| host[kind].as_array().expect("a list"))
            .filter_map(|one| one["name"].as_str())
            .collect();
        for name in [
            "free space",
            "/proc",
            "architecture",
            "clock",
            "tc",
            "nft",
            "netem",
            "strace",
            "cgroup v2",
            "executes programs",
            "ordinary user",
            "folder",
        ] {
            assert!(names.contains(&name), "{name}: {names:?}");
        }
    }
    assert!(said["kept"][0]["path"].is_string(), "{said}");
}

#[test]
fn doctor_without_hosts_says_whether_the_local_lab_works_and_where_things_are() {
    let bench = Bench::new();
    let output = bench.command(&["doctor", "--lab-dir", "lab"]).output();
    let ran = bench.ran(output.expect("the harness starts"));
    assert_eq!(ran.code, 0, "{}", ran.all());
    for shown in [
        "local lab (this machine): works",
        "--hosts hosts.toml",
        "kept on this machine",
        "lab (nothing yet)",
    ] {
        assert!(ran.stdout.contains(shown), "{shown}: {}", ran.all());
    }
}

#[test]
fn list_says_for_each_scenario_and_lab_what_would_run_and_why_not() {
    let bench = Bench::new();
    let scenario = |more: &str| {
        format!(
            "about = \"x\"\nseed = 1\nstep = [{{ start = [\"a\", \"b\"] }}]\n{more}\n[expect]\ntrees = \"identical\"\n"
        )
    };
    bench.write("plain.toml", &scenario(""));
    bench.write("lossy.toml", &scenario("[link]\nloss = \"1%\""));
    bench.write(
        "small.toml",
        &scenario("[host.b]\nshare = { size = \"64MiB\" }"),
    );
    let left = std::fs::read_to_string(scenarios().join("suts/left.toml"));
    bench.write("suts/left.toml", &left.expect("it is there"));
    let ran = |args: &[&str]| {
        let output = bench.command(args).output();
        let ran = bench.ran(output.expect("the harness starts"));
        assert_eq!(ran.code, 0, "{}", ran.all());
        ran.stdout
    };
    let table = ran(&["list", ".", "--lab", "all"]);
    let line = |name: &str| {
        let line = table.lines().find(|line| line.contains(name));
        let words = line.unwrap_or_default().split("  ").map(str::trim);
        words
            .filter(|word| !word.is_empty())
            .skip(1)
            .collect::<Vec<_>>()
    };
    // Whether the lab in the middle comes up is this machine's affair.
    let outer = |name: &str| {
        let cells = line(name);
        assert_eq!(cells.len(), 3, "{table}");
        [cells[0], cells[2]]
    };
    assert_eq!(line("scenario"), ["local", "netns", "inventory"], "{table}");
    assert_eq!(outer("plain.toml"), ["runs", "runs"], "{table}");
    assert_eq!(outer("lossy.toml")[0], "skipped: 1", "{table}");
    assert!(
        table.contains("1  the local lab's link carries streams: it cannot lose packets"),
        "{table}"
    );
    assert!(
        table.contains("cannot limit the size of the share of b"),
        "{table}"
    );

    let json = ran(&["list", ".", "--lab", "all", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let lossy = &json["scenarios"][0]["labs"]["local"];
    assert_eq!(lossy["runs"], 0, "{json}");
    assert_eq!(
        lossy["skipped"][0]["reason"],
        "the local lab's link carries streams: it cannot lose packets"
    );
}

#[test]
fn list_with_hosts_says_what_keeps_everything_from_running_there() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    let smoke = scenarios().join("smoke.toml").display().to_string();
    let before = inventory.says(&["list", &smoke, "--lab", "all"]);
    assert_eq!(before.code, 0, "{}", before.all());
    assert!(before.stdout.contains("cannot: 1"), "{}", before.all());
    assert!(
        before.stdout.contains("was not given to the harness"),
        "{}",
        before.all()
    );
    inventory.adopt();
    let after = inventory.says(&["list", &smoke]);
    assert!(after.stdout.contains("runs"), "{}", after.all());
}

#[test]
fn a_shell_on_a_host_is_the_users_own_ssh() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    let shell = |args: &[&str]| {
        let mut all = vec!["lab", "shell", "b", "--hosts", "hosts.toml", "--"];
        all.extend(args);
        let output = inventory
            .bench
            .command(&all)
            .env_remove("SSH_AUTH_SOCK")
            .output();
        inventory.bench.ran(output.expect("the harness starts"))
    };
    let ran = shell(&["echo", "here", "$((6*7))"]);
    assert_eq!(
        (ran.code, ran.stdout.trim()),
        (0, "here 42"),
        "{}",
        ran.all()
    );
    assert_eq!(shell(&["exit", "7"]).code, 7, "the exit code is ssh's own");
}
