//! The last events, kept for those who ask what has happened: the page, `GET /v1/events`.
//!
//! The same that the log gets, from `info` on. Off the way of requests: a request is never an event.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// As many as a person scrolls through.
const KEPT: usize = 200;
/// A drawn error of a file with many; no more than that of it.
const TEXT_BYTES: usize = 4 << 10;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub time: SystemTime,
    /// `info`, `warn`, `error`.
    pub level: &'static str,
    pub site: Option<String>,
    pub text: String,
}

/// See the module. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<Mutex<VecDeque<Event>>>);

impl Events {
    /// The last ones, the newest first.
    pub fn last(&self) -> Vec<Event> {
        self.lock().iter().rev().cloned().collect()
    }

    fn keep(&self, event: Event) {
        let mut events = self.lock();
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // A list of events is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = words.message + &words.fields;
        if text.len() > TEXT_BYTES {
            let end = (0..=TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        self.keep(Event {
            time: SystemTime::now(),
            level,
            site: words.site,
            text,
        });
    }
}

/// What an event says.
#[derive(Default)]
struct Words {
    message: String,
    site: Option<String>,
    /// ` file=sites.d/shop.toml`
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "site" => {
                self.site = Some(format!("{value:?}"));
                Ok(())
            }
            name => write!(self.fields, " {name}={value:?}"),
        };
        debug_assert!(written.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_last_events_are_kept_with_their_site_and_fields() {
        let events = Events::default();
        let subscriber = tracing_subscriber::registry().with(events.clone());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..KEPT {
                info!(number, "old");
            }
            warn!(site = %"shop", file = %"sites.d/shop.toml", "rejected, {}", "still serving");
            debug!("of no interest");
        });
        let last = events.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!(
            last[0].text,
            "rejected, still serving file=sites.d/shop.toml"
        );
        assert_eq!(
            (last[0].level, last[0].site.as_deref()),
            ("warn", Some("shop"))
        );
        assert_eq!(last[KEPT - 1].text, "old number=1");
    }
}
