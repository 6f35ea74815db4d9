//! One run: bind, load sites, start workers, reload, drain.

mod descriptors;
mod home;
mod logging;
mod renewal;
mod signals;
mod sockets;
mod start_error;
mod workers;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use tokio::runtime::LocalOptions;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tracing::{error, info, warn};

use crate::admin::{self, About};
use crate::health;
use crate::http::Shared;
use crate::observe::access;
use crate::reload::{self, Summary};
use crate::route::Current;
use crate::settings::Settings;
use crate::slots::Slots;
use crate::tls::Keyring;
use crate::upstream::States;

use home::{Follows, Home};
use logging::Logging;
use renewal::{Lasting, Renewal};
use signals::{Ending, Signals, attend};
use start_error::StartError;
use workers::Workers;

/// How long the last writes into the state directory may take at the end: those of a thousand sites on a slow disk.
const LAST_WRITES: Duration = Duration::from_secs(10);
const LAST_WRITES_IN_A_HURRY: Duration = Duration::from_secs(1);

/// Serves until told to stop: 0 after a drain, 1 when it could not start.
pub fn run(settings: Settings) -> ExitCode {
    let logging = match Logging::start(&settings.log) {
        Ok(logging) => Arc::new(logging),
        Err(source) => return failed(&StartError::System(source)),
    };
    // The hook has told of a panic; what is left to say is that it was the end.
    let run = || run_to_the_end(settings, Arc::clone(&logging));
    let code = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        error!("the control thread has panicked; ending, so that whoever supervises this starts it again");
        ExitCode::FAILURE
    });
    logging.flush();
    code
}

fn run_to_the_end(settings: Settings, logging: Arc<Logging>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(serve(settings, logging));
            // Returning from main, and not waiting for threads: what is still open then is closed. Nor for those that look
            // up a name or read a file and may hang in it for as long as the system likes.
            runtime.shutdown_background();
            match ended {
                Ok(Ending::Drained | Ending::Cut { .. } | Ending::Hurried { .. }) => {
                    ExitCode::SUCCESS
                }
                Ok(Ending::WorkerLost) => {
                    error!(
                        "a worker is lost; ending, so that whoever supervises this starts it again"
                    );
                    ExitCode::FAILURE
                }
                Err(error) => failed(&error),
            }
        }
        Err(source) => failed(&StartError::System(source)),
    }
}

fn failed(error: &StartError) -> ExitCode {
    // Standard error may be closed; the exit code says it then.
    drop(writeln!(io::stderr(), "onedoor: {error}"));
    ExitCode::FAILURE
}

