//! Whatever is taken for the head of a response, a reader that knows nothing but lines and colons reads the same in it.
//!
//! Used by the fuzz target `response` and, with its corpus, by `tests/proxy/framing.rs`.

use onedoor::http::h1::head::{Framing, HeadLimits, Method, Parsed, ResponseHead, Room, response};

const LIMITS: HeadLimits = HeadLimits {
    line_bytes: 8 << 10,
    field_bytes: 16 << 10,
    fields: 100,
    head_bytes: 32 << 10,
};

/// Panics where the two readings differ. Says whether it was taken for the head of a response to a GET.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let mut taken = false;
    for method in [Method::Head, Method::Other] {
        let mut room = Room::new();
        taken = false;
        if let Ok(Parsed::Complete(head)) = response(bytes, method, &LIMITS, &mut room) {
            taken = true;
            reads_the_same(&head, &bytes[..head.bytes], method);
        }
    }
    taken
}

fn reads_the_same(head: &ResponseHead<'_>, bytes: &[u8], method: Method) {
    let shown = bytes.escape_ascii();
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n'), "a CR alone: {shown}"),
            b'\n' => assert_eq!(bytes[at - 1], b'\r', "an LF alone: {shown}"),
            b'\t' => {}
            _ => assert!(byte >= b' ' && byte != 0x7f, "a control byte: {shown}"),
        }
    }
    let text: String = bytes.iter().map(|&byte| byte as char).collect();
    let mut lines = text
        .strip_suffix("\r\n\r\n")
        .expect("an empty line ends it")
        .split("\r\n");
    let first = lines.next().expect("a status line");
    let version = first.strip_prefix("HTTP/1.").expect("a version");
    assert_eq!(version[2..5].parse(), Ok(head.status), "{shown}");
    assert!(
        version[1..2] == *" " && matches!(version.as_bytes().get(5), None | Some(b' ')),
        "{shown}"
    );

    let mut lengths = Vec::new();
    let mut codings = Vec::new();
    let mut closes = false;
    let mut count = 0;
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field has a colon");
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        assert!(
            !name.is_empty() && name.chars().all(is_token),
            "a name that is none: {shown}"
        );
        let (read, _) = head
            .fields
            .iter()
            .nth(count)
            .expect("as many fields as lines");
        count += 1;
        let value = bare(value);
        let same: String = read.value.iter().map(|&byte| byte as char).collect();
        assert_eq!((read.name, same.as_str()), (name, value), "{shown}");
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.extend(value.split(',').map(bare).map(str::to_owned)),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            "connection" => {
                closes |= value
                    .split(',')
                    .any(|option| bare(option).eq_ignore_ascii_case("close"))
            }
            _ => {}
        }
    }
    assert_eq!(head.fields.iter().count(), count, "{shown}");

    let length = lengths
        .first()
        .map(|length| length.parse::<u64>().expect("a length is a number"));
    assert!(
        lengths.iter().all(|other| other.parse().ok() == length),
        "{shown}"
    );
    let bodiless =
        method == Method::Head || head.status < 200 || head.status == 204 || head.status == 304;
    let framing = match (codings.as_slice(), length) {
        _ if bodiless => Framing::None,
        ([coding], _) if coding == "chunked" => Framing::Chunked,
        ([], Some(length)) => Framing::Length(length),
        ([], None) => Framing::Close,
        _ => panic!("a coding that nobody takes off: {shown}"),
    };
    assert_eq!(head.framing, framing, "{shown}");
    if head.reusable {
        assert!(
            version.starts_with('1') && !closes && framing != Framing::Close,
            "{shown}"
        );
        assert!(codings.is_empty() || length.is_none(), "{shown}");
    }
}

/// Without the whitespace that HTTP has (RFC 9110 5.6.3). A no-break space is another character.
fn bare(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
