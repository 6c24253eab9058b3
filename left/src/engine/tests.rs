//! Decisions that take more than one event.

use std::sync::Arc;

use super::*;
use crate::entry::{Body, Entry, Mtime};
use crate::index::Index;
use crate::record::Stamp;
use crate::scanner::{Observation, Seen};
use crate::version::{ReplicaId, VersionVector};
use crate::wire::message::WireEntry;

pub(super) struct Place {
    pub(super) engine: Engine<Index>,
    pub(super) index: Arc<Index>,
    _dir: tempfile::TempDir,
}

pub(super) const HAVE: Have = Have {
    replica: 0,
    epoch: 0,
    run: 0,
    upto: 0,
    joined: false,
};

pub(super) fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = Index::open(&dir.path().join("index"), (ReplicaId(1), 1)).unwrap();
    let index = Arc::new(index);
    Place {
        engine: Engine::new(index.clone(), Instant::now()),
        index,
        _dir: dir,
    }
}

pub(super) fn file(text: &str, a: u64, b: u64) -> Entry {
    let mtime = Mtime { secs: 7, nanos: 0 };
    let body = Body::File {
        id: ContentId(*blake3::hash(text.as_bytes()).as_bytes()),
        size: text.len() as u64,
        mtime,
    };
    let version = VersionVector::from_pairs([(ReplicaId(1), a), (ReplicaId(2), b)]);
    Entry::of(body, 0o644, version)
}

fn seen(entry: &Entry) -> Seen {
    let time = Mtime { secs: 7, nanos: 0 };
    Seen::Present {
        body: entry.body.clone(),
        mode: entry.mode,
        stamp: Stamp {
            ino: 9,
            size: 1,
            mtime: time,
            ctime: time,
            mode: 0o100_644,
            trusted: true,
        },
    }
}

#[test]
fn a_peer_that_comes_back_after_another_one_lists_everything_again() {
    let mut place = place();
    let first = Heard {
        replica: 2,
        epoch: 3,
        upto: 4,
        ..Heard::default()
    };
    place.index.commit(&[Change::Heard(first)]).unwrap();
    // Another one drops what was wanted of the first.
    place
        .engine
        .session_up(1, (5, 6, 1), None, HAVE, 0)
        .unwrap();
    assert_ne!(place.index.heard().unwrap(), first);
}

#[test]
fn crash_ack_lost_then_edit_is_no_conflict() {
    let mut place = place();
    let path = RelPath::parse(b"x").unwrap();
    let (old, new) = (file("old", 1, 0), file("new", 1, 1));
    let put = Change::Put {
        path: path.clone(),
        entry: old,
        stamp: None,
    };
    let want = Change::Want {
        path: path.clone(),
        entry: new.clone(),
    };
    // The process was killed after the new content had its name.
    place.index.commit(&[put, want]).unwrap();
    place
        .engine
        .session_up(1, (5, 6, 1), None, HAVE, 0)
        .unwrap();
    // Another epoch of the peer dropped the want.
    place
        .index
        .commit(&[Change::Want {
            path: path.clone(),
            entry: new.clone(),
        }])
        .unwrap();
    let edit = file("edit", 1, 2);
    let message = Message::Listing {
        upto: 9,
        complete: true,
        entries: vec![WireEntry::seal(&path, &edit)],
    };
    place.engine.take_message(1, message).unwrap();
    let observation = Observation {
        path: path.clone(),
        compared_with: Some(1),
        seen: seen(&new),
    };
    place.engine.take_observations(vec![observation]).unwrap();
    let known = place.index.get(&path).unwrap().unwrap().entry;
    assert_eq!(known, new);
    place.engine.take(Event::Scanned).unwrap();
    assert_eq!(place.index.want(&path).unwrap(), Some(edit.clone()));
    let plan = crate::plan::plan(Some(&known), &edit);
    assert_eq!(plan, crate::plan::Decision::Install(edit));
}

