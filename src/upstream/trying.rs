//! A connect to one of the addresses that a name leads to, and what it tells of that address.
//!
//! One that fails is tried after the others for a while; then one connect tries it again. No site hears of it as long as
//! another address answers.

use super::moment;
use crate::site::EndpointState;
use crate::site::addresses::Located;
use crate::site::fitness::Against;

/// See the module. Given up, also by the end of its time, it has failed.
pub(super) struct Trying<'a> {
    endpoint: Option<&'a EndpointState>,
    is_trial: bool,
}

impl<'a> Trying<'a> {
    pub(super) fn at(endpoint: &'a EndpointState) -> Trying<'a> {
        Trying {
            endpoint: Some(endpoint),
            is_trial: false,
        }
    }

    /// The right to try `located` again, which was out long enough.
    pub(super) fn rested(located: &'a Located) -> Option<(&'a Located, Trying<'a>)> {
        let endpoint = &*located.endpoint;
        let may = !located.is_out()
            && endpoint.fitness.has(Against::Failures)
            && endpoint.outage.trial(moment());
        may.then(|| {
            let trying = Trying {
                endpoint: Some(endpoint),
                is_trial: true,
            };
            (located, trying)
        })
    }

    /// Whether nothing but this attempt asks for that address.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }

    pub(super) fn accepted(mut self) {
        let Some(endpoint) = self.endpoint.take() else {
            return;
        };
        endpoint.connects.ends();
        if endpoint.fitness.has(Against::Failures) {
            endpoint.fitness.clear(Against::Failures, moment());
        }
        self.is_over(endpoint);
    }

    /// We had nothing left to try with.
    pub(super) fn forgive(mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            self.is_over(endpoint);
        }
    }

    fn is_over(&self, endpoint: &EndpointState) {
        if self.is_trial {
            endpoint.outage.trial_is_over();
        }
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let Some(endpoint) = self.endpoint else {
            return;
        };
        let now = moment();
        endpoint.connects.failed();
        if self.is_trial || !endpoint.fitness.has(Against::Failures) {
            endpoint.fitness.set(Against::Failures, now);
            endpoint.outage.begins(now);
        }
        self.is_over(endpoint);
    }
}
