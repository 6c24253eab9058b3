//! What rules mean; and that git means the same.

use super::*;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn rules(text: &str) -> Rules {
    let (rules, bad) = Rules::read(text.as_bytes()).unwrap();
    assert_eq!(bad, [], "{text}");
    rules
}

/// Whether a path is ignored; that of a folder ends in a slash.
fn ignores(rules: &Rules, path: &str) -> bool {
    let is_dir = path.ends_with('/');
    let path = RelPath::parse(path.trim_end_matches('/').as_bytes()).unwrap();
    rules.ignores(&path, is_dir)
}

fn check(text: &str, ignored: &[&str], others: &[&str]) {
    let rules = rules(text);
    for path in ignored {
        assert!(ignores(&rules, path), "{text:?} is to ignore {path}");
    }
    for path in others {
        assert!(!ignores(&rules, path), "{text:?} is not to ignore {path}");
    }
}

#[test]
fn rules_mean_what_they_mean_to_git() {
    check("", &[], &["a"]);
    check("# a\n\n  \n\\#b\n\\!c", &["#b", "!c"], &["# a", "a", "c"]);
    check("a", &["a", "d/a", "a/b", "d/a/b/c"], &["ab", "b"]);
    check("/a", &["a", "a/b"], &["d/a"]);
    check("d/a", &["d/a", "d/a/b"], &["e/d/a", "a"]);
    check("a/", &["a/", "d/a/", "a/b"], &["a", "d/a"]);
    check("*.o\n!keep.o", &["x.o", "d/.o"], &["keep.o", "x.obj"]);
    // What is in an ignored folder does not come back.
    check("d\n!d/a", &["d/", "d/a"], &[]);
    check("d/*\n!d/a", &["d/b"], &["d/", "d/a"]);
    check("**/a", &["a", "x/a", "x/y/a"], &["xa"]);
    check("a/**", &["a/b", "a/b/c"], &["a/", "x/a/b"]);
    check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "x/a/b"]);
    check("a?c", &["abc"], &["a/c", "ac", "abbc"]);
    check("x[a-c]y", &["xay", "xcy"], &["xdy", "x/y"]);
    check("x[!a-c]y", &["xdy"], &["xay", "x/y"]);
    check("[]a]", &["]", "a"], &["b"]);
    check("[[:digit:]x]", &["7", "x"], &["y"]);
    check("a\\*b", &["a*b"], &["axb"]);
    check("a  \nb\\ \nc\t", &["a", "b ", "c\t"], &["b", "c"]);
    check("a\r\nb\r\n", &["a", "b"], &[]);
    check("\u{feff}a", &["a"], &[]);
}

#[test]
fn the_rules_themselves_are_not_ignored() {
    check("*", &["a", "d/.leftignore"], &[RULES_FILE]);
    check(".leftignore", &[], &[RULES_FILE]);
}

#[test]
fn name_non_utf8_names_are_bytes() {
    let (rules, _) = Rules::read(b"\xff?\n[\xf0-\xfe]").unwrap();
    let ignores = |path: &[u8]| rules.ignores(&RelPath::parse(path).unwrap(), false);
    assert!(ignores(b"\xff\x80"));
    assert!(ignores(b"\xf7"));
    assert!(!ignores(b"\xff"));
}

#[test]
fn a_line_that_cannot_be_understood_is_left_out_and_the_others_hold() {
    let text = b"a\n[b\nc\\\nd\0\n[[:letter:]]\n!e\nf";
    let (rules, bad) = Rules::read(text).unwrap();
    let numbers: Vec<_> = bad.iter().map(|line| line.number).collect();
    assert_eq!(numbers, [2, 3, 4, 5]);
    assert_eq!(rules.len(), 3);
    assert!(ignores(&rules, "f"));
    let long = [vec![b'x'; 9000], b"\ny".to_vec()].concat();
    let (rules, bad) = Rules::read(&long).unwrap();
    assert_eq!((rules.len(), bad[0].number), (1, 1));
}

#[test]
fn there_are_not_too_many_rules() {
    assert_eq!(rules(&"a\n".repeat(RULES_MAX)).len(), RULES_MAX);
    let more = "a\n".repeat(RULES_MAX + 1);
    assert_eq!(Rules::read(more.as_bytes()), Err(TooMany));
}

#[test]
fn rules_come_back_from_their_bytes() {
    let rules = rules("# x\na \n!b/\n\\ \n[x]/**\n");
    assert_eq!(Rules::read(&rules.to_bytes()), Ok((rules, vec![])));
}

#[test]
fn rules_that_ignore_less_are_recognised() {
    let more = |new: &str, old: &str| rules(new).ignore_all_of(&rules(old));
    for (new, old) in [
        ("a", ""),
        ("a\n!b", ""),
        ("a\nb", "a"),
        ("a\nb", "b"),
        ("a\nc\n!b", "a\n!b"),
        ("a", "a\n!b"),
        ("a\n!b", "a\n!c\n!b"),
        ("# other\na", "a"),
    ] {
        assert!(more(new, old), "{new:?} after {old:?}");
    }
    for (new, old) in [
        ("", "a"),
        ("b", "a"),
        ("a\n!b", "a"),
        ("!b\na", "a\n!b\nc"),
        ("b\na\n!c", "a\nb\n!c"),
    ] {
        assert!(!more(new, old), "{new:?} after {old:?}");
    }
}

