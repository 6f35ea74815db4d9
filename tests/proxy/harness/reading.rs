//! Two readers of HTTP/1 that differ as much as readers can: one takes only what the grammar of RFC 9112 allows, the
//! other everything that some server has ever taken. Bytes in which both read the same mean one thing to everybody.
//!
//! Written for this, and no library: hyper and others find lines by the code that onedoor finds them by, and would not
//! see what that overlooks.

use super::message::latin1;

/// A message as a reader understood it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// The words of the first line: three, of which the last may hold spaces in a response.
    pub(crate) first: [String; 3],
    /// Names in lower case, with `-` for every odd character.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Read {
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Request,
    /// To a request of this method.
    ResponseTo(&'a str),
}

/// All messages in `bytes`, which both readers must find alike and whole.
#[track_caller]
pub(crate) fn read_alike(bytes: &[u8], kind: Kind<'_>) -> Vec<Read> {
    let text = latin1(bytes);
    let strict = read_all(&text, kind, strict);
    let strict = strict.unwrap_or_else(|error| panic!("{error}, in {text:?}"));
    let lenient = read_all(&text, kind, lenient);
    let lenient =
        lenient.unwrap_or_else(|error| panic!("to a lenient reader {error}, in {text:?}"));
    assert_eq!(strict, lenient, "in {text:?}");
    strict
}

type Reader = fn(&str, Kind<'_>) -> Result<(Read, usize), String>;

fn read_all(text: &str, kind: Kind<'_>, reader: Reader) -> Result<Vec<Read>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (read, used) = reader(rest, kind)?;
        rest = &rest[used..];
        all.push(read);
    }
    Ok(all)
}

/// How a body ends.
enum End {
    Nothing,
    Length(usize),
    Chunks,
    Close,
}

fn has_no_body(first: &[String; 3], kind: Kind<'_>) -> bool {
    match kind {
        Kind::Request => false,
        Kind::ResponseTo(method) => {
            let status = first[1].as_str();
            method == "HEAD" || status.starts_with('1') || status == "204" || status == "304"
        }
    }
}

/// Only what the grammar allows.
fn strict(text: &str, kind: Kind<'_>) -> Result<(Read, usize), String> {
    let (head, _) = text.split_once("\r\n\r\n").ok_or("a head does not end")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let mut words = line.splitn(3, ' ').map(str::to_owned);
    let mut word = || {
        words
            .next()
            .ok_or_else(|| format!("the first line is {line:?}"))
    };
    let first = [word()?, word()?, word()?];
    let is_first = match kind {
        Kind::Request => {
            is_token(&first[0])
                && !first[1].is_empty()
                && first[1].bytes().all(|byte| byte.is_ascii_graphic())
                && first[2] == "HTTP/1.1"
        }
        Kind::ResponseTo(_) => {
            first[0] == "HTTP/1.1"
                && first[1].len() == 3
                && first[1].bytes().all(|byte| byte.is_ascii_digit())
                && is_value(&first[2])
        }
    };
    if !is_first {
        return Err(format!("the first line is {line:?}"));
    }
    let fields = strict_fields(lines)?;
    let of = |name: &str| -> Vec<&str> {
        let named = fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    };
    let (lengths, codings) = (of("content-length"), of("transfer-encoding"));
    if lengths.len() + codings.len() > 1 {
        return Err("it is framed twice".to_owned());
    }
    if kind == Kind::Request && of("host").len() != 1 {
        return Err("it has not one Host".to_owned());
    }
    let end = match (lengths.first(), codings.first()) {
        _ if has_no_body(&first, kind) => End::Nothing,
        (Some(length), _)
            if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            End::Length(length.parse().map_err(|_| "a length is too large")?)
        }
        (Some(length), _) => return Err(format!("a length is {length:?}")),
        (_, Some(&"chunked")) => End::Chunks,
        (_, Some(coding)) => return Err(format!("a coding is {coding:?}")),
        _ if kind == Kind::Request => End::Nothing,
        _ => End::Close,
    };
    let mut at = head.len() + 4;
    let mut read = Read {
        first,
        fields: folded(fields),
        ..Read::default()
    };
    match end {
        End::Nothing => {}
        End::Length(length) => read.body = taken(text, &mut at, length)?,
        End::Close => {
            read.body = text[at..].to_owned();
            at = text.len();
        }
        End::Chunks => loop {
            let (line, _) = text[at..].split_once("\r\n").ok_or("a chunk has no size")?;
            let plain = line
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            if !plain || line.is_empty() || (line.len() > 1 && line.starts_with('0')) {
                return Err(format!("a chunk's size is {line:?}"));
            }
            at += line.len() + 2;
            let size = usize::from_str_radix(line, 16).map_err(|error| error.to_string())?;
            if size == 0 {
                let rest = &text[at..];
                let (section, used) = match rest.strip_prefix("\r\n") {
                    Some(_) => ("", 2),
                    None => {
                        let (section, _) =
                            rest.split_once("\r\n\r\n").ok_or("trailers do not end")?;
                        (section, section.len() + 4)
                    }
                };
                read.trailers = folded(strict_fields(
                    section.split("\r\n").filter(|line| !line.is_empty()),
                )?);
                at += used;
                break;
            }
            read.body += &taken(text, &mut at, size)?;
            if !text[at..].starts_with("\r\n") {
                return Err("a chunk does not end".to_owned());
            }
            at += 2;
        },
    }
    Ok((read, at))
}

