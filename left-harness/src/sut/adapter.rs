//! A program under test as data: `scenarios/suts/NAME.toml` says what to build and
//! deploy, how it is started and stopped, which names in the share are its own, and
//! what it promises. Nothing else in the harness knows one program from another.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::scenario::error::{Mistakes, Span, known, tame};
use crate::scenario::path::path_trouble;
use crate::scenario::raw::{self, Fields, Node, Reader};

/// A program under test.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// `left`, from the file's name.
    pub name: String,
    /// One sentence for people.
    pub about: String,
    /// What is built for the hosts; `None` for a program that is there already.
    pub build: Option<Build>,
    /// When a started program counts as ready.
    pub ready: Ready,
    /// How it is asked to end.
    pub stop: Stop,
    /// Names directly in the share that are the program's own and never compared.
    pub private: Vec<String>,
    /// Globs, from the share on, of the partial files it leaves while it works.
    pub parts: Vec<String>,
    /// What it may send in each quiet window to keep its connection alive.
    pub quiet_bytes: u64,
    /// Texts in its log that mean that it broke, whatever else is right.
    pub panics: Vec<String>,
    /// What it promises about a file that both sides changed; `None`: nothing.
    pub conflicts: Option<Conflicts>,
    argv: Vec<Template>,
    logs: Vec<Template>,
}

/// A binary of this workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The cargo package.
    pub package: String,
    /// Its binary.
    pub binary: String,
}

/// When a started program counts as ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// As soon as it runs.
    Running,
    /// When it listens on `{listen}`.
    Listening,
}

/// How a program is asked to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// `TERM`
    pub signal: &'static str,
    /// How long it may take.
    pub within: Duration,
}

/// What becomes of a file that both sides changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflicts {
    /// Both versions survive, one of them under a name of its own.
    Copies,
    /// The later one survives.
    Newest,
    /// Both stay as they are until a user decides.
    Untouched,
}

/// Where things are on one host, for the placeholders of an adapter.
#[derive(Debug, Clone)]
pub struct Places {
    /// `{bin}`: the deployed program.
    pub bin: String,
    /// `{share}`: the directory that is synchronised.
    pub share: String,
    /// `{state}`: a folder outside the share for whatever the program writes.
    pub state: String,
    /// `{listen}`, `{listen_ip}`, `{listen_port}`: where the program listens.
    pub listen: SocketAddr,
    /// `{peer}`, `{peer_ip}`, `{peer_port}`: where it finds the other side.
    pub peer: SocketAddr,
}

impl Adapter {
    /// Reads `dir/NAME.toml`.
    pub fn load(dir: &Path, name: &str) -> Result<Self, Mistakes> {
        let file = dir.join(format!("{name}.toml"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) || !file.exists() {
            let names = names(dir);
            let help = match names.is_empty() {
                true => format!("there is no adapter in {}", dir.display()),
                false => known(name, names.iter().map(String::as_str)),
            };
            return Err(
                Mistakes::unread(dir, format!("no adapter named `{}`", tame(name))).with_help(help),
            );
        }
        Self::open(&file)
    }

    /// Reads an adapter's file.
    pub fn open(file: &Path) -> Result<Self, Mistakes> {
        Self::parse(file, &raw::read_text(file)?)
    }

    /// Checks the text of an adapter; `file` names it in messages and gives it its name.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Mistakes> {
        raw::read(file, text, |reader, root| adapter(file, reader, root))
    }

    /// The command that starts the program.
    pub fn argv(&self, places: &Places) -> Vec<String> {
        self.argv
            .iter()
            .map(|template| template.fill(places))
            .collect()
    }

    /// The files that are fetched from a host when the program has ended.
    pub fn logs(&self, places: &Places) -> Vec<String> {
        self.logs
            .iter()
            .map(|template| template.fill(places))
            .collect()
    }
}

/// The adapters of a folder, sorted; a folder that cannot be read has none.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Text with placeholders that are all known.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bin,
    Share,
    State,
    Listen,
    ListenIp,
    ListenPort,
    Peer,
    PeerIp,
    PeerPort,
}

