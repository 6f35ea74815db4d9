#![no_main]
//! The meter of HTTP/2 frames: what is too much at once is too much however it is cut.

use libfuzzer_sys::fuzz_target;
use onedoor::http::h2::meter::{Budget, Meter};

fuzz_target!(|bytes: &[u8]| {
    let budget = Budget {
        resets: 3,
        control: 5,
    };
    let mut whole = Meter::new(budget);
    whole.received(bytes, 0);
    whole.sent(bytes);
    for size in [1, 2, 7, 13] {
        let mut cut = Meter::new(budget);
        for piece in bytes.chunks(size) {
            cut.received(piece, 0);
        }
        for piece in bytes.chunks(size) {
            cut.sent(piece);
        }
        // In pieces it may be found out sooner: what makes the budget grow comes later.
        assert!(cut.excess().is_some() || whole.excess().is_none());
    }
});
