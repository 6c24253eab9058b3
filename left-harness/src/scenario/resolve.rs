//! The whole file: its tables, and its steps once for each cell of the matrix.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::error::{Lines, Span, tame};
use super::raw::{Cell, Entry, Fields, Node, Reader, label_of, span_of};
use super::step::Steps;
use super::step::checks::expect;
use super::world::World;
use super::{Case, Expect, HostSpec, LinkSpec, Scenario};

/// Each cell is a run of its own.
const CASES_MAX: usize = 256;

/// Every link of today has two ends.
const HOSTS: usize = 2;

const SEED: u64 = 1;

/// Reads everything there is, even when something early is wrong.
pub(super) fn scenario<'r, 'd>(
    file: &Path,
    text: &str,
    reader: &'r Reader<'d>,
    root: Node<'r, 'd>,
) -> Option<Scenario> {
    let start = Span { start: 0, end: 0 };
    let mut fields = root.fields("the scenario", start)?;
    let about = fields.must("about").and_then(|node| about(reader, node));
    let seed = fields
        .may("seed")
        .map_or(Some(SEED), |node| node.count(0, i64::MAX as u64));
    let (hosts, hosts_good) = match fields.may("host") {
        Some(node) => read_hosts(reader, node, fields.place("host")),
        None => (default_hosts(), true),
    };
    let link = fields
        .may("link")
        .map_or(Some(LinkSpec::default()), |node| {
            link(node, fields.place("link"))
        });
    let matrix = fields
        .may("matrix")
        .map_or(Some(Vec::new()), |node| matrix(reader, node));
    let step = fields.must("step");
    let expected = fields.may("expect");
    let expected_at = fields.place("expect");
    fields.finish();

    let matrix_at = matrix.clone().unwrap_or_default();
    let cells = cells(reader, matrix.unwrap_or_default())?;
    let names: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
    let lines = Lines::new(text);
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut count = 0;
    let mut cases = Vec::new();
    for cell in cells {
        reader.enter_cell(cell.values);
        let mut steps = Steps {
            reader,
            lines: &lines,
            folder,
            hosts: &names,
            world: World::default(),
            count,
        };
        let read = step.and_then(|list| steps.read(list));
        let expect = match expected {
            Some(node) => closing_expect(reader, node, expected_at, &mut steps.world),
            None => Some(Expect::default()),
        };
        count = steps.count;
        if let Some(list) = step {
            judge(reader, &steps.world, list.span);
        }
        let (Some(read), Some(expect)) = (read, expect) else {
            continue;
        };
        cases.push(Case {
            label: cell.label,
            steps: read,
            expect,
        });
    }
    let used = reader.used();
    for list in &matrix_at {
        if !used.contains(list.name) {
            let name = tame(list.name);
            reader.missing(list.at, format!("no step uses `${name}`"), None);
        }
    }
    Some(Scenario {
        file: file.to_path_buf(),
        name: file
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
        about: about?,
        seed: seed?,
        hosts: hosts_good.then_some(hosts)?,
        link: link?,
        cases,
    })
}

fn about(reader: &Reader<'_>, node: Node<'_, '_>) -> Option<String> {
    let about = node.text()?.trim();
    if about.is_empty() {
        reader.wrong(node.span, "`about` must say what a pass proves");
        return None;
    }
    Some(about.to_owned())
}

fn default_hosts() -> Vec<HostSpec> {
    ["a", "b"]
        .map(|name| HostSpec {
            name: name.to_owned(),
            share_bytes: None,
        })
        .into()
}

/// Tables for `a` or `b` say more about these two; tables with other names replace them.
/// The hosts that are named, and whether all is right with them: steps can be checked
/// against the name of a host whose table is broken.
fn read_hosts(reader: &Reader<'_>, node: Node<'_, '_>, at: Span) -> (Vec<HostSpec>, bool) {
    let Some(entries) = node.entries("tables such as [host.a]") else {
        return (default_hosts(), false);
    };
    let mut good = true;
    let mut hosts = Vec::new();
    for Entry { key, at, value } in entries {
        let sound = key.starts_with(|c: char| c.is_ascii_lowercase())
            && key.len() <= 16
            && key
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !sound {
            let message = format!(
                "the host name `{}` must be 1 to 16 of a-z, 0-9 and `-`",
                tame(key)
            );
            reader.wrong(at, message);
        }
        let share_bytes = value.and_then(|node| host(node, key, at));
        good &= sound && share_bytes.is_some();
        hosts.push(HostSpec {
            name: key.to_owned(),
            share_bytes: share_bytes.flatten(),
        });
    }
    let mut defaults = default_hosts();
    if hosts
        .iter()
        .all(|host| defaults.iter().any(|default| default.name == host.name))
    {
        for default in &mut defaults {
            if let Some(host) = hosts.iter().find(|host| host.name == default.name) {
                default.share_bytes = host.share_bytes;
            }
        }
        return (defaults, good);
    }
    if hosts.len() != HOSTS {
        let message = format!("a scenario has {HOSTS} hosts, not {}", hosts.len());
        reader.missing(
            at,
            message,
            Some("hosts are `a` and `b`, or two tables with names of your own".into()),
        );
        good = false;
    }
    (hosts, good)
}