const PLACES: [(&str, Place); 9] = [
    ("bin", Place::Bin),
    ("share", Place::Share),
    ("state", Place::State),
    ("listen", Place::Listen),
    ("peer", Place::Peer),
    ("listen_ip", Place::ListenIp),
    ("listen_port", Place::ListenPort),
    ("peer_ip", Place::PeerIp),
    ("peer_port", Place::PeerPort),
];

impl Template {
    fn fill(&self, places: &Places) -> String {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Place(place) => filled.push_str(&place.fill(places)),
            }
        }
        filled
    }

    fn names(&self, wanted: Place) -> bool {
        self.0.contains(&Piece::Place(wanted))
    }

    fn read(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Self> {
        let text = node.text()?;
        let (mut pieces, mut rest, mut whole) = (Vec::new(), text, true);
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                reader.wrong(node.span, "a `{` without its `}`");
                return None;
            };
            pieces.push(Piece::Text(before.to_owned()));
            match PLACES.iter().find(|(known, _)| *known == name) {
                Some((_, place)) => pieces.push(Piece::Place(*place)),
                None => {
                    let message = format!("unknown placeholder `{{{}}}`", tame(name));
                    reader.unknown(
                        node.span,
                        message,
                        name,
                        PLACES.iter().map(|(known, _)| *known),
                    );
                    whole = false;
                }
            }
            rest = after;
        }
        if text.contains('\0') {
            reader.wrong(node.span, "no argument can hold a NUL");
            whole = false;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        whole.then_some(Self(pieces))
    }
}

impl Place {
    fn fill(self, places: &Places) -> String {
        match self {
            Place::Bin => places.bin.clone(),
            Place::Share => places.share.clone(),
            Place::State => places.state.clone(),
            Place::Listen => places.listen.to_string(),
            Place::ListenIp => places.listen.ip().to_string(),
            Place::ListenPort => places.listen.port().to_string(),
            Place::Peer => places.peer.to_string(),
            Place::PeerIp => places.peer.ip().to_string(),
            Place::PeerPort => places.peer.port().to_string(),
        }
    }
}

