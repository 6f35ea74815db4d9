//! However the bytes of a client hello arrive, and whatever follows them, they are read the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::door::client_hello::{HelloRefusal, Room, read};
use onedoor::parsed::Parsed;

fuzz_target!(|bytes: &[u8]| is_steady(bytes));

/// Small, so that it is crossed.
const MOST: usize = 2000;

type Said = (Option<String>, Vec<Vec<u8>>, usize);

fn said(bytes: &[u8]) -> Result<Option<Said>, HelloRefusal> {
    let mut room = Room::default();
    Ok(match read(bytes, MOST, &mut room)? {
        Parsed::NeedMore => None,
        Parsed::Complete(hello) => {
            let names = hello.alpn.names().map(<[u8]>::to_vec).collect();
            Some((hello.sni.map(str::to_owned), names, hello.bytes))
        }
    })
}

fn is_steady(bytes: &[u8]) {
    let whole = said(bytes);
    let Ok(Some((name, alpn, end))) = &whole else {
        let mut refused = None;
        for cut in 0..=bytes.len() {
            let now = said(&bytes[..cut]);
            assert!(!matches!(now, Ok(Some(_))), "complete only in the first {cut} bytes");
            assert!(refused.is_none() || refused == now.clone().err());
            refused = now.err();
        }
        return;
    };
    for cut in 0..*end {
        assert_eq!(said(&bytes[..cut]), Ok(None), "the first {cut} bytes");
    }
    assert_eq!(said(&bytes[..*end]), whole);
    assert!(alpn.iter().all(|name| (1..256).contains(&name.len())));
    if let Some(name) = name {
        assert!((1..254).contains(&name.len()) && !name.ends_with('.'));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
    }
    // The same message in other records is the same hello.
    let mut message = Vec::new();
    let mut rest = &bytes[..*end];
    while let [_, _, _, a, b, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]));
        message.extend_from_slice(&behind[..length]);
        rest = &behind[length..];
    }
    for pieces in [2, 3, 50] {
        let size = message.len().div_ceil(pieces);
        let cut: Vec<u8> = message
            .chunks(size)
            .flat_map(|piece| [&[22, 3, 3][..], &(piece.len() as u16).to_be_bytes(), piece].concat())
            .collect();
        assert_eq!(said(&cut), Ok(Some((name.clone(), alpn.clone(), cut.len()))), "in {pieces} records");
    }
}
