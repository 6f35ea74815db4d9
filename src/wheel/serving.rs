//! What a connection is busy with, by which an edit finds those that it is about.

use std::net::IpAddr;
use std::time::Duration;

use super::Wheel;
use crate::observe::Reason;
use crate::site::tls::MinVersion;

/// Which part of which site a connection is busy with: how a publish finds the connections it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// [`crate::site::Site::number`]: the same for all its versions, so that what began before an edit is still
    /// found after it. [`GONE`] once it is gone.
    pub site: u32,
    /// [`crate::site::Site::version`] it was routed by, or one that puts the same path rules in the same places.
    pub version: u64,
    /// Index of the path rule.
    pub rule: Option<u32>,
    /// Who asked in truth: a trusted proxy's client, or the client itself. `None`: nobody knows.
    pub asker: Option<IpAddr>,
    /// How it came by TLS that ends here. `None`: in clear text, or passed through.
    pub tls: Option<Came>,
}

/// What is known of the TLS of a connection, as far as an edit may ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    pub version: MinVersion,
    /// `Policy::number` of the one it was let in under.
    pub policy: u32,
}

/// Stands in [`Serving::site`] for a site that is gone: its number may be another one's by then.
pub const GONE: u32 = u32::MAX;

/// Why a connection had to end what it was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its site is no more.
    Gone,
    /// Its site is another by now: one that would not admit it, or that gives what began before no more time.
    Edited,
}

impl From<Cut> for Reason {
    fn from(cut: Cut) -> Reason {
        match cut {
            Cut::Gone => Reason::SiteGone,
            Cut::Edited => Reason::SiteEdited,
        }
    }
}

impl Wheel {
    /// Gives every connection for which `choose` names a time at most that long to end what it is doing. `choose`
    /// may say anew what the connection is to be found by.
    pub fn cut(&self, mut choose: impl FnMut(&mut Serving) -> Option<Duration>) {
        let mut filing = self.filing.borrow_mut();
        for index in 0..filing.entries.len() {
            let Some(after) = filing.entries[index].serving.as_mut().and_then(&mut choose) else {
                continue;
            };
            let at = if after.is_zero() {
                self.now()
            } else {
                self.at(after)
            };
            let entry = &mut filing.entries[index];
            entry.cut = entry.cut.min(at);
            if at <= self.now.get() {
                entry.fire();
            } else {
                filing.file_by(index as u32, at, self.now());
            }
        }
    }
}
