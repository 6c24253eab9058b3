//! Adapters as people write them, right and wrong.

use super::*;

fn places() -> Places {
    Places {
        bin: "/run/x/left".into(),
        share: "/run/x/share".into(),
        state: "/run/x/state".into(),
        uid: "1000".into(),
        listen: "127.0.0.2:21000".parse().expect("an address"),
        peer: "[::1]:21001".parse().expect("an address"),
    }
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = Adapter::parse(Path::new("x.toml"), text).expect_err("a mistake");
    mistakes
        .list
        .into_iter()
        .map(|mistake| mistake.message)
        .collect()
}

#[test]
fn the_adapter_of_the_workspace_starts_its_program() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/suts");
    let left = Adapter::load(&dir, "left").unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(
        left.argv(Seat::First, &places(), "probe").join(" "),
        "/run/x/left --ip [::1]:21001 --listen 127.0.0.2:21000 --share /run/x/share --insecure \
         --events /run/x/state/events.jsonl"
    );
    assert_eq!(left.logs(&places()), ["/run/x/state/events.jsonl"]);
    assert_eq!(
        left.source,
        Source::Built(Build {
            package: "left".into(),
            binary: "left".into()
        })
    );
    assert_eq!((left.ready, left.stop.signal), (Ready::Listening, "TERM"));
    assert_eq!(
        (left.private, left.parts),
        (vec![".left".to_owned()], vec![".left/parts/*".to_owned()])
    );
}

#[test]
fn a_missing_adapter_names_those_that_exist() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/suts");
    for name in ["lfet", "../suts/left", ""] {
        let mistakes = Adapter::load(&dir, name)
            .expect_err("no such adapter")
            .to_string();
        assert!(
            mistakes.contains(&format!("no adapter named `{name}`")),
            "{mistakes}"
        );
        assert!(mistakes.contains("known: left"), "{mistakes}");
    }
}

