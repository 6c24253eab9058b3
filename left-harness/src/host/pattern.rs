//! Patterns for host names, as `known_hosts` and `ssh_config` have them.

/// Whether a list matches: one of its patterns does, and none of those behind a `!`.
pub fn list_matches<'a>(patterns: impl Iterator<Item = &'a str>, name: &str) -> bool {
    let mut any = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern, name) => return false,
            Some(_) => {}
            None => any |= matches(pattern, name),
        }
    }
    any
}

/// Whether one pattern with `*` and `?` matches all of a name, in any case.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut next) = (0, 0);
    // Where the last star stands, and up to where it has been stretched.
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match pattern.get(next) {
            Some(b'*') => {
                star = Some((next, at));
                next += 1;
            }
            Some(byte) if *byte == b'?' || byte.eq_ignore_ascii_case(&name[at]) => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((place, stretched)) => {
                    star = Some((place, stretched + 1));
                    at = stretched + 1;
                    next = place + 1;
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, name: &str) -> bool {
        list_matches(list.split(','), name)
    }

    #[test]
    fn stars_stretch_and_exclamation_marks_exclude() {
        for (list, name) in [
            ("web", "web"),
            ("WEB", "web"),
            ("*", "anything"),
            ("w*b", "wb"),
            ("*.example.org", "a.b.example.org"),
            ("a*b*c", "axxbyybzzc"),
            ("h?st", "host"),
            ("[web]:22*", "[web]:2222"),
            ("!mail,*", "web"),
            ("x,web", "web"),
        ] {
            assert!(check(list, name), "{list} and {name}");
        }
        for (list, name) in [
            ("web", "webs"),
            ("w?b", "wb"),
            ("*.example.org", "example.org"),
            ("*,!mail", "mail"),
            ("!mail", "web"),
            ("", "web"),
            ("a*b*c", "axxbyyb"),
        ] {
            assert!(!check(list, name), "{list} and {name}");
        }
    }
}
