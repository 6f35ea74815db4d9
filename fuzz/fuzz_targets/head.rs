//! However the bytes of a head arrive, and whatever follows them, they are read the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::http::h1::head::{HeadLimits, HeadRefusal, Method, Parsed, Room, request, response, trailers};
use onedoor::limits::MOST_FIELDS;

fuzz_target!(|bytes: &[u8]| {
    if bytes.len() <= 1024 {
        all_heads_are_steady(bytes);
    }
});

/// What is asked of every parser of a head: the answer does not depend on what follows, every prefix needs more, and
/// a refusal is never taken back.
fn steady(bytes: &[u8], read: impl Fn(&[u8]) -> Result<Option<(String, usize)>, HeadRefusal>) {
    let whole = read(bytes);
    if let Ok(Some((head, end))) = &whole {
        assert_eq!(read(&bytes[..*end]), Ok(Some((head.clone(), *end))));
        for cut in 0..*end {
            assert_eq!(read(&bytes[..cut]), Ok(None), "the first {cut} bytes of {}", bytes.escape_ascii());
        }
        return;
    }
    let mut refused = false;
    for cut in 0..=bytes.len() {
        match read(&bytes[..cut]) {
            Ok(None) => assert!(!refused, "{cut} bytes of {}", bytes.escape_ascii()),
            Err(_) => refused = true,
            Ok(Some(_)) => panic!("complete only in the first {cut} bytes of {}", bytes.escape_ascii()),
        }
    }
}

/// Small ones, so that they are crossed.
const SMALL: HeadLimits = HeadLimits {
    line_bytes: 80,
    field_bytes: 100,
    fields: 8,
    head_bytes: 400,
};

fn all_heads_are_steady(bytes: &[u8]) {
    steady(bytes, |bytes| {
        let mut room = Room::new();
        Ok(match request(bytes, &SMALL, &mut room)? {
            Parsed::Complete(head) => Some((format!("{head:?}"), head.bytes)),
            Parsed::NeedMore => None,
        })
    });
    for method in [Method::Head, Method::Other] {
        steady(bytes, |bytes| {
            let mut room = Room::new();
            Ok(match response(bytes, method, &SMALL, &mut room)? {
                Parsed::Complete(head) => Some((format!("{head:?}"), head.bytes)),
                Parsed::NeedMore => None,
            })
        });
    }
    steady(bytes, |bytes| {
        let mut room = [httparse::EMPTY_HEADER; MOST_FIELDS];
        Ok(match trailers(bytes, &SMALL, &mut room)? {
            Parsed::Complete((fields, end)) => Some((format!("{fields:?}"), end)),
            Parsed::NeedMore => None,
        })
    });
}