/// The whole run, on the control thread.
async fn serve(mut settings: Settings, logging: Arc<Logging>) -> Result<Ending, StartError> {
    // First of all: a signal that comes while sites are loaded must drain, not kill.
    let mut signals = Signals::listen()?;
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    if let Some(to) = settings.log.access.to.clone() {
        drop(tokio::task::spawn_blocking(move || {
            access::warn_of_unwritable(&to)
        }));
    }
    let home = Home::open(&settings.state)?;
    let _follows = Follows::show(&settings.sites);
    let asked_for = settings.clone();
    let sockets = sockets::bind(&settings.listen, settings.workers)?;
    settings.listen = sockets.iter().map(|socket| socket.address).collect();
    settings.listen.dedup();

    let current = Arc::new(Current::new());
    let keyring = Keyring::new(settings.certificates.clone(), settings.state.clone())
        .map_err(|source| StartError::System(io::Error::other(source)))?;
    let keyring = Arc::new(keyring.listening_on(&settings.listen));
    let states = Arc::new(States::new(settings.workers, &home.key));
    let (news, to_watch) = mpsc::unbounded_channel();
    let loading = reload::start(
        &settings,
        settings.rules(),
        Arc::clone(&current),
        Arc::clone(&keyring),
        Arc::clone(&states),
        news,
    );
    let (reload, summary) = tokio::select! {
        loaded = loading => loaded,
        () = signals.stop() => {
            // Nobody could connect yet, and the disk may hang.
            info!("told to stop while sites were being loaded");
            return Ok(Ending::Drained);
        }
    };
    // Only now, with the sites in the table: whoever connects is answered by what is on disk.
    for socket in &sockets {
        sockets::listen(socket).map_err(|source| StartError::Bind {
            address: socket.address,
            flag: "--listen",
            source,
        })?;
    }
    let descriptors = descriptors::count(settings.workers);
    let share = descriptors::share(descriptors, &settings.limits);
    let slots = Slots::new(share.connections, renewal::per_client(&settings, share));
    let lasting = Lasting {
        via: via(&home.pseudonym),
        keyring: Arc::clone(&keyring),
        states: Arc::clone(&states),
        full: Arc::default(),
    };
    let (link_local, link_local_now) = watch::channel(settings.link_local());
    let tools = health::Tools {
        states: Arc::clone(&states),
        keyring,
        reload: reload.clone(),
        via: via(&home.pseudonym),
        port: settings.listen.first().map_or(80, SocketAddr::port),
        most: share.checks,
        link_local: link_local_now,
        seed: [home::random(), home::random()],
    };
    drop(tokio::task::spawn_local(health::watch(to_watch, tools)));
    let shared = renewal::leak(lasting.clone().shared(&settings, share));
    let workers = Workers::start(&settings, sockets, &current, shared, &slots, &states, share)?;
    let renewal = Renewal {
        lasting,
        descriptors,
        slots,
        workers: workers.notes.clone(),
        logging,
        reload: reload.clone(),
        link_local,
        in_force: Mutex::new(asked_for),
        shared: Arc::new(RwLock::new(shared)),
    };
    let socket = settings.admin_socket();
    let drain = Arc::new(Notify::new());
    let ended = Arc::new(watch::Sender::new(None));
    let (again, asked) = mpsc::unbounded_channel();
    let powers = admin::Powers {
        reload: reload.clone(),
        again,
        about: Arc::new(about(
            &settings, &current, &workers, &drain, &ended, &renewal,
        )),
        waits: admin::Waits::default(),
        lists: admin::Lists::default(),
    };
    let to_admin = bind_admin(&settings)?;
    let bound = start_admin(&socket, &powers, to_admin);
    say_hello(&settings, &summary);
    let ending = attend(&mut signals, &drain, asked, Rc::new(renewal), workers).await;
    let cut = match ending {
        Ending::Drained | Ending::WorkerLost => 0,
        Ending::Cut { open } | Ending::Hurried { open } => open,
    };
    ended.send_replace(Some(cut));
    // What was published last is kept for the next start, unless somebody hangs who would have to do it.
    let limit = match ending {
        Ending::Drained | Ending::Cut { .. } | Ending::WorkerLost => LAST_WRITES,
        Ending::Hurried { .. } => LAST_WRITES_IN_A_HURRY,
    };
    tokio::select! {
        () = async {
            let farewell = async { reload.flush().await; reload.farewell().await };
            // And whoever waits for the end is told how it was.
            tokio::join!(farewell, ended.closed());
        } => {}
        () = signals.stop() => {}
        () = tokio::time::sleep(limit) => warn!("what was published last may not be kept for the next start"),
    }
    if let Some(bound) = bound {
        bound.remove();
    }
    Ok(ending)
}

/// Our name in Via.
fn via(pseudonym: &str) -> Box<str> {
    format!("onedoor-{pseudonym}").into()
}

/// The same for somebody who only wants to know what would be served: nothing is opened, and of limits that depend on
/// the running process those are shown that it would have now.
pub fn shared_offline(settings: &Settings, keyring: Arc<Keyring>) -> Shared {
    let pseudonym = home::kept_pseudonym(&settings.state).unwrap_or_else(|| "new".to_owned());
    let share = descriptors::share_of_a_start(&settings.limits, settings.workers);
    let states = Arc::new(States::new(1, b"offline"));
    let lasting = Lasting {
        via: via(&pseudonym),
        keyring,
        states,
        full: Arc::default(),
    };
    lasting.shared(settings, share)
}

