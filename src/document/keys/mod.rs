//! The table of keys: every key of a site file and of the daemon file, where it belongs and what it is for.
//!
//! Reading, "did you mean", defaults, the README's reference and the JSON schema come from this one table. What a value means is
//! read by `site::file` and `settings`.

mod guess;
mod reference;
#[cfg(feature = "serve")]
pub mod schema;
mod table;

pub use guess::{Guess, distance, guess, unknown};
pub use reference::reference;
pub use table::KEYS;

/// A table of a file, which is where keys belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A site file, above its first table.
    Site,
    /// `[[path]]`
    Path,
    /// An entry of `to` that is a table.
    Backend,
    /// `sticky = { ... }`
    Sticky,
    /// `[retry]`
    Retry,
    Redirect,
    Respond,
    Tls,
    /// `[tls.client]`
    TlsClient,
    Drain,
    Limit,
    Timeout,
    Health,
    /// `[health.passive]`
    Passive,
    Headers,
    /// `[headers.request]` and `[headers.response]`
    Edits,
    /// onedoor.toml, above its first table.
    Daemon,
    Trust,
    ProxyProtocol,
    DoorLimit,
    DoorTimeout,
    Log,
    Defaults,
}

impl Place {
    const SITE: [Place; 16] = [
        Place::Site,
        Place::Path,
        Place::Backend,
        Place::Sticky,
        Place::Retry,
        Place::Redirect,
        Place::Respond,
        Place::Tls,
        Place::TlsClient,
        Place::Drain,
        Place::Limit,
        Place::Timeout,
        Place::Health,
        Place::Passive,
        Place::Headers,
        Place::Edits,
    ];
    const DAEMON: [Place; 7] = [
        Place::Daemon,
        Place::DoorTimeout,
        Place::DoorLimit,
        Place::Trust,
        Place::ProxyProtocol,
        Place::Log,
        Place::Defaults,
    ];

    /// How the place is written in a file.
    pub fn title(self) -> &'static str {
        match self {
            Place::Site | Place::Daemon => "the top of the file",
            Place::Path => "[[path]]",
            Place::Backend => "an entry of to",
            Place::Sticky => "sticky",
            Place::Retry => "[retry]",
            Place::Redirect => "redirect",
            Place::Respond => "respond",
            Place::Tls => "[tls]",
            Place::TlsClient => "[tls.client]",
            Place::Drain => "drain",
            Place::Limit | Place::DoorLimit => "[limit]",
            Place::Timeout | Place::DoorTimeout => "[timeout]",
            Place::Health => "[health]",
            Place::Passive => "[health.passive]",
            Place::Headers => "[headers]",
            Place::Edits => "[headers.request] or [headers.response]",
            Place::Trust => "[trust]",
            Place::ProxyProtocol => "proxy_protocol",
            Place::Log => "[log]",
            Place::Defaults => "[defaults]",
        }
    }

    fn is_top(self) -> bool {
        matches!(self, Place::Site | Place::Daemon)
    }

    /// The places of the same file.
    fn neighbours(self) -> &'static [Place] {
        if Place::DAEMON.contains(&self) {
            &Place::DAEMON
        } else {
            &Place::SITE
        }
    }
}

/// What a value may be in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A text or a list of texts.
    Texts,
    Flag,
    Count,
    Duration,
    /// A duration, or "off".
    DurationOrOff,
    Size,
    SizeOrOff,
    RateOrOff,
    /// A table with keys of this place.
    Table(Place),
    /// `[[...]]`
    Tables(Place),
    TextOrTable(Place),
    /// True, false, or a table with keys of this place. A text is let through for its own error.
    FlagOrTable(Place),
    /// A text, a list of texts, or a table with keys of this place.
    TextsOrTable(Place),
    TextNumberOrTable(Place),
    /// A number or a text.
    Address,
    /// A number, a text, a table, or a list of these.
    Backends,
    /// A number, a text, or a list of these.
    Listeners,
    /// The same.
    Statuses,
    /// Any names; values are texts, `{ file = "..." }` or lists of these.
    Fields,
    /// Whatever: the key is not built yet.
    Anything,
}

impl Kind {
    pub fn words(self) -> &'static str {
        match self {
            Kind::Text => "a text",
            Kind::Texts => "a text or a list of texts",
            Kind::Flag => "true or false",
            Kind::Count => "a whole number",
            Kind::Duration => "a duration such as \"30s\"",
            Kind::DurationOrOff => "a duration such as \"30s\", or \"off\"",
            Kind::Size => "a size such as \"8kb\"",
            Kind::SizeOrOff => "a size such as \"10mb\", or \"off\"",
            Kind::RateOrOff => "a rate such as \"240b/s\", or \"off\"",
            Kind::Table(_) => "a table",
            Kind::Tables(_) => "a list of tables, written [[...]]",
            Kind::TextOrTable(_) => "a text or a table",
            Kind::FlagOrTable(_) => "true, false or a table",
            Kind::TextsOrTable(_) => "a text, a list of texts or a table",
            Kind::TextNumberOrTable(_) => "a text, a number or a table",
            Kind::Address => "a port or an address",
            Kind::Backends => "a port, an address, or a list of these",
            Kind::Listeners => "a port, an address, or a list of these",
            Kind::Statuses => "a status, a range such as \"200-399\", or a list of these",
            Kind::Fields => "a table of header names and values",
            Kind::Anything => "a value",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Built,
    /// Known, refused with these words, so that nobody believes it is in force.
    Planned,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub place: Place,
    pub kind: Kind,
    /// As one would write it; empty when there is none.
    pub default: &'static str,
    /// One line for the reference.
    pub about: &'static str,
    /// Why the default is what it is; empty when it needs no reason.
    pub reason: &'static str,
    pub status: Status,
}

/// The key `name` of `place`.
pub fn find(place: Place, name: &str) -> Option<&'static Key> {
    KEYS.iter()
        .find(|key| key.place == place && key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_in_a_place() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(
                !KEYS[..at]
                    .iter()
                    .any(|k| k.place == key.place && k.name == key.name),
                "{key:?}"
            );
            assert!(
                key.status == Status::Planned || !key.about.is_empty(),
                "{key:?}"
            );
        }
    }

    #[test]
    fn the_reference_names_every_key_that_is_built() {
        let text = reference();
        for key in KEYS {
            assert_eq!(
                text.contains(&format!("| `{}` |", key.name)),
                KEYS.iter()
                    .any(|k| k.name == key.name && k.status == Status::Built),
                "{key:?}"
            );
        }
    }
}
