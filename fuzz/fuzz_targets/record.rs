//! Nothing is given out of records that was not sent, whatever comes of them on their way.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../checks/record.rs"]
mod record;

fuzz_target!(|bytes: &[u8]| {
    record::check(bytes);
});
