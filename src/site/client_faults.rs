//! What was wrong with the certificates of clients that one site turned away, and when each kind was said to the operator
//! last.
//!
//! Takes no room before the first. Belongs to all versions of the site.

use std::fmt;
use std::sync::OnceLock;

use super::fitness::Moment;
use super::said::Said;

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClientFault {
    /// None was shown where one is required.
    Missing,
    UnknownIssuer,
    /// It is over, or has not begun.
    OutOfTime,
    Revoked,
    /// Nobody knows whether it was revoked: there is no list for its authority, or the list has ended.
    Unlisted,
    /// Not made for clients, not signed by whom it says, or with names that can be read in two ways.
    Unfit,
}

/// See the module.
#[derive(Debug, Default)]
pub struct ClientFaults(OnceLock<Box<[Said; ClientFault::COUNT]>>);

impl ClientFault {
    const COUNT: usize = 6;
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClientFault::Missing => "it showed none",
            ClientFault::UnknownIssuer => "it is by no authority in \"ca\"",
            ClientFault::OutOfTime => "it is over, or has not begun",
            ClientFault::Revoked => "its authority has taken it back",
            ClientFault::Unlisted => "\"crl\" has no list of its authority that is in force",
            ClientFault::Unfit => "it is none for clients, or can be read in two ways",
        })
    }
}

impl ClientFaults {
    /// Whether this one is to be said; then how many of its kind have been kept back since the last one that was.
    pub fn is_to_be_said(&self, fault: ClientFault, now: Moment) -> Option<u64> {
        let said = self.0.get_or_init(Box::default);
        said[fault as usize].is_to_be_said(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_minute() {
        assert_eq!(ClientFault::Unfit as usize + 1, ClientFault::COUNT);
        let faults = ClientFaults::default();
        assert_eq!(faults.is_to_be_said(ClientFault::Missing, 1), Some(0));
        assert_eq!(faults.is_to_be_said(ClientFault::Unfit, 1), Some(0));
        for now in [1, 30_000, 60_000] {
            assert_eq!(faults.is_to_be_said(ClientFault::Missing, now), None);
        }
        assert_eq!(faults.is_to_be_said(ClientFault::Missing, 60_001), Some(3));
    }
}
