//! The route table in force: publish a table, take a snapshot.

use std::sync::Arc;
/// The route table as it was at one moment.
pub type Snapshot = Arc<super::RouteTable>;
