//! What the product promises, shown through the real executable. The table of contents.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says"
)]

mod harness;

mod framing; // requests that are refused, and why: every case of h1_cases.jsonl
