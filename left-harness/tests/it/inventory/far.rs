//! A host that is far away: every answer takes long, and a run is made all the same.

use std::time::{Duration, Instant};

use super::{FOLDER, Inventory};
use crate::far::far;
use crate::sshd::Sshd;

/// What such a run takes that has nothing to do with the way there.
const PATIENCE: Duration = Duration::from_secs(20);

/// It takes 60, of which a third is for the steps; twice as many were once asked one
/// after the other.
const TRIPS_MAX: u32 = 72;

/// `LEFT_HARNESS_ROUND_TRIP_MS` is how far away it is.
fn round_trip() -> Duration {
    let given = std::env::var("LEFT_HARNESS_ROUND_TRIP_MS");
    let ms = given.map_or(100, |ms| ms.parse().expect("a number of milliseconds"));
    Duration::from_millis(ms)
}

#[test]
fn a_run_on_a_host_that_is_far_away_passes_and_asks_no_more_than_it_must() {
    let (Some(a), Some(b)) = (Sshd::openssh("one"), Sshd::openssh("two")) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let port = runtime.block_on(far(b.port, round_trip() / 2));
    let inventory = Inventory::of(a, b);
    let b = &inventory.b;
    // Known under its own port; that it is reached by another one is the test's doing.
    let config = b
        .config_block(None)
        .replace(&format!("Port {}", b.port), &format!("Port {port}"))
        + &format!("  HostKeyAlias [127.0.0.1]:{}\n", b.port);
    inventory.bench.write("ssh_config", &config);
    let hosts = super::table("a", &inventory.a, "")
        + &format!(
            "[host.b]\nssh = {:?}\nconfig = \"ssh_config\"\nfolder = {:?}\nroot = true\n",
            b.name,
            b.home.join(FOLDER)
        );
    inventory.bench.write("hosts.toml", &hosts);
    inventory.adopt();
    // The programs are there, so that what is left is questions and answers.
    let ran = inventory.says(&["lab", "deploy"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let begun = Instant::now();
    let ran = inventory.run("smoke.toml");
    assert_eq!(ran.code, 0, "{}", ran.all());
    let took = begun.elapsed();
    eprintln!("{took:.1?} on a host {:?} away", round_trip());
    assert!(took < PATIENCE + TRIPS_MAX * round_trip(), "{}", ran.all());
}