#[test]
fn a_session_that_replaces_another_is_told_to_be_connected() {
    let mut place = place();
    for session in [1, 2] {
        let up = Event::SessionUp {
            session,
            peer_replica: 2,
            peer_epoch: 3,
            peer_run: 4,
            peer_share: None,
            have: HAVE,
            told_upto: 0,
        };
        let actions = place.engine.step(Instant::now(), [up]).unwrap();
        let last = actions.iter().rev().find_map(|action| match action {
            Action::Tell(News::Doing(doing)) => Some(doing.connected),
            Action::Tell(News::PeerDown { .. }) => Some(false),
            _ => None,
        });
        assert_eq!(last, Some(true), "session {session}");
    }
}

/// What the peer says it has of the place's replica.
fn have(run: u64, upto: u64) -> Have {
    Have {
        replica: 1,
        epoch: 1,
        run,
        upto,
        joined: true,
    }
}

fn begins_again(place: &mut Place, events: Vec<Event>) -> bool {
    let actions = place.engine.step(Instant::now(), events).unwrap();
    actions
        .iter()
        .any(|action| matches!(action, Action::BeginAgain))
}

fn session(have: Have) -> Vec<Event> {
    vec![Event::SessionUp {
        session: 1,
        peer_replica: 2,
        peer_epoch: 3,
        peer_run: 4,
        peer_share: None,
        have,
        told_upto: 0,
    }]
}

#[test]
fn guard_state_rolled_back_shows_in_what_the_peer_has() {
    // This run is 1; one change was made in it.
    for (have, expected) in [
        (have(1, 1), false),
        (have(0, 1), false),
        (have(1, 0), false),
        (have(1, 2), true),
        (have(0, 2), true),
        // A run that this side does not remember, however few it heard of it.
        (have(5, 1), true),
        (HAVE, false),
    ] {
        let mut place = place();
        let put = Change::Put {
            path: RelPath::parse(b"x").unwrap(),
            entry: file("text", 1, 0),
            stamp: None,
        };
        place.index.commit(&[put]).unwrap();
        assert_eq!(
            begins_again(&mut place, session(have)),
            expected,
            "{have:?}"
        );
        // From then on nothing is done in the old name.
        let seen = begins_again(&mut place, vec![Event::Scanned]);
        assert!(!seen && place.engine.scanned != expected);
    }
}

#[test]
fn guard_state_rolled_back_shows_in_what_the_peer_lists() {
    for (counter, expected) in [(0, false), (1, true)] {
        let mut place = place();
        let entry = file("text", counter, 1);
        let message = Message::Listing {
            upto: 1,
            complete: true,
            entries: vec![WireEntry::seal(&RelPath::parse(b"x").unwrap(), &entry)],
        };
        let mut events = session(HAVE);
        events.push(Event::Scanned);
        events.push(Event::Message {
            session: 1,
            message,
        });
        assert_eq!(begins_again(&mut place, events), expected);
    }
}

#[test]
fn a_peer_that_met_us_under_an_id_that_was_lost_is_not_believed_to_know_nothing() {
    let mut place = place();
    let met = Heard {
        replica: 2,
        epoch: 3,
        ..Heard::default()
    };
    place.index.commit(&[Change::Heard(met)]).unwrap();
    let other = Have {
        replica: 9,
        ..have(9, 1)
    };
    assert!(begins_again(&mut place, session(other)));
}

#[test]
fn removals_that_are_tried_again_are_not_counted_again() {
    use crate::apply::Outcome;
    let mut place = place();
    let name = |n: u64| RelPath::parse(format!("f{n}").as_bytes()).unwrap();
    let puts: Vec<_> = (0..150)
        .map(|n| Change::Put {
            path: name(n),
            entry: file(&format!("{n}"), n + 1, 0),
            stamp: None,
        })
        .collect();
    place.index.commit(&puts).unwrap();
    let entries = (0..30)
        .map(|n| {
            let gone = Entry {
                body: Body::Deleted,
                mode: 0,
                ..file("", n + 1, 1)
            };
            WireEntry::seal(&name(n), &gone)
        })
        .collect();
    let listing = Message::Listing {
        upto: 30,
        complete: true,
        entries,
    };
    let up = Event::SessionUp {
        session: 1,
        peer_replica: 2,
        peer_epoch: 3,
        peer_run: 4,
        peer_share: None,
        have: HAVE,
        told_upto: 0,
    };
    let first = Event::Message {
        session: 1,
        message: listing,
    };
    let agreed = Event::Message {
        session: 1,
        message: Message::Join {
            stand: Stand::Agrees,
        },
    };
    let mut now = Instant::now();
    let mut events = vec![Event::Scanned, up, first, agreed];
    for attempt in 0..20 {
        let mut refused = Vec::new();
        for action in place.engine.step(now, std::mem::take(&mut events)).unwrap() {
            match action {
                Action::Apply(job) => refused.push((*job, Outcome::Changed)),
                Action::Tell(News::Held(held)) => panic!("attempt {attempt}: {held:?}"),
                _ => {}
            }
        }
        assert_eq!(refused.len(), 30, "attempt {attempt}");
        assert!(place.engine.step(now, [Event::Applied(refused)]).is_ok());
        now = place.engine.wakes_at().unwrap();
    }
}

