//! The sending side of a file connection: answers requests, one after the
//! other. It hashes nothing it has hashed before.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustix::io::Errno;

use crate::disk::{Content, Handle};
use crate::entry::{Body, ContentId};
use crate::events::Reporter;
use crate::index::Index;
use crate::path::RelPath;
use crate::record::Stamp;
use crate::share::Share;
use crate::transfer::blocks::{BlockList, Geometry, ListCache, Page, subtree};
use crate::transfer::hash::{Hashed, hash_file, hash_page};
use crate::trouble::Trouble;
use crate::wire::frame::{FrameKind, Header, read_header, write_frame};

/// Versions a receiver may have open at once; it uses half of them.
const OPEN_MAX: usize = 512;

/// What the sender needs of the daemon.
pub struct SendContext {
    /// The share.
    pub share: Arc<Share>,
    /// Says which content a path has.
    pub index: Arc<Index>,
    /// Block lists of files that were hashed lately.
    pub lists: Arc<ListCache>,
    /// Where figures go.
    pub reporter: Arc<Reporter>,
    /// Has a path looked at whose file is not what is on record: nothing may tell of
    /// that, as when another name of it was removed.
    pub look_again: Box<dyn Fn(RelPath) + Send + Sync>,
}

struct Offered {
    path: RelPath,
    file: File,
    stamp: Stamp,
    id: ContentId,
    geometry: Geometry,
    list: Option<Arc<BlockList>>,
}

/// Why an opened version cannot be sent.
enum Refusal {
    Gone,
    Stale,
}

/// Serves until the connection ends.
pub fn serve(context: &SendContext, stream: &TcpStream) -> io::Result<()> {
    let mut requests = BufReader::with_capacity(16 * 1024, stream);
    let mut out = BufWriter::with_capacity(64 * 1024, stream);
    let mut offered: HashMap<u32, Offered> = HashMap::new();
    let mut buffer = Vec::new();
    let ended = loop {
        if requests.buffer().is_empty() {
            // About to wait: what is answered so far has to go.
            if let Err(error) = out.flush() {
                break Err(error);
            }
            if offered.is_empty() {
                context.reporter.update(|activity| activity.sending = false);
            }
            match requests.fill_buf() {
                Ok([]) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        }
        let answered = read_header(&mut requests).and_then(|header| {
            answer(
                context,
                &mut requests,
                &mut out,
                &mut offered,
                &mut buffer,
                header,
            )
        });
        if let Err(error) = answered {
            break Err(error);
        }
    };
    context.reporter.update(|activity| activity.sending = false);
    ended
}

fn answer(
    context: &SendContext,
    requests: &mut impl Read,
    out: &mut impl Write,
    offered: &mut HashMap<u32, Offered>,
    buffer: &mut Vec<u8>,
    header: Header,
) -> io::Result<()> {
    let mut payload = vec![0; header.payload_bytes as usize];
    requests.read_exact(&mut payload)?;
    let broken = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what.to_owned()));
    let handle = header.handle;
    match header.kind {
        FrameKind::Open => {
            let Some((id, path)) = payload.split_first_chunk::<32>() else {
                return broken("the peer opened nothing");
            };
            let Ok(path) = RelPath::parse(path) else {
                return broken("the peer asked for a path that cannot be");
            };
            if offered.len() >= OPEN_MAX || offered.contains_key(&handle) {
                return broken("the peer opened too much");
            }
            context.reporter.update(|activity| activity.sending = true);
            match offer(context, &path, ContentId(*id), header.argument) {
                Ok(version) => {
                    offered.insert(handle, version);
                    Ok(())
                }
                Err(refusal) => {
                    if matches!(refusal, Refusal::Stale) {
                        (context.look_again)(path);
                    }
                    refuse(out, handle, refusal)
                }
            }
        }
        FrameKind::List => {
            // After a refusal more requests can be on their way.
            let Some(version) = offered.get_mut(&handle) else {
                return Ok(());
            };
            let pages = version.geometry.pages();
            let is_of_pages = header.argument == pages && pages > 1;
            if version.geometry.is_single() || (header.argument >= pages && !is_of_pages) {
                return broken("the peer asked for a page that cannot be");
            }
            let values = match is_of_pages {
                true => list(context, version).map(|list| list.pages.concat()),
                false => page(context, version, header.argument).map(|page| page.values.concat()),
            };
            match values {
                Some(values) => write_frame(out, FrameKind::Page, handle, header.argument, &values),
                None => {
                    offered.remove(&handle);
                    refuse(out, handle, Refusal::Stale)
                }
            }
        }
        FrameKind::Get => {
            let Some(version) = offered.get(&handle) else {
                return Ok(());
            };
            let Ok(count) = payload.try_into().map(u32::from_be_bytes) else {
                return broken("the peer asked for no blocks");
            };
            let blocks = version.geometry.blocks();
            let last = header
                .argument
                .checked_add(u64::from(count))
                .filter(|last| *last <= blocks);
            let Some(last) = last else {
                return broken("the peer asked for blocks that cannot be");
            };
            for block in header.argument..last {
                if !send_block(context, version, out, buffer, handle, block)? {
                    offered.remove(&handle);
                    return refuse(out, handle, Refusal::Stale);
                }
                let sent = version.geometry.len(block) as u64;
                context.reporter.sent(sent);
            }
            Ok(())
        }
        FrameKind::Close => {
            if let Some(version) = offered.remove(&handle) {
                context.reporter.solved_seen(version.path.as_bytes());
            }
            Ok(())
        }
        FrameKind::Page | FrameKind::Data | FrameKind::Gone | FrameKind::Stale => {
            broken("the peer answered where it should ask")
        }
    }
}

