//! The words a test may use.

mod backend;
mod certificates;
mod client;
mod folder;
mod golden;
pub(crate) mod hpack;
pub(crate) mod http2;
mod message;
mod network;
mod port;
mod proxy;
mod random;
mod reading;
mod script;
mod server;
mod sites;
mod tls;
mod under_way;
mod wait;

pub(crate) use backend::{Backend, Conversation};
pub(crate) use certificates::{Authority, Pair, put};
pub(crate) use client::{Client, Cut, Response};
pub(crate) use folder::Folder;
pub(crate) use golden::is_golden;
pub(crate) use message::{Request, from_latin1, latin1};
pub(crate) use network::in_a_network_of_its_own;
pub(crate) use port::free_port;
pub(crate) use proxy::{Plan, Proxy, found, hanging_at, has_package, may_mount, onedoor, words_of};
pub(crate) use random::Random;
pub(crate) use reading::{Kind as ReadingKind, Read as Reading, read_alike};
pub(crate) use script::Script;
pub(crate) use server::Server;
pub(crate) use sites::Sites;
pub(crate) use tls::{Agreed, Tls, in_records, is_same, tls_app, with_secrets};
pub(crate) use under_way::{UnderWay, under_way};
pub(crate) use wait::{PATIENCE, suspend, until, until_late, until_some};