#[test]
fn a_deep_tree_goes_at_once_and_its_folders_alone_are_not_held_back() {
    const LEVELS: u64 = 150;
    let mut place = place();
    let below =
        |n: u64| RelPath::parse("d/".repeat(n as usize + 1).trim_end_matches('/').as_bytes());
    let folder = |n: u64, b: u64, body: Body| Entry {
        body,
        mode: 0o755,
        ..file("", n + 1, b)
    };
    let puts: Vec<_> = (0..LEVELS)
        .map(|n| Change::Put {
            path: below(n).unwrap(),
            entry: folder(n, 0, Body::Dir),
            stamp: None,
        })
        .collect();
    place.index.commit(&puts).unwrap();
    let entries = (0..LEVELS)
        .map(|n| WireEntry::seal(&below(n).unwrap(), &folder(n, 1, Body::Deleted)))
        .collect();
    let listing = Event::Message {
        session: 1,
        message: Message::Listing {
            upto: LEVELS,
            complete: true,
            entries,
        },
    };
    let agreed = Event::Message {
        session: 1,
        message: Message::Join {
            stand: Stand::Agrees,
        },
    };
    let mut events = session(HAVE);
    events.extend([Event::Scanned, listing, agreed]);
    let mut removed = Vec::new();
    for action in place.engine.step(Instant::now(), events).unwrap() {
        match action {
            Action::Apply(job) => removed.push(job.path),
            Action::Tell(News::Held(held)) => panic!("{held:?}"),
            _ => {}
        }
    }
    let expected: Vec<_> = (0..LEVELS).rev().map(|n| below(n).unwrap()).collect();
    assert!(
        removed == expected,
        "what is in a folder goes before the folder"
    );
}

fn rules(text: &str) -> Arc<crate::ignore::Rules> {
    Arc::new(crate::ignore::Rules::read(text.as_bytes()).unwrap().0)
}

/// What the engine does about these rules.
fn take_rules(place: &mut Place, text: &str) -> Vec<Action> {
    let observation = Observation {
        path: RelPath::parse(b".leftignore").unwrap(),
        compared_with: None,
        seen: Seen::Rules(rules(text)),
    };
    let events = [Event::Observed(vec![observation]), Event::Scanned];
    place.engine.step(Instant::now(), events).unwrap()
}

/// Entries, a want, and a removal.
fn known_and_wanted(place: &Place) {
    let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
    let here = ReplicaId(1);
    let entry = |body| crate::merge::changed_here(None, body, 0o755, here, 1);
    let put = |text: &str, entry| Change::Put {
        path: path(text),
        entry,
        stamp: None,
    };
    let known = entry(Body::Deleted);
    let deleted = crate::merge::changed_here(Some(&known), Body::Deleted, 0, ReplicaId(2), 1);
    let changes = [
        put("d", entry(Body::Dir)),
        put("d/e", entry(Body::Dir)),
        put("d/e/file", file("one", 1, 0)),
        put("f", file("two", 1, 0)),
        put("gone", entry(Body::Deleted)),
        Change::Want {
            path: path("d/new"),
            entry: file("new", 0, 1),
        },
        Change::Want {
            path: path("f"),
            entry: deleted,
        },
    ];
    place.index.commit(&changes).unwrap();
}