fn adapter<'d>(file: &Path, reader: &Reader<'d>, root: Node<'_, 'd>) -> Option<Adapter> {
    let mut fields = root.fields("the adapter", Span { start: 0, end: 0 })?;
    let about = fields.must("about").and_then(Node::text);
    let build =
        table(&mut fields, "build", |fields| Some(Some(build(fields)?))).unwrap_or(Some(None));
    if !fields.has("start") {
        fields.must("start");
    }
    let start = table(&mut fields, "start", |fields| start(reader, fields)).flatten();
    let stop = table(&mut fields, "stop", stop).unwrap_or(Some(DEFAULT_STOP));
    let share = table(&mut fields, "share", |fields| share(reader, fields))
        .unwrap_or(Some(Default::default()));
    let quiet =
        table(&mut fields, "quiet", |fields| fields.must("bytes")?.size()).unwrap_or(Some(0));
    let log =
        table(&mut fields, "log", |fields| log(reader, fields)).unwrap_or(Some(Default::default()));
    let conflicts = table(&mut fields, "promise", promise).unwrap_or(Some(None));
    let start_at = fields.place("start");
    fields.finish();

    let (argv, ready) = start?;
    let build = build?;
    if build.is_none() && argv.iter().any(|template| template.names(Place::Bin)) {
        reader.missing(
            start_at,
            "`{bin}` needs a [build] that says what it is",
            None,
        );
    }
    if ready == Ready::Listening
        && !argv
            .iter()
            .any(|template| template.names(Place::Listen) || template.names(Place::ListenPort))
    {
        reader.missing(
            start_at,
            "`ready = \"listening\"` needs `{listen}` or `{listen_port}` in `argv`",
            None,
        );
    }
    let (private, parts) = share?;
    let (logs, panics) = log?;
    Some(Adapter {
        name: file.file_stem()?.to_string_lossy().into_owned(),
        about: about?.to_owned(),
        build,
        ready,
        stop: stop?,
        private,
        parts,
        quiet_bytes: quiet?,
        panics,
        conflicts: conflicts?,
        argv,
        logs,
    })
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

fn build(fields: &mut Fields<'_, '_>) -> Option<Build> {
    let package = fields.must("package").and_then(Node::text);
    let binary = fields.may("binary").map_or(package, Node::text);
    Some(Build {
        package: package?.to_owned(),
        binary: binary?.to_owned(),
    })
}

fn start(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Vec<Template>, Ready)> {
    let argv = fields.must("argv").and_then(|node| {
        let argv = templates(reader, node)?;
        if argv.is_empty() {
            reader.wrong(
                node.span,
                "is no command: a list of the program and its arguments",
            );
        }
        Some(argv)
    });
    let ready = fields.may("ready").map_or(Some(Ready::Running), |node| {
        node.word(&[("listening", Ready::Listening)])
    });
    Some((argv?, ready?))
}

fn templates(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<Vec<Template>> {
    let nodes = node.list("a list of texts")?;
    let templates: Vec<Template> = nodes
        .iter()
        .filter_map(|node| Template::read(reader, *node))
        .collect();
    (templates.len() == nodes.len()).then_some(templates)
}

/// What most programs understand, and time enough for a clean end.
const DEFAULT_STOP: Stop = Stop {
    signal: "TERM",
    within: Duration::from_secs(5),
};

fn stop(fields: &mut Fields<'_, '_>) -> Option<Stop> {
    let signals = [
        ("TERM", "TERM"),
        ("INT", "INT"),
        ("HUP", "HUP"),
        ("QUIT", "QUIT"),
        ("KILL", "KILL"),
    ];
    let signal = fields
        .may("signal")
        .map_or(Some(DEFAULT_STOP.signal), |node| node.word(&signals));
    let within = fields
        .may("within")
        .map_or(Some(DEFAULT_STOP.within), Node::duration);
    Some(Stop {
        signal: signal?,
        within: within?,
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

fn log(reader: &Reader<'_>, fields: &mut Fields<'_, '_>) -> Option<(Vec<Template>, Vec<String>)> {
    let fetch = fields
        .may("fetch")
        .map_or(Some(Vec::new()), |node| templates(reader, node));
    let panic = fields.may("panic").map_or(Some(Vec::new()), Node::texts);
    if panic.as_ref().is_some_and(|texts| texts.contains(&"")) {
        reader.wrong(fields.place("panic"), "an empty text is in every log");
    }
    Some((fetch?, panic?.into_iter().map(str::to_owned).collect()))
}

fn promise(fields: &mut Fields<'_, '_>) -> Option<Option<Conflicts>> {
    let words = [
        ("copies", Conflicts::Copies),
        ("newest", Conflicts::Newest),
        ("untouched", Conflicts::Untouched),
    ];
    fields.must("conflicts")?.word(&words).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            bin: "/run/x/left".into(),
            share: "/run/x/share".into(),
            state: "/run/x/state".into(),
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
            left.argv(&places()).join(" "),
            "/run/x/left --ip [::1]:21001 --listen 127.0.0.2:21000 --share /run/x/share --insecure \
             --events /run/x/state/events.jsonl"
        );
        assert_eq!(left.logs(&places()), ["/run/x/state/events.jsonl"]);
        assert_eq!(
            left.build,
            Some(Build {
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
            "a `{` without its `}`",
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
        assert_eq!(mistakes("about = \"x\""), ["the adapter needs `start`"]);
        let text = "about = \"x\"\n[start]\nargv = [\"{bin}\"]\nready = \"listening\"";
        let expected = [
            "`ready = \"listening\"` needs `{listen}` or `{listen_port}` in `argv`",
            "`{bin}` needs a [build] that says what it is",
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
            adapter.argv(&places()),
            ["sync", "::1/21001", "-l=127.0.0.2,21000"]
        );
    }
}
