//! One rule: a line, and whether it is about a path.

/// A longer line matches no path that there can be, but for its escapes.
const LINE_BYTES_MAX: usize = 8192;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As it was written.
    pub(super) line: Box<[u8]>,
    /// It makes an exception from rules before it.
    pub(super) is_negative: bool,
    pub(super) only_folders: bool,
    /// It is about the whole path; else about its last name.
    is_of_path: bool,
    tokens: Box<[Token]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any byte of a name.
    Any,
    /// Any bytes of a name, also none.
    Star,
    /// One of these bytes.
    Set(Box<Set>),
    /// Any folders one in the other, also none.
    Folders,
    /// Everything from here on.
    Rest,
}

/// Which bytes are in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set([u64; 4]);

impl Set {
    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte / 64)] >> (byte % 64) & 1 == 1
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
}

impl Pattern {
    /// Reads a line; `None` of one that says nothing.
    pub(super) fn read(line: &[u8]) -> Result<Option<Self>, &'static str> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') {
            return Ok(None);
        }
        let line = &line[..end_without_spaces(line)];
        if line.len() > LINE_BYTES_MAX {
            return Err("it is longer than 8192 bytes");
        }
        if line.contains(&0) {
            return Err("it has a NUL byte");
        }
        let (rest, is_negative) = match line.strip_prefix(b"!") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let (rest, only_folders) = match rest.strip_suffix(b"/") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let is_of_path = rest.contains(&b'/');
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        if rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            line: line.into(),
            is_negative,
            only_folders,
            is_of_path,
            tokens: tokens(rest)?.into(),
        }))
    }

    /// Whether it is about what is at `path`, which ends in `name`, a folder or not.
    pub(super) fn matches(&self, path: &[u8], name: &[u8], is_dir: bool) -> bool {
        let text = if self.is_of_path { path } else { name };
        (is_dir || !self.only_folders) && matches(&self.tokens, text)
    }
}

/// Spaces at the end do not count, unless escaped.
fn end_without_spaces(line: &[u8]) -> usize {
    let (mut end, mut at) = (0, 0);
    while at < line.len() {
        let length = if line[at] == b'\\' { 2 } else { 1 };
        let counts = line[at] != b' ';
        at = (at + length).min(line.len());
        if counts {
            end = at;
        }
    }
    end
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        tokens.push(match byte {
            b'?' => Token::Any,
            b'*' => {
                let begins_name = at == 1 || text[at - 2] == b'/';
                let stars = text[at..].iter().take_while(|byte| **byte == b'*').count();
                at += stars;
                match text.get(at) {
                    None if stars > 0 && begins_name => Token::Rest,
                    Some(b'/') if stars > 0 && begins_name => {
                        at += 1;
                        Token::Folders
                    }
                    _ => Token::Star,
                }
            }
            b'[' => {
                let (set, length) = Set::read(&text[at..])?;
                at += length;
                Token::Set(Box::new(set))
            }
            b'\\' => {
                let escaped = text.get(at).ok_or("nothing follows its last \\")?;
                at += 1;
                Token::Byte(*escaped)
            }
            other => Token::Byte(*other),
        });
    }
    Ok(tokens)
}

impl Set {
    /// Reads what follows a `[`, and says how far it goes.
    fn read(text: &[u8]) -> Result<(Self, usize), &'static str> {
        const OPEN: &str = "its [ is not closed";
        let is_negative = matches!(text.first(), Some(b'!' | b'^'));
        let mut at = usize::from(is_negative);
        let mut set = Set([0; 4]);
        let mut before = None;
        let mut is_first = true;
        loop {
            let byte = *text.get(at).ok_or(OPEN)?;
            at += 1;
            if byte == b']' && !is_first {
                break;
            }
            is_first = false;
            let escaped = |at: &mut usize, byte: u8| match byte {
                b'\\' => {
                    *at += 1;
                    text.get(*at - 1).copied().ok_or(OPEN)
                }
                other => Ok(other),
            };
            let next = text.get(at).copied();
            match (byte, before, next) {
                (b'-', Some(from), Some(to)) if to != b']' => {
                    at += 1;
                    let to = escaped(&mut at, to)?;
                    (from..=to).for_each(|byte| set.add(byte));
                    before = None;
                }
                (b'[', _, Some(b':')) => {
                    let rest = &text[at + 1..];
                    let end = rest.iter().position(|byte| *byte == b']').ok_or(OPEN)?;
                    match rest[..end].strip_suffix(b":") {
                        Some(name) => {
                            let is_in = class(name).ok_or("it has a [:class:] of no such name")?;
                            let all = (0..=255).filter(|byte| is_in(*byte));
                            all.for_each(|byte| set.add(byte));
                            at += end + 2;
                            before = None;
                        }
                        None => {
                            set.add(b'[');
                            before = Some(b'[');
                        }
                    }
                }
                _ => {
                    let byte = escaped(&mut at, byte)?;
                    set.add(byte);
                    before = Some(byte);
                }
            }
        }
        if is_negative {
            set.0.iter_mut().for_each(|bits| *bits = !*bits);
        }
        // No set is of a slash.
        set.0[0] &= !(1 << b'/');
        Ok((set, at))
    }
}

/// The bytes of a class; only ASCII ones are in any.
fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |byte| byte.is_ascii_alphanumeric(),
        b"alpha" => |byte| byte.is_ascii_alphabetic(),
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => |byte| byte.is_ascii_control(),
        b"digit" => |byte| byte.is_ascii_digit(),
        b"graph" => |byte| byte.is_ascii_graphic(),
        b"lower" => |byte| byte.is_ascii_lowercase(),
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => |byte| byte.is_ascii_punctuation(),
        b"space" => |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => |byte| byte.is_ascii_uppercase(),
        b"xdigit" => |byte| byte.is_ascii_hexdigit(),
        _ => return None,
    })
}

/// Whether the tokens are the whole of a text. Where they are not, only the last star
/// and the last [`Token::Folders`] take more: what was before them took as
/// little as it could, so no other way could lead further.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // What follows each, and up to where it took the text.
    let mut star: Option<(usize, usize)> = None;
    let mut folders: Option<(usize, usize)> = None;
    loop {
        let byte = text.get(at).copied();
        let goes_on = match (tokens.get(token), byte) {
            (None, None) | (Some(Token::Rest), _) => return true,
            (Some(Token::Star), _) => {
                star = Some((token + 1, at));
                token += 1;
                continue;
            }
            (Some(Token::Folders), _) => {
                star = None;
                folders = Some((token + 1, at));
                token += 1;
                continue;
            }
            (Some(Token::Byte(expected)), Some(byte)) => *expected == byte,
            (Some(Token::Any), Some(byte)) => byte != b'/',
            (Some(Token::Set(set)), Some(byte)) => set.has(byte),
            _ => false,
        };
        if goes_on {
            if byte == Some(b'/') {
                // A name that was matched once could only be so again.
                star = None;
            }
            token += 1;
            at += 1;
            continue;
        }
        if let Some((after, from)) = star
            && text.get(from).is_some_and(|byte| *byte != b'/')
        {
            star = Some((after, from + 1));
            (token, at) = (after, from + 1);
            continue;
        }
        let Some((after, from)) = folders else {
            return false;
        };
        let Some(slash) = text[from..].iter().position(|byte| *byte == b'/') else {
            return false;
        };
        star = None;
        folders = Some((after, from + slash + 1));
        (token, at) = (after, from + slash + 1);
    }
}
