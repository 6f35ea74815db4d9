//! A request that no backend takes just now waits: for its turn where each has its `max`, and for a backend to come back
//! where none is left. It follows its site to the version that serves meanwhile.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use super::round::Round;
use super::{Followed, Found, NotFound, Patient, Search, exchange, lost_since, words};
use crate::http::answer::Answer;
use crate::site::fitness::Moment;
use crate::site::{Backends, EndpointState, Line, Site};
use crate::upstream::{Tried, moment};
use crate::wheel::TICK;

/// How long requests of this site are held.
pub(super) fn length(site: &Site) -> Moment {
    Moment::try_from(site.balancing.hold.as_millis()).unwrap_or(Moment::MAX)
}

impl<'k, 'a> Search<'k, 'a> {
    /// Waits for what `round` did not find, and looks again, until it is there or it has been too long.
    pub(super) async fn hold(
        &mut self,
        mut round: Round<'k>,
        client: &mut impl Patient,
    ) -> Result<Found<'k>, NotFound> {
        let began = moment();
        let site = Arc::clone(self.present());
        if self.until(&site, &round, began) <= began {
            return Err(given_up(&site, round));
        }
        let most = site.limits.queue;
        let line = |search: &Self| search.backends().map_or(Line(0), Backends::line);
        let Some(place) = site.waiting.enter(most, line(self)) else {
            let why = format!("{most} requests wait for a backend already");
            let why = words::of_site(&site, &why);
            return Err(NotFound::Answer(Answer::QueueFull, Some(why)));
        };
        loop {
            let waited = poll_fn(|cx| {
                if client.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(NotFound::ClientGone));
                }
                place.poll_called(cx).map(Ok)
            });
            let is_called = match self.timer.within(TICK, waited).await {
                Ok(waited) => {
                    waited?;
                    true
                }
                Err(_) => false,
            };
            if let Some(cut) = self.timer.cut() {
                return Err(Answer::from(cut).into());
            }
            if self.end.is_some_and(|end| end <= self.timer.wheel().now()) {
                return Err(Answer::BackendTimeout.into());
            }
            let has_moved = self.follow();
            if has_moved {
                place.move_to(line(self));
            }
            let site = Arc::clone(self.present());
            let rule = self.present_rule();
            let Some(backends) = exchange::backends(&site, rule) else {
                return Err(Answer::Internal.into());
            };
            let may_look = match round {
                Round::Full => is_called || place.is_first(),
                _ => is_called || has_moved || lost_since(&site, backends).is_none(),
            };
            // One at a time finds out whether somebody is there again.
            let knock = match may_look {
                true => None,
                false => Knock::at_any(backends),
            };
            if may_look || knock.is_some() {
                self.tried = Tried::default();
                self.full = Tried::default();
                round = match self.round(&site, backends, client).await? {
                    Round::Found(found) => return Ok(found),
                    other => other,
                };
            }
            drop(knock);
            place.wait_on();
            if self.until(&site, &round, began) <= moment() {
                return Err(given_up(&site, round));
            }
        }
    }

    /// When it has been too long.
    fn until(&self, site: &Site, round: &Round<'_>, began: Moment) -> Moment {
        match round {
            // Nobody is waited for who is there.
            Round::Nobody(Some(error)) if !error.is_absence() => 0,
            Round::Full => {
                let queue = site.timeouts.queue.as_millis();
                began.saturating_add(Moment::try_from(queue).unwrap_or(Moment::MAX))
            }
            _ => {
                let backends = exchange::backends(site, self.present_rule());
                let backends = backends.filter(|b| b.list.iter().any(|m| !m.is_drained()));
                // Where all are drained there is nobody to wait for.
                let lost =
                    backends.map_or(0, |backends| lost_since(site, backends).unwrap_or(began));
                lost.saturating_add(if lost == 0 { 0 } else { length(site) })
            }
        }
    }

    /// Goes on with the version of the site that serves now, at the same place. Whether that is another one.
    fn follow(&mut self) -> bool {
        let present = self.present();
        let Some(current) = present.waiting.current() else {
            return false;
        };
        if Arc::ptr_eq(&current, present) {
            return false;
        }
        let old_rule = self.present_rule().and_then(|rule| present.paths.get(rule));
        let rule = old_rule.and_then(|old| {
            let mut paths = current.paths.iter();
            paths.position(|rule| rule.pattern == old.pattern)
        });
        // What answers there in another way is for requests that come now.
        if exchange::backends(&current, rule).is_none() {
            return false;
        }
        self.next = None;
        self.followed = Some(Followed {
            site: current,
            rule,
        });
        true
    }
}

/// The right of one request among those that are held to try an endpoint, over all sites and workers.
struct Knock(Arc<EndpointState>);

impl Knock {
    fn at_any(backends: &Backends) -> Option<Knock> {
        let usable = backends.list.iter().filter(|member| !member.is_drained());
        let mut endpoints = usable.map(|member| &member.state.endpoint);
        let free = endpoints.find(|state| !state.knock.swap(true, Ordering::Acquire))?;
        Some(Knock(Arc::clone(free)))
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.0.knock.store(false, Ordering::Release);
    }
}

fn given_up(site: &Site, round: Round<'_>) -> NotFound {
    let (answer, why) = match round {
        Round::Full => (
            Answer::QueueTimeout,
            "each backend has as many requests as it takes".to_owned(),
        ),
        Round::Nobody(Some(error)) => (Answer::from(&error), words::of(&error)),
        Round::Nobody(None) | Round::Found(_) => {
            (Answer::NoBackendFit, "no backend is fit".to_owned())
        }
    };
    NotFound::Answer(answer, Some(words::of_site(site, &why)))
}