fn strict_fields<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> Result<Vec<(String, String)>, String> {
    lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| format!("a field is {line:?}"))?;
            let value = value.trim_matches([' ', '\t']);
            if is_token(name) && is_value(value) {
                Ok((name.to_ascii_lowercase(), value.to_owned()))
            } else {
                Err(format!("a field is {line:?}"))
            }
        })
        .collect()
}

fn is_token(text: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token_byte)
}

fn is_value(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\t' || (c >= ' ' && c != '\u{7f}'))
}

/// Everything that some server has ever taken: lines that end anyhow, white space anywhere, numbers with something
/// behind them, the coding wherever it stands.
fn lenient(text: &str, kind: Kind<'_>) -> Result<(Read, usize), String> {
    let mut at = 0;
    let mut line = lenient_line(text, &mut at).ok_or("there is no first line")?;
    while line.trim().is_empty() {
        line = lenient_line(text, &mut at).ok_or("there is no first line")?;
    }
    let mut words = line
        .splitn(3, [' ', '\t', '\u{b}', '\u{c}'])
        .map(|word| word.trim().to_owned());
    let first = [(); 3].map(|()| words.next().unwrap_or_default());
    let fields = lenient_fields(text, &mut at)?;
    let last = |name: &str| {
        fields
            .iter()
            .rfind(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    let is_chunked = fields.iter().any(|(name, value)| {
        name == "transfer-encoding" && value.to_ascii_lowercase().contains("chunked")
    });
    let end = match last("content-length") {
        _ if has_no_body(&first, kind) => End::Nothing,
        _ if is_chunked => End::Chunks,
        Some(length) => End::Length(number(length, 10)),
        None if kind == Kind::Request => End::Nothing,
        None => End::Close,
    };
    let mut read = Read {
        first,
        fields: folded(fields),
        ..Read::default()
    };
    match end {
        End::Nothing => {}
        End::Length(length) => read.body = taken(text, &mut at, length)?,
        End::Close => {
            read.body = text[at..].to_owned();
            at = text.len();
        }
        End::Chunks => loop {
            let line = lenient_line(text, &mut at).ok_or("a chunk has no size")?;
            let size = number(line, 16);
            if size == 0 {
                read.trailers = folded(lenient_fields(text, &mut at)?);
                break;
            }
            read.body += &taken(text, &mut at, size)?;
            lenient_line(text, &mut at);
        },
    }
    Ok((read, at))
}

fn lenient_fields(text: &str, at: &mut usize) -> Result<Vec<(String, String)>, String> {
    let mut fields: Vec<(String, String)> = Vec::new();
    loop {
        let line = lenient_line(text, at).ok_or("fields do not end")?;
        if line.is_empty() {
            return Ok(fields);
        }
        if line.starts_with(char::is_whitespace) {
            if let Some((_, value)) = fields.last_mut() {
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let value = value.trim_matches(|c: char| c <= ' ');
            fields.push((name.trim().to_ascii_lowercase(), value.to_owned()));
        }
    }
}

/// Up to a CR, an LF, or both.
fn lenient_line<'a>(text: &'a str, at: &mut usize) -> Option<&'a str> {
    let rest = &text[*at..];
    let end = rest.find(['\r', '\n'])?;
    let both = rest[end..].starts_with("\r\n");
    *at += end + if both { 2 } else { 1 };
    Some(&rest[..end])
}

/// The digits that come first, behind white space and a sign.
fn number(text: &str, radix: u32) -> usize {
    let text = text
        .trim_start()
        .trim_start_matches('+')
        .trim_start_matches("0x");
    let end = text
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(text.len());
    usize::from_str_radix(&text[..end], radix).unwrap_or(0)
}

fn folded(fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let fold = |(name, value): (String, String)| (name.chars().map(plain).collect(), value);
    fields.into_iter().map(fold).collect()
}

/// As many characters, each of which is one byte.
fn taken(text: &str, at: &mut usize, count: usize) -> Result<String, String> {
    let rest = &text[*at..];
    let body: String = rest.chars().take(count).collect();
    if body.chars().count() < count {
        return Err(format!("a body of {count} bytes is cut"));
    }
    *at += body.len();
    Ok(body)
}
