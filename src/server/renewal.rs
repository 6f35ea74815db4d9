//! Everything read once more, because somebody said so: the daemon file, and then all site files.
//!
//! What may change while onedoor runs is put in force in one go, or, when anything in the file is wrong, not at all.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::descriptors::{self, Descriptors, Share};
use super::logging::Logging;
use crate::admin::Reloaded;
use crate::door::worker::Note;
use crate::http::h1::head::HeadLimits;
use crate::http::{FullSites, Shared};
use crate::observe::access;
use crate::reload::{Reload, State};
use crate::settings::{Renewed, Settings};
use crate::site::backend::LinkLocal;
use crate::slots::Slots;
use crate::tls::Keyring;
use crate::upstream::States;

/// What the daemon file reaches.
pub(super) struct Renewal {
    pub(super) lasting: Lasting,
    pub(super) descriptors: Descriptors,
    pub(super) slots: Slots,
    pub(super) workers: Vec<mpsc::UnboundedSender<Note>>,
    pub(super) logging: Arc<Logging>,
    pub(super) reload: Reload,
    /// For whoever looks names up.
    pub(super) link_local: watch::Sender<LinkLocal>,
    /// As they were asked for: with port 0, where that was meant.
    pub(super) in_force: Mutex<Settings>,
    /// The same as the workers have, for those who ask what is in force.
    pub(super) shared: Arc<RwLock<&'static Shared>>,
}

/// What workers share and no daemon file changes.
#[derive(Clone)]
pub(super) struct Lasting {
    pub(super) via: Box<str>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) states: Arc<States>,
    pub(super) full: Arc<FullSites>,
}

impl Renewal {
    /// Reads everything once more. One at a time: the second finds what the first has left.
    pub(super) async fn reload(&self, accept_removals: bool) -> Reloaded {
        let mut in_force = self.in_force.lock().await;
        let (renewed, before) = self.renew(&mut in_force).await;
        drop(in_force);
        let report = self.reload.reload(accept_removals).await;
        let rejected = report.rejected.iter();
        let unfit = rejected.filter(|name| before.as_ref().is_some_and(|all| !all.contains(*name)));
        Reloaded {
            unfit: unfit.cloned().collect(),
            renewed,
            report,
        }
    }

    /// And what was rejected under the settings of before, where others are in force now.
    async fn renew(&self, in_force: &mut Settings) -> (Renewed, Option<HashSet<String>>) {
        let before = in_force.clone();
        let read = spawn_blocking(move || before.read_again()).await;
        let new = match read {
            Ok(Ok(new)) => new,
            Ok(Err(problems)) => {
                for problem in &problems {
                    warn!("{problem}");
                }
                error!(
                    "the daemon file cannot be used; the settings of before stay in force, all of them"
                );
                let renewed = Renewed {
                    problems,
                    ..Renewed::default()
                };
                return (renewed, None);
            }
            // It panicked, and the hook has told.
            Err(_) => return (Renewed::default(), None),
        };
        for warning in &new.warnings {
            warn!("{warning}");
        }
        let (settings, renewed) = in_force.renewed(new);
        if !renewed.waiting.is_empty() {
            let keys = renewed.waiting.join(", ");
            warn!(
                keys,
                "changed in the daemon file, and waiting for a restart"
            );
        }
        let mut rejected = None;
        if !renewed.changed.is_empty() {
            rejected = Some(self.rejected().await);
            self.put_in_force(in_force, &settings).await;
            let parts = renewed.changed.join(", ");
            info!(parts, "changed in the daemon file, and in force");
        }
        *in_force = settings;
        (renewed, rejected)
    }

    /// Names of sites that are not as they are on disk, for a reason that is in their files.
    async fn rejected(&self) -> HashSet<String> {
        let files = self.reload.list().await.files.into_iter();
        let rejected =
            files.filter(|file| matches!(file.state, State::Stale | State::Down | State::Conflict));
        rejected.map(|file| file.name).collect()
    }

    async fn put_in_force(&self, before: &Settings, settings: &Settings) {
        if before.log != settings.log {
            self.logging.renew(&settings.log);
            if let Some(to) = settings.log.access.to.clone() {
                drop(spawn_blocking(move || access::warn_of_unwritable(&to)));
            }
        }
        let share = descriptors::share(self.descriptors, &settings.limits);
        self.slots
            .allow(share.connections, per_client(settings, share));
        self.lasting
            .keyring
            .change_folders(settings.certificates.clone());
        let shared = leak(self.lasting.clone().shared(settings, share));
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = shared;
        let (taken, mut all_taken) = mpsc::unbounded_channel();
        for worker in &self.workers {
            // One that has ended serves nobody.
            drop(worker.send(Note::Renew {
                shared,
                pipes: share.pipes,
                taken: taken.clone(),
            }));
        }
        drop(taken);
        // Ends when every worker has dropped its end.
        while all_taken.recv().await.is_some() {}
        let link_local = settings.link_local();
        self.link_local
            .send_if_modified(|before| std::mem::replace(before, link_local) != link_local);
        let has_other_rules = before.defaults != settings.defaults
            || before.allow_link_local != settings.allow_link_local
            || before.files_under != settings.files_under
            || before.sockets_under != settings.sockets_under
            || before.log.sites_under != settings.log.sites_under;
        if has_other_rules {
            self.reload.change_rules(settings.rules());
        }
    }
}

impl Lasting {
    /// What the workers read.
    pub(super) fn shared(self, settings: &Settings, share: Share) -> Shared {
        let Lasting {
            via,
            keyring,
            states,
            full,
        } = self;
        let limits = settings.limits.clone();
        Shared {
            head_limits: HeadLimits {
                line_bytes: limits.line_bytes,
                field_bytes: limits.field_bytes,
                fields: limits.fields,
                head_bytes: limits.head_bytes,
            },
            site_connections: (share.connections / 2).max(1),
            pool_all: share.pool_all,
            limits,
            trusted_proxies: settings.trust.proxies.clone(),
            proxy_protocol: settings.trust.proxy_protocol.clone(),
            access: settings.log.access.clone(),
            via,
            keyring,
            states,
            full,
        }
    }
}

/// Lives as long as the process (see [`crate::http::Latest`]).
pub(super) fn leak(shared: Shared) -> &'static Shared {
    Box::leak(Box::new(shared))
}

pub(super) fn per_client(settings: &Settings, share: Share) -> usize {
    let usual = (share.connections / 4).max(1);
    settings.limits.per_client.unwrap_or(usual)
}