#[test]
fn ignore_added_later_is_forgotten_and_nobody_is_told() {
    let mut place = place();
    known_and_wanted(&place);
    let actions = take_rules(&mut place, "d/\nf\ngone");
    assert_eq!(place.index.counts().unwrap(), (0, 0));
    assert_eq!(
        (place.index.live().unwrap(), place.index.seq().unwrap()),
        (0, 5)
    );
    assert!(place.index.listed_after(0, 9).unwrap().is_empty());
    let id = ContentId(*blake3::hash(b"one").as_bytes());
    assert!(place.index.paths_of(id, 9).unwrap().is_empty());
    assert!(place.index.is_clean().unwrap());
    let quiet = actions
        .iter()
        .all(|action| matches!(action, Action::Tell(_)));
    assert!(quiet, "{actions:?}");
}

#[test]
fn crash_between_new_rules_and_what_they_mean_is_made_up_for() {
    let mut place = place();
    known_and_wanted(&place);
    place.index.commit(&[Change::Rules(rules("d"))]).unwrap();
    let mut engine = Engine::new(place.index.clone(), Instant::now());
    assert!(!place.index.is_clean().unwrap());
    engine.step(Instant::now(), []).unwrap();
    assert!(place.index.is_clean().unwrap());
    assert_eq!(place.index.counts().unwrap(), (2, 1));
    place.engine = engine;
    // The same rules once more say nothing new.
    let seq = place.index.seq().unwrap();
    take_rules(&mut place, "d");
    assert_eq!(place.index.seq().unwrap(), seq);
    assert_eq!(place.index.counts().unwrap(), (2, 1));
}

#[test]
fn the_peer_lists_again_when_less_is_ignored_also_if_it_was_told_otherwise() {
    let mut place = place();
    let heard = Heard {
        replica: 5,
        epoch: 6,
        run: 1,
        upto: 7,
        partial: false,
        joined: true,
    };
    place.index.commit(&[Change::Heard(heard)]).unwrap();
    take_rules(&mut place, "a\nb");
    // More is no reason.
    assert_eq!(place.index.heard().unwrap(), heard);
    let up = |session, told_upto| Event::SessionUp {
        session,
        peer_replica: 5,
        peer_epoch: 6,
        peer_run: 1,
        peer_share: None,
        have: HAVE,
        told_upto,
    };
    place.engine.step(Instant::now(), [up(1, 7)]).unwrap();
    let hangs_up = |actions: &[Action], id| {
        let mut all = actions.iter();
        all.any(|action| matches!(action, Action::HangUp { session } if *session == id))
    };
    let actions = take_rules(&mut place, "a");
    assert!(hangs_up(&actions, 1), "{actions:?}");
    let forgotten = place.index.heard().unwrap();
    assert_eq!((forgotten.upto, forgotten.partial), (0, true));
    // Said before that, and on its way since.
    let actions = place.engine.step(Instant::now(), [up(2, 7)]).unwrap();
    assert!(hangs_up(&actions, 2), "{actions:?}");
    let actions = place.engine.step(Instant::now(), [up(3, 0)]).unwrap();
    assert!(!hangs_up(&actions, 3), "{actions:?}");
}

#[test]
fn meta_first_join_mtimes_are_no_reason_to_ask() {
    let place = place();
    let path = RelPath::parse(b"f").unwrap();
    let by = |replica, secs| {
        let mtime = Mtime { secs, nanos: 0 };
        let body = match file("same", 1, 0).body {
            Body::File { id, size, .. } => Body::File { id, size, mtime },
            other => other,
        };
        let version = VersionVector::from_pairs([(ReplicaId(replica), 1)]);
        Entry::of(body, 0o644, version)
    };
    // Whoever has the higher id: in one of the two cases the peer has to act.
    for (here, there) in [(1, 2), (2, 1)] {
        let (mine, theirs) = (by(here, 1), by(there, 2));
        let put = Change::Put {
            path: path.clone(),
            entry: mine,
            stamp: None,
        };
        let want = Change::Want {
            path: path.clone(),
            entry: theirs,
        };
        place.index.commit(&[put, want]).unwrap();
        assert_eq!(place.engine.count().unwrap().differ, 0);
    }
}
