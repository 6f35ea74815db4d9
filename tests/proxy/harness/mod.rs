//! The words a test may use.

mod backend;
mod certificates;
mod client;
mod folder;
mod message;
mod proxy;
mod sites;
mod tls;
mod wait;

pub(crate) use backend::{Backend, Conversation};
pub(crate) use certificates::{Authority, put};
pub(crate) use client::{Client, Cut, Response};
pub(crate) use folder::Folder;
pub(crate) use message::{Request, from_latin1, latin1};
pub(crate) use proxy::{Plan, Proxy, found, may_mount, onedoor, words_of};
pub(crate) use sites::Sites;
pub(crate) use tls::{Agreed, Tls, in_records, is_same, tls_app};
pub(crate) use wait::until;