#[test]
fn all_mistakes_of_an_adapter_are_told_at_once() {
    let text = r#"
about = "x"
[start]
argv = ["{bin}", "{shar}", "{"]
ready = "soon"
[stop]
signal = "SIGTERM"
within = 5
[share]
private = [".left/x"]
parts = ["../x"]
[log]
panik = []
[promise]
conflicts = "none"
[deploy]
files = ["x"]
"#;
    let expected = [
        "unknown placeholder `{shar}`",
        "a `{` without its `}`; `{{` stands for the brace itself",
        "unknown word `soon`",
        "unknown word `SIGTERM`",
        "must be a duration such as \"60s\", not a number",
        "`.left/x` is not a name directly in the share",
        "the path `../x` leads out of the share",
        "unknown key `panik` in [log]",
        "unknown word `none`",
        "unknown key `deploy` in the adapter",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn what_a_start_needs_is_missed() {
    assert_eq!(
        mistakes("about = \"x\""),
        ["the adapter needs a [start] or a [round]"]
    );
    let text = "about = \"x\"\n[start]\nargv = [\"{bin}\"]\nready = \"listening\"";
    let expected = [
        "`ready = \"listening\"` needs `{listen}` or `{listen_port}` in `argv` or in one of [files]",
        "`{bin}` needs a [build] or a [find] that says what it is",
    ];
    assert_eq!(mistakes(text), expected);
    assert_eq!(
        mistakes("about = \"x\"\n[start]\nargv = []"),
        ["is no command: a list of the program and its arguments"]
    );
}

#[test]
fn placeholders_of_addresses_come_apart() {
    let text = "about = \"x\"\n[start]\nargv = [\"sync\", \"{peer_ip}/{peer_port}\", \"-l={listen_ip},{listen_port}\"]";
    let adapter = Adapter::parse(Path::new("x.toml"), text).expect("an adapter");
    assert_eq!(
        adapter.argv(Seat::Second, &places(), "probe"),
        ["sync", "::1/21001", "-l=127.0.0.2,21000"]
    );
}

const BY_ROUNDS: &str = r#"
about = "x"
[find]
program = ["tool", "/opt/tool"]
install = "apt-get install tool"
[files]
"tool.json" = """{{"listen": "{listen}", "as": {uid}}"""
[start]
on = "second"
argv = ["{bin}", "-c", "{state}/tool.json"]
ready = "listening"
[round]
on = "first"
argv = ["{bin}", "{share}/", "{peer}"]
every = "3s"
codes = [0, 7]
[stop]
codes = [20]
[quiet]
bytes = 100
per_entry = 5
[needs]
network = "own"
[promise]
ways = "first"
resume = "if-receiver-lives"
tidy = "never"
ignores = ["delete", "rename"]
"#;

#[test]
fn a_program_that_works_by_rounds_is_one_command_at_each_seat() {
    let adapter = Adapter::parse(Path::new("x.toml"), BY_ROUNDS).expect("an adapter");
    let at = |seat| adapter.argv(seat, &places(), "/bin/probe").join(" ");
    assert_eq!(
        at(Seat::First),
        "/bin/probe supervise --every-ms 3000 --code 0 --code 7 --round /run/x/left --round /run/x/share/ \
         --round [::1]:21001 --"
    );
    assert_eq!(at(Seat::Second), "/run/x/left -c /run/x/state/tool.json");
    assert!(adapter.listens(Seat::Second) && !adapter.listens(Seat::First));
    assert!(adapter.asks_for_uid() && adapter.works_by_rounds());
    assert_eq!(
        adapter.files(&places()),
        Ok(vec![(
            "tool.json",
            "{\"listen\": \"127.0.0.2:21000\", \"as\": 1000}".to_owned()
        )])
    );
}

#[test]
fn what_an_adapter_says_of_its_program_is_known() {
    let adapter = Adapter::parse(Path::new("x.toml"), BY_ROUNDS).expect("an adapter");
    let find = Find {
        names: vec!["tool".into(), "/opt/tool".into()],
        install: Some("apt-get install tool".into()),
    };
    assert_eq!(adapter.source, Source::Found(find));
    assert_eq!(adapter.stop.codes, [20]);
    assert!(adapter.needs_own_network);
    // The interval of its rounds, where nothing else is said.
    assert_eq!(adapter.quiet.every, Some(Duration::from_secs(3)));
    let promise = Promise {
        ways: Ways::First,
        resume: After::Sender,
        tidy: After::Never,
        ignores: vec!["delete", "rename"],
        conflicts: None,
    };
    assert_eq!(adapter.promise, promise);
}

#[test]
fn all_that_an_adapter_of_rounds_can_get_wrong_is_told() {
    let text = r#"
about = "x"
[build]
package = "x"
[find]
program = ["-rf", "a b", "../x", "/usr/../x", "fine"]
[files]
"../etc/passwd" = "x"
"tool.json" = "{\"a\": 1}"
[round]
argv = ["{bin}"]
every = "1ms"
codes = [0, 256, -1]
on = "third"
[quiet]
per_entry = "x"
[needs]
network = "none"
[promise]
resume = "yes"
ignores = ["remove"]
"#;
    let expected = [
        "`{bin}` is either built or found: [build] or [find], not both",
        "`-rf` is neither the name of a program nor its full path",
        "`a b` is neither the name of a program nor its full path",
        "`../x` is neither the name of a program nor its full path",
        "`/usr/../x` is neither the name of a program nor its full path",
        "`../etc/passwd` is not a plain name for a file",
        "`{\"a\": 1}` is no placeholder; `{{` stands for the brace itself",
        "must be at least 10ms",
        "must be a number from 0 to 255",
        "must be a number from 0 to 255",
        "unknown word `third`",
        "[quiet] needs `bytes`",
        "the size `x` does not begin with a number",
        "unknown word `none`",
        "unknown word `yes`",
        "unknown word `remove`",
    ];
    assert_eq!(mistakes(text), expected);
}

#[test]
fn something_must_run_on_both_hosts() {
    let text = "about = \"x\"\n[round]\nargv = [\"x\"]\nevery = \"1s\"\non = \"first\"";
    assert_eq!(mistakes(text), ["nothing runs on the second host"]);
    let found = "about = \"x\"\n[find]\nprogram = []\n[start]\nargv = [\"x\"]";
    assert_eq!(mistakes(found), ["`program` names nothing"]);
}

#[test]
fn a_path_with_a_line_break_adds_no_line_to_a_file() {
    let text = "about = \"x\"\n[files]\n\"a.conf\" = \"path = {share}\"\n[start]\nargv = [\"x\"]";
    let adapter = Adapter::parse(Path::new("x.toml"), text).expect("an adapter");
    let mut places = places();
    assert!(adapter.files(&places).is_ok());
    places.share = "/x\nread only = no".into();
    let why = adapter.files(&places).expect_err("refused");
    assert!(why.starts_with("a.conf: ") && !why.contains('\n'), "{why}");
}

#[test]
fn every_adapter_of_the_workspace_is_good() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/suts");
    let names = names(&dir);
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        Adapter::load(&dir, &name).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
}
