//! What is wrong with a backend, for the operator: counted each time, said now and then.

use std::time::SystemTime;

use tracing::{info, warn};

use super::{Search, Visit};
use crate::http::kit::Kit;
use crate::site::faults::Fault;
use crate::site::{Member, Site};
use crate::upstream::{UpstreamError, moment};

impl Search<'_, '_> {
    /// The visit has not come to a whole response, and that is the backend's doing. `why` names it.
    pub(in crate::http) fn fails(&self, visit: &Visit<'_>, fault: Fault, why: &str) {
        let site = self.present();
        if let Some((_, member)) = self.visited(site, visit) {
            member.state.unanswered.is_found(why, SystemTime::now());
            fails(self.kit, site, member, fault, why);
        }
    }
}

/// The same for a backend that nothing was sent to.
pub(super) fn fails(kit: &Kit, site: &Site, member: &Member, fault: Fault, why: &str) {
    count(kit, member, fault);
    let Some(kept_back) = member.state.faults.is_to_be_said(fault, moment()) else {
        return;
    };
    let reason = fault.code();
    match kept_back {
        0 => warn!(site = %site.name, backend = %member, %reason, "{why}"),
        more => warn!(site = %site.name, backend = %member, %reason, more, "{why}"),
    }
}

pub(super) fn count(kit: &Kit, member: &Member, fault: Fault) {
    let seat = kit.seat();
    member.state.faults.add(fault, seat.worker, seat.workers);
}

/// A connect has succeeded after others had not.
pub(super) fn accepts_again(site: &Site, member: &Member) {
    if member.state.faults.nobody_is_over() {
        info!(site = %site.name, backend = %member, "it accepts connections again");
    }
}

/// `None`: it is our own.
pub(super) fn of(error: &UpstreamError) -> Option<Fault> {
    match error {
        UpstreamError::Refused { .. } => Some(Fault::Refused),
        UpstreamError::TimedOut { .. } => Some(Fault::Timeout),
        UpstreamError::Tls { .. } => Some(Fault::Tls),
        UpstreamError::NoHttp2 { .. } => Some(Fault::Malformed),
        UpstreamError::Unresolved { .. } => Some(Fault::Unresolved),
        UpstreamError::Exhausted { .. } => None,
    }
}
