//! Which site answers for a name: all patterns of all sites, built once and then only read.
//!
//! Sharded so that one changed site costs the rebuilding of a shard or two, however many sites there are.

pub mod current;

pub use current::Snapshot;

/// All patterns of all sites.
#[derive(Debug)]
pub struct RouteTable {}
