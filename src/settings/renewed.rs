//! The daemon file read once more while onedoor runs: what of it can be put in force, and what waits for a restart.

use super::{Settings, load};
use crate::limits::Limits;

/// What came of reading it again.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Parts of the file that say something else now, and are in force.
    pub changed: Vec<&'static str>,
    /// Keys that say something else now, and need a restart.
    pub waiting: Vec<&'static str>,
    /// Why nothing of it is in force: errors, drawn for a person.
    pub problems: Vec<String>,
}

impl Settings {
    /// What the file that these came from says now, under the same flags and variables. A file that has gone is an
    /// error: it may be on its way back, and nobody meant the defaults. Blocks on the disk.
    ///
    /// # Errors
    /// Everything that is wrong, drawn for a person.
    pub fn read_again(&self) -> Result<Settings, Vec<String>> {
        load(self.config.as_deref(), self.overrides.clone()).map_err(|problems| {
            let draw = |problem: &crate::document::Problem| {
                let source = std::fs::read_to_string(&problem.origin).unwrap_or_default();
                problem.render(&source, false)
            };
            problems.iter().map(draw).collect()
        })
    }

    /// These, with all that may change in a running onedoor as `new` says it; and what that was.
    pub fn renewed(&self, new: Settings) -> (Settings, Renewed) {
        let differing = |parts: &[(bool, &'static str)]| -> Vec<&'static str> {
            let differing = parts.iter().filter(|(differs, _)| *differs);
            differing.map(|(_, name)| *name).collect()
        };
        let renewed = Renewed {
            changed: differing(&[
                (self.trust != new.trust, "[trust]"),
                (!has_same_times(&self.limits, &new.limits), "[timeout]"),
                (!has_same_sizes(&self.limits, &new.limits), "[limit]"),
                (self.log != new.log, "[log]"),
                (self.defaults != new.defaults, "[defaults]"),
                (self.certificates != new.certificates, "certificates"),
                (self.files_under != new.files_under, "files_under"),
                (self.sockets_under != new.sockets_under, "sockets_under"),
                (
                    self.allow_link_local != new.allow_link_local,
                    "allow_link_local",
                ),
            ]),
            waiting: differing(&[
                (self.listen != new.listen, "listen"),
                (self.sites != new.sites, "sites"),
                (self.state != new.state, "state"),
                (self.admin != new.admin, "admin"),
                (self.admin_listen != new.admin_listen, "admin_listen"),
                (self.status != new.status, "status"),
                (self.workers != new.workers, "workers"),
                (self.watch != new.watch, "watch"),
                (self.catch_all != new.catch_all, "catch_all"),
            ]),
            problems: Vec::new(),
        };
        let settings = Settings {
            listen: self.listen.clone(),
            sites: self.sites.clone(),
            state: self.state.clone(),
            admin: self.admin.clone(),
            admin_listen: self.admin_listen,
            page_is_an_app: self.page_is_an_app,
            status: self.status.clone(),
            workers: self.workers,
            watch: self.watch,
            catch_all: self.catch_all.clone(),
            ..new
        };
        (settings, renewed)
    }
}

/// `[limit]` of both is the same.
fn has_same_sizes(one: &Limits, other: &Limits) -> bool {
    *one == with_times_of(other, one)
}

/// `[timeout]` of both is the same.
fn has_same_times(one: &Limits, other: &Limits) -> bool {
    *one == with_times_of(one, other)
}

fn with_times_of(limits: &Limits, times: &Limits) -> Limits {
    Limits {
        opening_time: times.opening_time,
        head_time: times.head_time,
        idle_time: times.idle_time,
        idle_when_full: times.idle_when_full,
        linger_time: times.linger_time,
        drain_time: times.drain_time,
        ..limits.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Overrides;
    use std::time::Duration;

    fn settings() -> Settings {
        let overrides = Overrides {
            state: Some("/tmp/onedoor-state".into()),
            ..Overrides::default()
        };
        load(None, overrides).expect("settings")
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let (settings, same) = (settings(), settings());
        assert_eq!(
            settings.renewed(same),
            (settings.clone(), Renewed::default())
        );
    }

    #[test]
    fn what_can_change_does_and_what_cannot_is_named() {
        let (settings, mut new) = (settings(), settings());
        new.limits.head_time = Duration::from_secs(1);
        new.trust.proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        new.workers = settings.workers + 1;
        new.status = Some("/run/onedoor/status".into());
        let (merged, renewed) = settings.renewed(new.clone());
        assert_eq!(renewed.changed, ["[trust]", "[timeout]"]);
        assert_eq!(renewed.waiting, ["status", "workers"]);
        assert_eq!(merged.workers, settings.workers);
        assert_eq!(merged.status, settings.status);
        assert_eq!(merged.limits, new.limits);
        new.limits.fields = 7;
        assert_eq!(merged.renewed(new).1.changed, ["[limit]"]);
    }
}
