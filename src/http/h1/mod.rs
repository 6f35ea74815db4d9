//! HTTP/1.0 and HTTP/1.1: heads, framing, bodies, and the connection they come on.

pub mod chunk;
pub mod head;