/// `Some(None)`: the share is as large as the lab's disk.
fn host(node: Node<'_, '_>, name: &str, at: Span) -> Option<Option<u64>> {
    let mut fields = node.fields(format!("[host.{}]", tame(name)), at)?;
    let share = match fields.may("share") {
        Some(node) => share(node, fields.place("share")).map(Some),
        None => Some(None),
    };
    fields.finish();
    share
}

fn share(node: Node<'_, '_>, at: Span) -> Option<u64> {
    let mut fields = node.fields("`share`", at)?;
    let size = fields.must("size").and_then(Node::size);
    fields.finish();
    size
}

fn link(node: Node<'_, '_>, at: Span) -> Option<LinkSpec> {
    let mut fields = node.fields("[link]", at)?;
    let rate = optional(&mut fields, "rate", Node::rate);
    let delay = optional(&mut fields, "delay", Node::duration);
    let loss = optional(&mut fields, "loss", Node::percent);
    fields.finish();
    Some(LinkSpec {
        rate: rate?,
        delay: delay?,
        loss: loss?,
    })
}

fn optional<'r, 'd, T>(
    fields: &mut Fields<'r, 'd>,
    key: &'static str,
    read: impl FnOnce(Node<'r, 'd>) -> Option<T>,
) -> Option<Option<T>> {
    match fields.may(key) {
        Some(node) => read(node).map(Some),
        None => Some(None),
    }
}

/// A named list of `[matrix]`.
#[derive(Clone)]
struct List<'d> {
    name: &'d str,
    at: Span,
    values: &'d [Spanned<DeValue<'d>>],
}

fn matrix<'d>(reader: &Reader<'d>, node: Node<'_, 'd>) -> Option<Vec<List<'d>>> {
    let mut lists = Vec::new();
    for Entry { key, at, value } in node.entries("a table of lists")? {
        let Some(values) = value.and_then(Node::values) else {
            continue;
        };
        let mut seen = Vec::new();
        for value in values {
            let label = label_of(value.get_ref());
            if label.is_some() && seen.contains(&label) {
                reader.wrong(
                    span_of(value.span()),
                    "stands in this list for the second time",
                );
            }
            seen.push(label);
            if seen.len() > CASES_MAX {
                break;
            }
        }
        if values.is_empty() {
            reader.wrong(
                at,
                format!("the list `{}` is empty: there would be no case", tame(key)),
            );
        }
        lists.push(List {
            name: key,
            at,
            values,
        });
    }
    Some(lists)
}

struct LabelledCell<'d> {
    label: String,
    values: Cell<'d>,
}

/// Every combination, the last list turning fastest.
fn cells<'d>(reader: &Reader<'_>, lists: Vec<List<'d>>) -> Option<Vec<LabelledCell<'d>>> {
    let mut cells = vec![LabelledCell {
        label: String::new(),
        values: BTreeMap::new(),
    }];
    for list in lists {
        if list.values.is_empty() {
            for cell in &mut cells {
                cell.values.insert(list.name, None);
            }
            continue;
        }
        if cells.len().saturating_mul(list.values.len()) > CASES_MAX {
            reader.wrong(
                list.at,
                format!("the matrix has more than {CASES_MAX} cells"),
            );
            return None;
        }
        let mut more = Vec::new();
        for cell in &cells {
            for (index, value) in list.values.iter().enumerate() {
                let shown = label_of(value.get_ref()).unwrap_or_else(|| format!("#{}", index + 1));
                let comma = if cell.label.is_empty() { "" } else { "," };
                let label = format!("{}{comma}{}={shown}", cell.label, tame(list.name));
                let mut values = cell.values.clone();
                values.insert(list.name, Some(value));
                more.push(LabelledCell { label, values });
            }
        }
        cells = more;
    }
    Some(cells)
}

fn closing_expect(
    reader: &Reader<'_>,
    node: Node<'_, '_>,
    at: Span,
    world: &mut World,
) -> Option<Expect> {
    let mut fields = node.fields("[expect]", at)?;
    let expected = expect(&mut fields, reader, world);
    fields.finish();
    expected
}

/// What only the whole of the steps can tell.
fn judge(reader: &Reader<'_>, world: &World, steps_at: Span) {
    if !world.proves {
        let help = "add [expect] or an `arrives`".to_owned();
        reader.missing(steps_at, "the scenario proves nothing", Some(help));
    }
    for span in &world.resent {
        if !world.transfers && !world.paths_unsure {
            reader.missing(
                *span,
                "`resent` means nothing here: no step writes anything",
                None,
            );
        }
        if let Some((path, why)) = world.weightless.first() {
            let path = tame(path);
            let message = format!(
                "`resent` means nothing here: `{path}` {why}, only random content weighs what it is"
            );
            reader.wrong(*span, message);
        }
    }
}
