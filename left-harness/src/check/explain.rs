//! Shows in what the bytes of differing files differ.
//!
//! Small texts as a unified diff; everything else by its first differing byte
//! and by ranges, found through the hashes of blocks so that little is fetched
//! however large the files are. An explanation never changes a verdict: trouble
//! with it is a line of its own.

use std::fmt::Write as _;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use similar::TextDiff;

use super::difference::{Difference, What, compare, verdict};
use super::finding::Finding;
use super::manifest::{Manifest, Name};
use super::text::{escaped, grouped, size_text};
use crate::host::probe::{Blocks, Probe};

/// Larger texts are compared as bytes.
const TEXT_BYTES_MAX: u64 = 256 * 1024;
/// Lines of one diff.
const DIFF_LINES_MAX: usize = 40;
/// Of a line, in bytes.
const DIFF_LINE_BYTES_MAX: usize = 200;
/// A diff that takes longer becomes a coarser one.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);
/// Files that are explained in one comparison.
const FILES_MAX: usize = 20;
/// Of files so large that there would be too many, blocks are larger.
const BLOCK_BYTES_MIN: u64 = 64 * 1024;
const BLOCKS_MAX: u64 = 16 * 1024;
/// Fetched from each side to see where exactly blocks differ; the rest stays in whole blocks.
const FETCH_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// In one request.
const READ_BYTES: u64 = 64 * 1024;
/// Differing bytes this close together are one range: some are equal by chance.
const GAP_BYTES: u64 = 64;
/// Ranges that are listed.
const RANGES_SHOWN: usize = 6;
/// Bytes shown at the first difference.
const BYTES_SHOWN: u64 = 16;

/// One of the two trees and the way to it.
pub struct Side<'a> {
    /// The host's name.
    pub name: &'a str,
    /// Its probe.
    pub probe: &'a Probe,
    /// Root of the tree.
    pub root: &'a Path,
    /// What was seen there.
    pub manifest: &'a Manifest,
}

/// Compares two trees and shows in what their files differ.
pub async fn trees(first: &Side<'_>, second: &Side<'_>) -> Finding {
    let names = [first.name, second.name];
    let comparison = compare(names, first.manifest, second.manifest);
    let mut finding = verdict(names, &comparison, first.manifest);
    finding
        .details
        .extend(contents([first, second], &comparison.differences).await);
    finding
}

/// Lines for those of the differences that are of content.
pub async fn contents(sides: [&Side<'_>; 2], differences: &[Difference]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut files = differences
        .iter()
        .filter(|difference| matches!(difference.what, What::Content(..)));
    for difference in files.by_ref().take(FILES_MAX) {
        let What::Content(one, other) = difference.what else {
            continue;
        };
        match explain(sides, &difference.path, [one, other]).await {
            Ok(explained) => lines.extend(explained),
            Err(why) => lines.push(format!(
                "  {}: cannot show the difference: {why}",
                difference.path
            )),
        }
    }
    match files.count() {
        0 => {}
        more => lines.push(format!("  … and {more} more files with other content")),
    }
    lines
}

async fn explain(
    sides: [&Side<'_>; 2],
    path: &Name,
    sizes: [u64; 2],
) -> Result<Vec<String>, String> {
    if sizes.iter().all(|size| *size <= TEXT_BYTES_MAX) {
        let one = fetch_whole(sides[0], path, sizes[0]).await?;
        let other = fetch_whole(sides[1], path, sizes[1]).await?;
        if let (Some(one), Some(other)) = (text(&one), text(&other)) {
            return Ok(text_diff([sides[0].name, sides[1].name], path, one, other));
        }
    }
    bytes_diff(sides, path, sizes).await
}

/// What people can read in lines.
fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.contains(&0) {
        None
    } else {
        std::str::from_utf8(bytes).ok()
    }
}

fn text_diff(names: [&str; 2], path: &Name, one: &str, other: &str) -> Vec<String> {
    let mut config = TextDiff::configure();
    config.timeout(DIFF_TIMEOUT);
    let diff = config.diff_lines(one, other);
    let mut lines = vec![
        format!("  --- {}:{path}", names[0]),
        format!("  +++ {}:{path}", names[1]),
    ];
    let mut left_out = 0;
    let mut add = |line: String| {
        if lines.len() < DIFF_LINES_MAX {
            lines.push(line);
        } else {
            left_out += 1;
        }
    };
    for hunk in diff.unified_diff().context_radius(2).iter_hunks() {
        add(format!("  {}", hunk.header()));
        for change in hunk.iter_changes() {
            let line = change.value();
            let ending = if line.ends_with('\n') {
                ""
            } else {
                " (no line end)"
            };
            let line = line.strip_suffix('\n').unwrap_or(line);
            let shown = first_bytes(line, DIFF_LINE_BYTES_MAX);
            let more = if shown.len() < line.len() { "…" } else { "" };
            add(format!(
                "  {}{}{more}{ending}",
                change.tag(),
                escaped(shown.as_bytes())
            ));
        }
    }
    if left_out > 0 {
        lines.push(format!("  … {left_out} more lines of this difference"));
    }
    lines
}

/// As many whole characters as fit.
fn first_bytes(line: &str, bytes_max: usize) -> &str {
    let ends = line
        .char_indices()
        .map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= bytes_max).last();
    &line[..end.unwrap_or(0)]
}

