//! From an adapter's file to an [`Adapter`]: every mistake at once, with its place.

use std::path::Path;
use std::time::Duration;

use super::promise::{After, CHANGES, Conflicts, Promise, Ways};
use super::template::{Place, Template};
use super::{Adapter, Build, Find, Quiet, Ready, Round, Seat, Seats, Source, Start, Stop};
use crate::scenario::error::{Span, tame};
use crate::scenario::path::path_trouble;
use crate::scenario::raw::{Fields, Node, Reader};

/// Asked of the system this often, a program does nothing else.
const EVERY_MIN: Duration = Duration::from_millis(10);

pub(super) fn adapter<'d>(file: &Path, reader: &Reader<'d>, root: Node<'_, 'd>) -> Option<Adapter> {
    let mut fields = root.fields("the adapter", Span { start: 0, end: 0 })?;
    let about = fields.must("about").and_then(Node::text);
    let source = source(reader, &mut fields);
    let files = fields
        .may("files")
        .map_or(Some(Vec::new()), |node| files(reader, node));
    let round = table(&mut fields, "round", |fields| {
        Some(Some(round(reader, fields)?))
    });
    let round = round.unwrap_or(Some(None));
    if !fields.has("start") && !fields.has("round") {
        let at = fields.place("start");
        reader.missing(at, "the adapter needs a [start] or a [round]", None);
    }
    let start = table(&mut fields, "start", |fields| {
        let (start, ready) = start(reader, fields)?;
        Some((Some(start), ready))
    });
    let start = start.unwrap_or(Some((None, Ready::Running)));
    let stop = table(&mut fields, "stop", stop).unwrap_or_else(|| Some(default_stop()));
    let share = table(&mut fields, "share", |fields| share(reader, fields))
        .unwrap_or(Some(Default::default()));
    let quiet = table(&mut fields, "quiet", quiet).unwrap_or(Some(Quiet::default()));
    let log =
        table(&mut fields, "log", |fields| log(reader, fields)).unwrap_or(Some(Default::default()));
    let needs = table(&mut fields, "needs", |fields| {
        fields.must("network")?.word(&[("own", true)])
    });
    let promise = table(&mut fields, "promise", promise).unwrap_or(Some(Promise::default()));
    let (start_at, round_at) = (fields.place("start"), fields.place("round"));
    fields.finish();

    let ((start, ready), round, mut quiet) = (start?, round?, quiet?);
    if let Some(round) = &round {
        quiet.every = quiet.every.or(Some(round.every));
    }
    let (private, parts) = share?;
    let (logs, panics) = log?;
    let adapter = Adapter {
        name: file.file_stem()?.to_string_lossy().into_owned(),
        about: about?.to_owned(),
        source: source?,
        ready,
        stop: stop?,
        private,
        parts,
        quiet,
        panics,
        needs_own_network: needs.unwrap_or(Some(false))?,
        promise: promise?,
        start,
        round,
        files: files?,
        logs,
    };
    fits_together(reader, &adapter, start_at, round_at);
    Some(adapter)
}

/// What no table can see by itself.
fn fits_together(reader: &Reader<'_>, adapter: &Adapter, start_at: Span, round_at: Span) {
    let at = match adapter.start {
        Some(_) => start_at,
        None => round_at,
    };
    if adapter.source == Source::Named
        && adapter
            .templates()
            .any(|template| template.names(Place::Bin))
    {
        let message = "`{bin}` needs a [build] or a [find] that says what it is";
        reader.missing(at, message, None);
    }
    let listens =
        |template: &Template| template.names(Place::Listen) || template.names(Place::ListenPort);
    let waits = adapter.ready == Ready::Listening;
    if waits && !adapter.templates().any(listens) {
        let message = "`ready = \"listening\"` needs `{listen}` or `{listen_port}` in `argv` or in one of [files]";
        reader.missing(start_at, message, None);
    }
    for (seat, name) in [(Seat::First, "first"), (Seat::Second, "second")] {
        let start = adapter.start.as_ref().map(|start| start.on);
        let round = adapter.round.as_ref().map(|round| round.on);
        let mut ran = start.into_iter().chain(round).peekable();
        if ran.peek().is_some() && !ran.any(|on| on.has(seat)) {
            reader.wrong(at, format!("nothing runs on the {name} host"));
        }
    }
}