fn refuse(out: &mut impl Write, handle: u32, refusal: Refusal) -> io::Result<()> {
    let kind = match refusal {
        Refusal::Gone => FrameKind::Gone,
        Refusal::Stale => FrameKind::Stale,
    };
    write_frame(out, kind, handle, 0, &[])
}

/// Opens a version, if the path still has it by index and by stat.
fn offer(
    context: &SendContext,
    path: &RelPath,
    id: ContentId,
    size: u64,
) -> Result<Offered, Refusal> {
    let known = context.index.get(path).map_err(|_| Refusal::Stale)?;
    let record = known.ok_or(Refusal::Gone)?;
    let current = matches!(&record.entry.body, Body::File { id: known, size: len, .. } if *known == id && *len == size);
    if !current {
        return Err(Refusal::Gone);
    }
    let file = context.share.open_file(path).map_err(|errno| {
        // What is not there any more, the scanner tells of.
        if !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) {
            tell_unread(context, path, &errno.into());
        }
        Refusal::Stale
    })?;
    let now = file.stat().map_err(|_| Refusal::Stale)?.stamp();
    if !record.stamp.is_some_and(|known| known.same_file(&now)) {
        return Err(Refusal::Stale);
    }
    let geometry = Geometry::of(size).ok_or(Refusal::Gone)?;
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    Ok(Offered {
        path: path.clone(),
        file,
        stamp: now,
        id,
        geometry,
        list: context.lists.get(id),
    })
}

/// The block list of a version; `None` when the file is another one by now, or
/// cannot be read.
fn list(context: &SendContext, version: &mut Offered) -> Option<Arc<BlockList>> {
    if version.list.is_none() {
        let go_on = || is_unchanged(version);
        match hash_file(&version.file, version.geometry, 2, &go_on) {
            Ok(Hashed::Whole {
                id,
                list: Some(list),
            }) if id == version.id => {
                context.lists.keep(id, list.clone());
                version.list = Some(list);
            }
            Ok(_) => {}
            Err(error) => tell_unread(context, &version.path, &error),
        }
    }
    version.list.clone()
}

/// A file that cannot be read is no matter for others, and its own peer cannot
/// know why it does not come.
fn tell_unread(context: &SendContext, path: &RelPath, error: &io::Error) {
    // The scanner may have met the same, and says it in its own words.
    if context.reporter.has_problem(path.as_bytes()) {
        return;
    }
    let advice = Trouble::of(error).advice();
    let text = format!("cannot read {path} for the peer: {error}; {advice}");
    context.reporter.problem_seen(path.as_bytes(), &text);
}

/// The values of the blocks of one page; `None` as in [`list`].
fn page(context: &SendContext, version: &mut Offered, number: u64) -> Option<Arc<Page>> {
    let list = list(context, version)?;
    if let Some(page) = &list.kept[number as usize] {
        return Some(page.clone());
    }
    let go_on = || is_unchanged(version);
    let page = hash_page(&version.file, version.geometry, number, 2, &go_on)
        .inspect_err(|error| tell_unread(context, &version.path, error))
        .ok()?;
    let page = page.filter(|page| subtree(&page.values) == list.pages[number as usize]);
    page.map(Arc::new)
}

fn is_unchanged(version: &Offered) -> bool {
    version
        .file
        .stat()
        .is_ok_and(|now| now.stamp().same_but_moved(&version.stamp))
}

/// Sends one block; `false` when the file is another one by now, or cannot be read.
fn send_block(
    context: &SendContext,
    version: &Offered,
    out: &mut impl Write,
    buffer: &mut Vec<u8>,
    handle: u32,
    block: u64,
) -> io::Result<bool> {
    let len = version.geometry.len(block);
    if buffer.len() < len {
        buffer.resize(len, 0);
    }
    let bytes = &mut buffer[..len];
    let whole = version
        .file
        .read_whole_at(bytes, version.geometry.offset(block));
    let whole = whole.unwrap_or_else(|errno| {
        tell_unread(context, &version.path, &errno.into());
        false
    });
    // Looked at after reading: what was read before a change is not sent
    // as if it were of the offered version.
    if !whole || !is_unchanged(version) {
        return Ok(false);
    }
    write_frame(out, FrameKind::Data, handle, block, bytes)?;
    Ok(true)
}
