//! From a changed file to a published table.

mod claims;
mod guard;
mod settle;