/// `None`: the table is not there; `Some(None)`: it is wrong.
fn table<'r, 'd, T>(
    fields: &mut Fields<'r, 'd>,
    key: &'static str,
    read: impl FnOnce(&mut Fields<'r, 'd>) -> Option<T>,
) -> Option<Option<T>> {
    let node = fields.may(key)?;
    let Some(mut inner) = node.fields(format!("[{key}]"), fields.place(key)) else {
        return Some(None);
    };
    let value = read(&mut inner);
    inner.finish();
    Some(value)
}

fn source(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Source> {
    let built = table(fields, "build", |fields| {
        let package = fields.must("package").and_then(Node::text);
        let binary = fields.may("binary").map_or(package, Node::text);
        Some(Source::Built(Build {
            package: package?.to_owned(),
            binary: binary?.to_owned(),
        }))
    });
    let found = table(fields, "find", |fields| find(reader, fields));
    match (built, found) {
        (None, None) => Some(Source::Named),
        (Some(source), None) | (None, Some(source)) => source,
        (Some(_), Some(_)) => {
            let message = "`{bin}` is either built or found: [build] or [find], not both";
            reader.wrong(fields.place("find"), message);
            None
        }
    }
}

fn find(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Source> {
    let at = fields.place("program");
    let nodes = fields.must("program").and_then(Node::one_or_list);
    let names = nodes.and_then(|nodes| {
        if nodes.is_empty() {
            reader.wrong(at, "`program` names nothing");
        }
        let names: Vec<String> = nodes
            .iter()
            .filter_map(|node| program_name(reader, *node))
            .collect();
        (names.len() == nodes.len()).then_some(names)
    });
    let install = fields
        .may("install")
        .map_or(Some(None), |node| node.text().map(|text| Some(tame(text))));
    Some(Source::Found(Find {
        names: names?,
        install: install?,
    }))
}

/// A plain name, or a full path.
fn program_name(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<String> {
    let name = node.text()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let is_name = !name.is_empty() && !name.starts_with(['-', '.']) && name.chars().all(plain);
    let is_path = name
        .strip_prefix('/')
        .is_some_and(|path| path_trouble(path).is_none());
    if !is_name && !is_path {
        let message = format!(
            "`{}` is neither the name of a program nor its full path",
            tame(name)
        );
        reader.wrong(node.span, message);
        return None;
    }
    Some(name.to_owned())
}

fn files(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Vec<(String, Template)>> {
    let entries = node.entries("a table of names and texts")?;
    let mut files = Vec::new();
    for entry in &entries {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
        if entry.key.starts_with('.') || !entry.key.chars().all(plain) {
            let message = format!("`{}` is not a plain name for a file", tame(entry.key));
            reader.wrong(entry.at, message);
            continue;
        }
        if let Some(text) = entry.value.and_then(|node| Template::read(reader, node)) {
            files.push((entry.key.to_owned(), text));
        }
    }
    (files.len() == entries.len()).then_some(files)
}

fn argv(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Vec<Template>> {
    let node = fields.must("argv")?;
    let argv = Template::read_all(reader, node)?;
    if argv.is_empty() {
        let message = "is no command: a list of the program and its arguments";
        reader.wrong(node.span, message);
    }
    Some(argv)
}

fn on(fields: &mut Fields<'_, '_>) -> Option<Seats> {
    let words = [
        ("both", Seats::Both),
        ("first", Seats::Only(Seat::First)),
        ("second", Seats::Only(Seat::Second)),
    ];
    fields
        .may("on")
        .map_or(Some(Seats::Both), |node| node.word(&words))
}

fn start(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Start, Ready)> {
    let argv = argv(reader, fields);
    let on = on(fields);
    let ready = fields.may("ready").map_or(Some(Ready::Running), |node| {
        node.word(&[("listening", Ready::Listening)])
    });
    let start = Start {
        argv: argv?,
        on: on?,
    };
    Some((start, ready?))
}

fn round(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<Round> {
    let argv = argv(reader, fields);
    let on = on(fields);
    let every = fields.must("every").and_then(|node| interval(reader, node));
    let codes = codes(fields);
    Some(Round {
        argv: argv?,
        on: on?,
        every: every?,
        codes: codes?,
    })
}

fn interval(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Duration> {
    let every = node.duration()?;
    if every < EVERY_MIN {
        let least = EVERY_MIN.as_millis();
        reader.wrong(node.span, format!("must be at least {least}ms"));
        return None;
    }
    Some(every)
}

/// Exit codes that are no failure; 0 where nothing is said.
fn codes(fields: &mut Fields<'_, '_>) -> Option<Vec<u8>> {
    let Some(node) = fields.may("codes") else {
        return Some(vec![0]);
    };
    let nodes = node.list("a list of exit codes")?;
    let codes: Vec<u8> = nodes
        .iter()
        .filter_map(|node| node.count(0, u64::from(u8::MAX)))
        .filter_map(|code| u8::try_from(code).ok())
        .collect();
    (codes.len() == nodes.len()).then_some(codes)
}

/// What most programs understand, and time enough for a clean end.
fn default_stop() -> Stop {
    Stop {
        signal: "TERM",
        within: Duration::from_secs(5),
        codes: vec![0],
    }
}

fn stop(fields: &mut Fields<'_, '_>) -> Option<Stop> {
    let signals = [
        ("TERM", "TERM"),
        ("INT", "INT"),
        ("HUP", "HUP"),
        ("QUIT", "QUIT"),
        ("KILL", "KILL"),
    ];
    let default = default_stop();
    let signal = fields
        .may("signal")
        .map_or(Some(default.signal), |node| node.word(&signals));
    let within = fields
        .may("within")
        .map_or(Some(default.within), Node::duration);
    let codes = codes(fields);
    Some(Stop {
        signal: signal?,
        within: within?,
        codes: codes?,
    })
}

fn share(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Vec<String>, Vec<String>)> {
    let private = inside(reader, fields, "private");
    let parts = inside(reader, fields, "parts");
    if let Some(node) = fields.may("private") {
        for name in node.texts().unwrap_or_default() {
            if name.contains('/') {
                reader.wrong(
                    node.span,
                    format!("`{}` is not a name directly in the share", tame(name)),
                );
            }
        }
    }
    Some((private?, parts?))
}

/// Paths or globs inside the share.
fn inside(
    reader: &Reader<'_>,
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Option<Vec<String>> {
    let Some(node) = fields.may(key) else {
        return Some(Vec::new());
    };
    let texts = node.texts()?;
    for text in &texts {
        if let Some(trouble) = path_trouble(text) {
            reader.wrong(node.span, format!("the path `{}` {trouble}", tame(text)));
        }
    }
    Some(texts.into_iter().map(str::to_owned).collect())
}

fn quiet(fields: &mut Fields<'_, '_>) -> Option<Quiet> {
    let bytes = fields.must("bytes").and_then(Node::size);
    let per_entry = fields.may("per_entry").map_or(Some(0), Node::size);
    let every = fields
        .may("every")
        .map_or(Some(None), |node| node.duration().map(Some));
    Some(Quiet {
        bytes: bytes?,
        bytes_per_entry: per_entry?,
        every: every?,
    })
}

fn log(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Vec<Template>, Vec<String>)> {
    let fetch = fields
        .may("fetch")
        .map_or(Some(Vec::new()), |node| Template::read_all(reader, node));
    let panic = fields.may("panic").map_or(Some(Vec::new()), Node::texts);
    if panic.as_ref().is_some_and(|texts| texts.contains(&"")) {
        reader.wrong(fields.place("panic"), "an empty text is in every log");
    }
    Some((fetch?, panic?.into_iter().map(str::to_owned).collect()))
}

fn promise(fields: &mut Fields<'_, '_>) -> Option<Promise> {
    let kills = [
        ("always", After::Any),
        ("if-receiver-lives", After::Sender),
        ("never", After::Never),
    ];
    let after =
        |node: Option<Node<'_, '_>>| node.map_or(Some(After::Any), |node| node.word(&kills));
    let ways = fields.may("ways").map_or(Some(Ways::Both), |node| {
        node.word(&[("both", Ways::Both), ("first", Ways::First)])
    });
    let resume = after(fields.may("resume"));
    let tidy = after(fields.may("tidy"));
    let ignores = fields.may("ignores").map_or(Some(Vec::new()), |node| {
        let words: Vec<(&str, &'static str)> = CHANGES.iter().map(|word| (*word, *word)).collect();
        let nodes = node.list("a list of steps")?;
        let ignored: Vec<&'static str> =
            nodes.iter().filter_map(|node| node.word(&words)).collect();
        (ignored.len() == nodes.len()).then_some(ignored)
    });
    let conflicts = fields.may("conflicts").map_or(Some(None), |node| {
        let words = [
            ("copies", Conflicts::Copies),
            ("newest", Conflicts::Newest),
            ("untouched", Conflicts::Untouched),
        ];
        node.word(&words).map(Some)
    });
    Some(Promise {
        ways: ways?,
        resume: resume?,
        tidy: tidy?,
        ignores: ignores?,
        conflicts: conflicts?,
    })
}