#[test]
fn rules_made_to_take_long_do_not() {
    let name = "a".repeat(250);
    let path = vec![name.as_str(); 16].join("/");
    let began = Instant::now();
    for text in [
        format!("{}b", "*a".repeat(120)),
        format!("{}b", "**/*a*/".repeat(200)),
        format!("{}b", "**/".repeat(1000)),
        format!("/{}b", "*/".repeat(1000)),
        format!("{}b", "[a-z]*".repeat(900)),
    ] {
        check(&text, &[], &[&path]);
    }
    // Exponential ones would not end at all.
    assert!(began.elapsed() < Duration::from_secs(30));
}

struct Noise(blake3::OutputReader);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes) as usize % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Pieces of patterns. Left out is what git does other than it says: `**` that
    /// is only a part of a name, and `**\/`.
    fn line(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 26] = [
            b"a",
            b"b",
            b"ab",
            b".",
            b"*",
            b"?",
            b"[ab]",
            b"[!a]",
            b"[^b]",
            b"[a-b]",
            b"[]a]",
            b"[a",
            b"[[:alpha:]]",
            b"[[:punct:]b]",
            b"[\\]a]",
            b"\\a",
            b"\\*",
            b"\\ ",
            b" ",
            b"#",
            b"!",
            b"-",
            b"\xff",
            b"[\xf0-\xff]",
            b"[!-a]",
            b"\\",
        ];
        let mut line = Vec::new();
        if self.below(4) == 0 {
            line.push(b'!');
        }
        if self.below(4) == 0 {
            line.push(b'/');
        }
        for name in 0..1 + self.below(3) {
            if name > 0 {
                line.push(b'/');
            }
            if self.below(4) == 0 {
                line.extend_from_slice(b"**");
                continue;
            }
            for _ in 0..1 + self.below(3) {
                let piece = self.pick(&PIECES);
                let is_star = |end: Option<&u8>| end == Some(&b'*');
                if !(is_star(line.last()) && is_star(piece.first())) {
                    line.extend_from_slice(piece);
                }
            }
        }
        for end in [&b"/"[..], b" ", b"\r"] {
            if self.below(5) == 0 {
                line.extend_from_slice(end);
            }
        }
        line
    }

    fn path(&mut self) -> Vec<u8> {
        const NAMES: [&[u8]; 13] = [
            b"a", b"b", b"ab", b"ba", b"aab", b".a", b"a ", b"*", b"#a", b"!a", b"\xffa", b"]",
            b"-",
        ];
        let names: Vec<_> = (0..1 + self.below(3)).map(|_| self.pick(&NAMES)).collect();
        names.join(&b'/')
    }
}

/// What git says of paths in a real tree, by its rules.
fn git_ignores(tree: &std::path::Path, text: &[u8], paths: &[Vec<u8>]) -> Vec<bool> {
    std::fs::write(tree.join(".gitignore"), text).unwrap();
    let mut git = Command::new("git")
        .args(["check-ignore", "--no-index", "--stdin", "-z", "-v", "-n"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = git.stdin.take().unwrap();
    let all = paths.join(&0);
    let writer = std::thread::spawn(move || {
        input.write_all(&all).unwrap();
        input.write_all(b"\0").unwrap();
    });
    let out = git.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    let fields: Vec<&[u8]> = out.split(|byte| *byte == 0).collect();
    // Where the rule is from, its line, the rule, the path.
    let answers = fields.chunks_exact(4).zip(paths);
    answers
        .map(|(answer, path)| {
            assert_eq!(answer[3], path);
            !answer[2].is_empty() && !answer[2].starts_with(b"!")
        })
        .collect()
}

#[test]
fn random_rules_are_understood_as_git_does() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new("git")
        .args(["init", "-q"])
        .current_dir(dir.path())
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: there is no git to compare with");
        return;
    }
    let at = |path: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(path));
    let mut noise = Noise(blake3::Hasher::new().update(b"rules").finalize_xof());
    let mut paths = std::collections::BTreeSet::new();
    for n in 0..250 {
        let path = noise.path();
        // Where there is a file, nothing can be below it.
        let made = match n % 2 {
            0 => std::fs::create_dir_all(at(&path)),
            _ => std::fs::create_dir_all(at(&path).parent().unwrap())
                .and_then(|()| std::fs::File::create_new(at(&path)).map(drop)),
        };
        if made.is_ok() {
            paths.insert(path);
        }
    }
    let paths: Vec<_> = paths.into_iter().collect();
    let mut ignored = 0;
    for _ in 0..150 {
        let lines: Vec<_> = (0..1 + noise.below(6)).map(|_| noise.line()).collect();
        let text = lines.join(&b'\n');
        let (rules, _) = Rules::read(&text).unwrap();
        for (path, expected) in paths.iter().zip(git_ignores(dir.path(), &text, &paths)) {
            let is_dir = at(path).is_dir();
            let ours = rules.ignores(&RelPath::parse(path).unwrap(), is_dir);
            let shown = (
                String::from_utf8_lossy(&text),
                String::from_utf8_lossy(path),
            );
            assert_eq!(ours, expected, "{shown:?}, a folder: {is_dir}");
            ignored += usize::from(ours);
        }
    }
    assert!(ignored > 1000, "{ignored}");
}