async fn bytes_diff(
    sides: [&Side<'_>; 2],
    path: &Name,
    sizes: [u64; 2],
) -> Result<Vec<String>, String> {
    let common = sizes[0].min(sizes[1]);
    let block_bytes = block_bytes(sizes[0].max(sizes[1]));
    let [one, other] = [
        blocks(sides[0], path, block_bytes, sizes[0]),
        blocks(sides[1], path, block_bytes, sizes[1]),
    ];
    let (one, other) = (one.await?, other.await?);
    let differing = differing_blocks(&one, &other, common);
    let mut ranges = Vec::new();
    let mut fetched = 0;
    let mut exact = true;
    for block in differing {
        if fetched + (block.end - block.start) > FETCH_BYTES_MAX.max(block_bytes) && fetched > 0 {
            exact = false;
            merge(&mut ranges, block);
            continue;
        }
        fetched += block.end - block.start;
        for range in differing_bytes(sides, path, block).await? {
            merge(&mut ranges, range);
        }
    }
    let mut lines = Vec::new();
    // Equal as far as both go: the first difference is the end of the shorter one.
    let first = ranges.first().map_or(common, |range| range.start);
    let mut line = format!(
        "  {path}: first difference at byte {} (0x{first:x}):",
        grouped(first)
    );
    for side in sides {
        let bytes = read(side, path, first..first + BYTES_SHOWN).await?;
        let shown = if bytes.is_empty() {
            " ends here".into()
        } else {
            hex(&bytes)
        };
        let _ = write!(line, " {}{shown};", side.name);
    }
    lines.push(line.trim_end_matches(';').to_owned());
    if !ranges.is_empty() {
        lines.push(format!(
            "  {path}: {}",
            ranges_text(&ranges, exact, block_bytes)
        ));
    }
    if sizes[0] != sizes[1] {
        let (longer, by) = (
            usize::from(sizes[1] > sizes[0]),
            sizes[0].abs_diff(sizes[1]),
        );
        lines.push(format!(
            "  {path}: {} is {} bytes longer",
            sides[longer].name,
            grouped(by)
        ));
    }
    Ok(lines)
}

fn block_bytes(size: u64) -> u64 {
    (size / BLOCKS_MAX).max(BLOCK_BYTES_MIN).next_power_of_two()
}

/// Byte ranges of the blocks that differ, as far as both files go.
fn differing_blocks(one: &Blocks, other: &Blocks, common: u64) -> Vec<Range<u64>> {
    let block_bytes = one.block_bytes;
    let pairs = one.hashes.iter().zip(&other.hashes).zip(0u64..);
    let differing = pairs
        .filter(|((one, other), _)| one != other)
        .map(|(_, block)| block * block_bytes);
    let ranges = differing.map(|start| start..(start + block_bytes).min(common));
    // Blocks at the end of the shorter file may differ only in how far they go.
    ranges.filter(|range| range.start < range.end).collect()
}

async fn differing_bytes(
    sides: [&Side<'_>; 2],
    path: &Name,
    range: Range<u64>,
) -> Result<Vec<Range<u64>>, String> {
    let mut ranges = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let piece = at..(at + READ_BYTES).min(range.end);
        let one = read(sides[0], path, piece.clone()).await?;
        let other = read(sides[1], path, piece.clone()).await?;
        for (index, _) in one
            .iter()
            .zip(&other)
            .enumerate()
            .filter(|(_, (one, other))| one != other)
        {
            let byte = at + index as u64;
            merge(&mut ranges, byte..byte + 1);
        }
        at = piece.end;
    }
    Ok(ranges)
}

fn merge(ranges: &mut Vec<Range<u64>>, next: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if next.start <= last.end + GAP_BYTES => last.end = last.end.max(next.end),
        _ => ranges.push(next),
    }
}

