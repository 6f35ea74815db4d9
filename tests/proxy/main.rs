//! What the product promises, shown through the real executable. The table of contents.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says"
)]

mod harness;

mod answers; // what a site answers without a backend, and what the door refuses
mod forwarding; // headers added, headers removed, an upstream's next use
mod framing; // requests that are refused, and why: every case of h1_cases.jsonl
mod precedence; // exact before wildcard before nothing; the longest path; ties
mod routing_by_host; // which site gets a request; several on one connection
mod streaming; // bodies whole, at once, in bounded memory
mod upgrade; // a tunnel only after the app's 101, whole in both directions
