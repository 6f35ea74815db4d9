//! Whatever is taken for the head of a response is read alike by a reader that knows only lines and colons.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/response.rs"]
mod response;

fuzz_target!(|bytes: &[u8]| {
    response::check(bytes);
});