/// What those are told who ask.
fn about(
    settings: &Settings,
    current: &Arc<Current>,
    workers: &Workers,
    drain: &Arc<Notify>,
    ended: &Arc<watch::Sender<Option<u64>>>,
    renewal: &Renewal,
) -> About {
    About {
        listening: settings.listen.clone(),
        sites: absolute(&settings.sites),
        state: absolute(&settings.state),
        config: settings.config.as_deref().map(absolute),
        counters: workers.counters.clone(),
        current: Arc::clone(current),
        shared: Arc::clone(&renewal.shared),
        access: workers.access.clone(),
        events: renewal.logging.events(),
        started: SystemTime::now(),
        draining: Arc::clone(&workers.draining),
        drain: Arc::clone(drain),
        ended: Arc::clone(ended),
    }
}

/// The address of the page and the metrics. One that was asked for and cannot be had is an error, as every other.
fn bind_admin(settings: &Settings) -> Result<Option<std::net::TcpListener>, StartError> {
    let Some(address) = settings.admin_listen else {
        return Ok(None);
    };
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map(Some).map_err(|source| StartError::Bind {
        address,
        flag: "--admin-listen",
        source,
    })
}

/// Without its socket the daemon serves all the same; `ls` and `wait` do not find it then.
fn start_admin(
    socket: &Path,
    powers: &admin::Powers,
    address: Option<std::net::TcpListener>,
) -> Option<admin::Bound> {
    if let Some(listener) = address {
        if let Ok(at) = listener.local_addr() {
            info!("the page and the metrics are at http://{at}/");
        }
        let powers = powers.clone();
        drop(tokio::task::spawn_local(async move {
            if let Err(source) = admin::serve_address(listener, powers).await {
                warn!(cause = %source, "the admin address is closed");
            }
        }));
    }
    match admin::listen(socket) {
        Ok(listener) => {
            let powers = powers.clone();
            drop(tokio::task::spawn_local(async move {
                if let Err(source) = admin::serve(listener, powers).await {
                    warn!(cause = %source, "the admin socket is closed");
                }
            }));
            admin::Bound::at(socket)
        }
        Err(source) => {
            warn!(path = %socket.display(), cause = %source, "no admin socket: ls, wait and reload will not find this onedoor");
            None
        }
    }
}

/// As somebody in another folder has to write it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The lines a person reads at the start.
fn say_hello(settings: &Settings, summary: &Summary) {
    let addresses: Vec<String> = settings.listen.iter().map(SocketAddr::to_string).collect();
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let mut text = format!(
        "onedoor {} listening on {}\n",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", ")
    );
    // Of a folder that nobody has seen there is no more to say.
    if summary.live > 0 || summary.notice.is_none() {
        let (live, sites) = (summary.live, settings.sites.display());
        let line = match summary.unread {
            0 => format!("{live} site{} live from {sites}\n", plural(live)),
            unread => format!(
                "{live} site{} from {sites}, {unread} of them live once the certificate files are read\n",
                plural(live)
            ),
        };
        text.push_str(&line);
    }
    if summary.not_live > 0 {
        let (count, verb) = (
            summary.not_live,
            if summary.not_live == 1 { "is" } else { "are" },
        );
        text.push_str(&format!(
            "{count} file{} {verb} not: `onedoor check` shows what is wrong\n",
            plural(count)
        ));
    }
    if let Some(notice) = &summary.notice {
        text.push_str(&format!("{notice}\n"));
    }
    // Nobody may be reading.
    drop(
        io::stdout()
            .write_all(text.as_bytes())
            .and_then(|()| io::stdout().flush()),
    );
}
