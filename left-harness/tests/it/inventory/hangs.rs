//! A host that stops answering in the middle of a run.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Inventory;
use crate::bench::{processes_of_run, wait_until};
use crate::ledger::run_of;

const LONG: &str = r#"
about = "A file that takes long."
seed  = 7
step = [
  { start = ["a", "b"] },
  { write = { on = "a", path = "big.bin", size = "256MiB" } },
  { settle = { within = "240s" } },
]
[link]
rate = "1MiB/s"
[expect]
trees = "identical"
"#;

/// A minute for the answer that does not come, and for each thing that is to be taken
/// away a few seconds.
const IN_TIME: Duration = Duration::from_secs(180);

#[test]
#[ignore = "takes minutes: a silent host is given a minute"]
fn a_host_that_hangs_on_the_way_is_given_up_in_time_and_its_leases_do_the_rest() {
    let Some(inventory) = Inventory::new() else {
        return;
    };
    inventory.adopt();
    inventory.bench.write("long.toml", LONG);
    let harness = inventory
        .command(&["run", "long.toml", "--out", "out"])
        .spawn()
        .expect("the harness starts");
    wait_until("the file is on its way", 400, || {
        inventory.bench.history().contains(r#""step":"3""#)
    });
    let run = run_of(&inventory.bench);
    inventory.b.signal(Signal::STOP);
    let begun = Instant::now();
    let ran = inventory
        .bench
        .ran(harness.wait_with_output().expect("it ends"));
    let took = begun.elapsed();
    eprintln!("{took:.1?}: {}", ran.all());
    // What hung with it is there again, for as long as the leases are.
    inventory.b.signal(Signal::CONT);
    assert_eq!(ran.code, 3, "{}", ran.all());
    assert!(took < IN_TIME, "{took:?}: {}", ran.all());
    let why = "lost the connection to host b while holding a process: no answer for 75 s";
    assert!(ran.all().contains(why), "{}", ran.all());
    wait_until("nothing is left", 15, || {
        processes_of_run(&run).is_empty() && inventory.left_on_hosts().is_empty()
    });
}
