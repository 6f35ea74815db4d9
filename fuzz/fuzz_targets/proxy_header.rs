//! However the bytes of a PROXY header arrive, and whatever follows them, they are read the same way, and written back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onedoor::proxy_header::{Beside, read, write};
use onedoor::parsed::Parsed;
use onedoor::site::SendProxy;

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    let Ok(Parsed::Complete(header)) = whole else {
        let mut refused = None;
        for cut in 0..=bytes.len() {
            let now = read(&bytes[..cut]);
            assert!(!matches!(now, Ok(Parsed::Complete(_))), "complete only in the first {cut} bytes");
            assert!(refused.is_none() || refused == now.err());
            refused = now.err();
        }
        return;
    };
    for cut in 0..header.bytes {
        assert_eq!(read(&bytes[..cut]), Ok(Parsed::NeedMore), "the first {cut} bytes");
    }
    assert_eq!(read(&bytes[..header.bytes]), whole);
    let Some(ends) = header.ends else { return };
    for version in [SendProxy::V1, SendProxy::V2] {
        let mut out = Vec::new();
        write(&mut out, version, ends, Beside { sni: Some("a.test"), alpn: bytes });
        assert!(matches!(read(&out), Ok(Parsed::Complete(again)) if again.bytes == out.len()));
    }
});
