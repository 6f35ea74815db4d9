//! Operator events to standard error, in the way that `[log]` says, also when it says something else later.

use std::env;
use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::observe;
use crate::observe::events::Events;
use crate::observe::fields;
use crate::observe::log::{self, Lines, Reader};
use crate::settings::{Log, LogFormat};

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Shape = Box<dyn Layer<Filtered> + Send + Sync>;

/// What writes the log.
pub(super) struct Logging {
    lines: Lines,
    reader: Reader,
    events: Events,
    filter: reload::Handle<EnvFilter, Registry>,
    shape: reload::Handle<Shape, Filtered>,
}

impl Logging {
    /// From here on events are written; and a panic is one of them. Once in a process.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(wish: &Log) -> io::Result<Logging> {
        let reader = reader();
        let lines = log::start(reader)?;
        let events = Events::default();
        let (filter, filter_handle) = reload::Layer::new(filter(wish));
        let (shape, shape_handle) = reload::Layer::new(shape(wish, &lines, reader));
        tracing_subscriber::registry()
            .with(filter)
            .with(shape)
            .with(events.clone().with_filter(LevelFilter::INFO))
            .init();
        observe::panic::set_hook();
        Ok(Logging {
            lines,
            reader,
            events,
            filter: filter_handle,
            shape: shape_handle,
        })
    }

    /// From now on as `wish` says.
    pub(super) fn renew(&self, wish: &Log) {
        // Both fail only when nobody is subscribed any more.
        drop(self.shape.reload(shape(wish, &self.lines, self.reader)));
        drop(self.filter.reload(filter(wish)));
    }

    /// What was said last.
    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    /// Waits until what has been said is written, for a moment.
    pub(super) fn flush(&self) {
        self.lines.flush();
    }
}

fn filter(wish: &Log) -> EnvFilter {
    // What the library for HTTP/2 says is about single clients, and any of them could fill the log with it.
    let level = format!("h2=error,{}", wish.level);
    // Looked at when the settings were read.
    EnvFilter::try_new(level).unwrap_or_else(|_| "h2=error,info".into())
}

fn shape(wish: &Log, lines: &Lines, reader: Reader) -> Shape {
    let colored = wish.color.is_shown(&io::stderr());
    let layer = fmt::layer().with_writer(lines.clone()).with_target(false);
    if wish.format == LogFormat::Json {
        return layer.json().boxed();
    }
    let layer = layer.fmt_fields(fields::as_text()).with_ansi(colored);
    match reader {
        Reader::Anybody => layer.boxed(),
        Reader::Journal => layer.without_time().boxed(),
    }
}

/// By what systemd says of the descriptor that it gave us (systemd.exec(5), `$JOURNAL_STREAM`): the variable may also have
/// come from whoever started us with another one.
fn reader() -> Reader {
    let is_journal = || {
        let said = env::var("JOURNAL_STREAM").ok()?;
        let (device, inode) = said.split_once(':')?;
        let stat = rustix::fs::fstat(io::stderr()).ok()?;
        Some(device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
    };
    match is_journal() {
        Some(true) => Reader::Journal,
        _ => Reader::Anybody,
    }
}
