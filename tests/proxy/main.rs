//! What the product promises, shown through the real executable. The table of contents.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says"
)]

mod harness;

mod abuse; // slow clients by the hundred; others do not notice
mod access_log; // a line for each request, where somebody wants one
mod answers; // what a site answers without a backend, and what the door refuses
mod backend_failures; // refused, slow, closed half-way, malformed, gone and back
mod backends; // which one a request goes to, and what happens while none takes it
mod broken_sites; // one bad file harms nobody else; the message shows the line
mod by_command; // what commands that write and remove leave alone, keep, and tell programs
mod changes; // sites added, removed, changed and taken back by command; waited for without a race
mod command_line; // usage, exit codes, addresses in use, what the commands print
mod daemon_file; // onedoor.toml read again: what is in force then, and for whom
mod descriptors; // none left, no memory: said, waited for without spinning, recovered from
mod differential; // nginx and Node behind the door read the same requests, or none
mod drain; // open work finishes; the deadline holds
mod explain; // who answers a request and why, in words; what is said is what happens
mod foreign_clients; // handshakes of OpenSSL, and of browsers as curl-cffi says them
mod forwarding; // headers added, headers removed, an upstream's next use
mod framing; // requests that are refused, and why: every case of the two lists
mod grpc; // real calls of all kinds, from end to end
mod health; // backends that are watched: out and back, names, edits
mod http2; // HTTP/2 clients: the same sites, rules and safety
mod http2_apps; // apps of HTTP/2 by hand: what one exchange does to the connection that others share
mod http2_backends; // apps that speak HTTP/2: one connection for many requests, theirs to end
mod https_backends; // TLS with the app: who is believed, who shares, what a cut means
mod limits; // each limit crossed once
mod messages; // every error that check can print: its place, what is wrong, what to write
mod one_meaning; // what is written, either way, reads alike to every reader
mod operating; // metrics, health, events, the page, status files, top
mod ownership; // who owns a name; renames, vanished folders, restarts
mod panics; // a panic ends one connection, is told and counted once, and leaves nothing behind
mod papers; // the schema, completions, the manual page
mod passthrough; // bytes unchanged, half-close kept, the certificate is the app's
mod permissions; // run by somebody with fewer rights
mod precedence; // exact before wildcard before nothing; the longest path; ties
mod proxy_protocol; // who the client is, in the words of a load balancer, and told to the app
mod readme; // what the README shows is so
mod real_apps; // Python, Node and nginx behind the door
mod regressions; // one test for each bug that was found, named after what is right instead
mod reload; // added, changed, removed, many at once, during traffic
mod routing_by_host; // which site gets a request; several on one connection
mod routing_by_sni; // which site gets a TLS connection, however its hello arrives; who gets an alert
mod screens; // how commands look: to a person, in a pipe, on a terminal
mod soak; // mixed work during edits; afterwards everything is as before
mod state_directory; // full, not to be written, taken away
mod streaming; // bodies whole, at once, in bounded memory
mod termination; // TLS that ends here: whose certificate, and what a connection may ask for
mod upgrade; // a tunnel only after the app's 101, whole in both directions
mod vanishing; // clients and backends that are suddenly gone, in every phase
mod waiting; // what deploy scripts wait for, and what they are told when it does not come
mod watching; // changes are noticed without events, behind mounts, under a wrong clock