/// `2 ranges differ: 1,000–1,003, 9,000–9,000 (5 bytes)`
fn ranges_text(ranges: &[Range<u64>], exact: bool, block_bytes: u64) -> String {
    let shown = ranges
        .iter()
        .take(RANGES_SHOWN)
        .map(|range| format!("{}–{}", grouped(range.start), grouped(range.end - 1)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if ranges.len() > RANGES_SHOWN {
        text.push_str(", …");
    }
    let bytes = ranges.iter().map(|range| range.end - range.start).sum();
    let differ = if ranges.len() == 1 {
        "1 range differs".into()
    } else {
        format!("{} ranges differ", ranges.len())
    };
    let precision = if exact {
        String::new()
    } else {
        format!(", most of it known in blocks of {}", size_text(block_bytes))
    };
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    format!("{differ}: {text} ({} {unit}{precision})", grouped(bytes))
}

async fn fetch_whole(side: &Side<'_>, path: &Name, size: u64) -> Result<Vec<u8>, String> {
    let bytes = read(side, path, 0..size + 1).await?;
    let seen = side
        .manifest
        .entries
        .get(path)
        .and_then(|entry| entry.content);
    if seen.is_some_and(|seen| seen != blake3::hash(&bytes)) {
        return Err(format!("it changed at {} since it was compared", side.name));
    }
    Ok(bytes)
}

async fn blocks(
    side: &Side<'_>,
    path: &Name,
    block_bytes: u64,
    size: u64,
) -> Result<Blocks, String> {
    let blocks = side
        .probe
        .blocks(&place(side, path), block_bytes)
        .await
        .map_err(|error| error.to_string())?;
    if blocks.size != size {
        return Err(format!("it changed at {} since it was compared", side.name));
    }
    Ok(blocks)
}

/// Reads on until the range or the file ends.
async fn read(side: &Side<'_>, path: &Name, range: Range<u64>) -> Result<Vec<u8>, String> {
    let place = place(side, path);
    let mut bytes = Vec::new();
    while range.start + (bytes.len() as u64) < range.end {
        let at = range.start + bytes.len() as u64;
        let some = (range.end - at).min(READ_BYTES) as usize;
        let read = side
            .probe
            .remote
            .read(&place, at, some)
            .await
            .map_err(|error| error.to_string())?;
        if read.is_empty() {
            break;
        }
        bytes.extend_from_slice(&read);
    }
    Ok(bytes)
}

fn place(side: &Side<'_>, path: &Name) -> PathBuf {
    side.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, " {byte:02x}");
        text
    })
}
