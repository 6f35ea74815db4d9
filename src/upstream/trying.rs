//! A connect to one of the addresses that a name leads to, and what it tells of that address.
//!
//! One that fails is tried after the others for a while; then one connect tries it again. No site hears of it as long as
//! another address answers.

use std::sync::Arc;

use super::moment;
use crate::site::EndpointState;
use crate::site::addresses::Located;
use crate::site::fitness::Against;

/// See the module. Dropped, it tells nothing: whoever wanted to connect is gone, or had nothing left to try with.
#[derive(Debug)]
pub(super) struct Trying {
    endpoint: Arc<EndpointState>,
    is_trial: bool,
}

impl Trying {
    pub(super) fn at(located: &Located) -> Trying {
        Trying {
            endpoint: Arc::clone(&located.endpoint),
            is_trial: false,
        }
    }

    /// The right to try `located` again, which was out long enough.
    pub(super) fn rested(located: &Located) -> Option<(&Located, Trying)> {
        let endpoint = &located.endpoint;
        let may = !located.is_out()
            && endpoint.fitness.has(Against::Failures)
            && endpoint.outage.trial(moment());
        may.then(|| {
            let mut trying = Trying::at(located);
            trying.is_trial = true;
            (located, trying)
        })
    }

    /// Whether nothing but this attempt asks for that address.
    pub(super) fn is_trial(&self) -> bool {
        self.is_trial
    }

    pub(super) fn accepted(self) {
        let endpoint = &self.endpoint;
        endpoint.connects.ends();
        endpoint.trouble.is_over();
        if endpoint.fitness.has(Against::Failures) {
            endpoint.fitness.clear(Against::Failures, moment());
        }
    }

    /// It did not accept, or not in its time.
    pub(super) fn failed(self) {
        let endpoint = &self.endpoint;
        let now = moment();
        endpoint.connects.failed();
        if self.is_trial || !endpoint.fitness.has(Against::Failures) {
            endpoint.fitness.set(Against::Failures, now);
            endpoint.outage.begins(now);
        }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        if self.is_trial {
            self.endpoint.outage.trial_is_over();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Address;

    #[test]
    fn an_attempt_that_nobody_waited_for_tells_nothing() {
        let located = Located {
            address: Address::loopback(1),
            endpoint: Arc::default(),
            is_out: Arc::default(),
        };
        drop(Trying::at(&located));
        assert!(located.is_fit());
        Trying::at(&located).failed();
        assert!(!located.is_fit());
        Trying::at(&located).accepted();
        assert!(located.is_fit());
    }
}
