//! How sites end: names in grace, files that are gone, and what the guard keeps.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Book, Ground, Kept, Moment, Step, TALKATIVE};
use crate::reload::guard::{Folder, Guard, Judgement, Loss};
use crate::reload::status::thousands;
use crate::route::{SiteChange, TableEdit};
use crate::site::SiteName;

impl Book {
    /// Ends what has had its time: names in grace, sites without a file.
    pub(in crate::reload) fn tick(&mut self, ground: Ground, at: Moment, step: &mut Step) {
        if self.due.is_none_or(|due| due > at.now) {
            return;
        }
        let folder = match (self.present, ground) {
            (_, Ground::Missing) => Folder::Unreadable,
            (0, Ground::Other) => Folder::EmptyAndOther,
            (0, Ground::Same) => Folder::Empty,
            _ => Folder::Filled,
        };
        // No loss is what was switched off, and what other files have taken over with all its names.
        let leaving = self.leaving.iter();
        let (lost, free): (Vec<_>, Vec<_>) =
            leaving.partition(|(name, leaving)| !leaving.off && self.serves_any(name));
        let mut over: Vec<SiteName> = free.into_iter().map(|(name, _)| name.clone()).collect();
        let timed_out = lost.iter().filter(|(_, leaving)| leaving.until <= at.now);
        let timed_out: Vec<SiteName> = timed_out.map(|(name, _)| (*name).clone()).collect();
        let loss = Loss {
            lost: lost.len(),
            total: self.serving,
            was_kept: lost.iter().any(|(name, _)| self.missed.contains(*name)),
        };
        let judgement = match loss.lost {
            0 => Judgement::LetGo,
            _ => self.guard.judge(loss, folder, at.now),
        };
        if judgement == (Judgement::Hold { until: None }) {
            let lost = lost.iter().map(|(name, _)| (*name).clone());
            self.missed.extend(lost);
        }
        let is_held = judgement != Judgement::LetGo;
        let is_told = is_held && !timed_out.is_empty();
        if !is_held {
            over.extend(timed_out);
        }
        if is_told {
            self.say_kept(loss.lost, judgement);
        } else if !is_held {
            self.kept = None;
        }
        let is_quiet = over.len() > TALKATIVE;
        if is_quiet {
            info!(count = over.len(), "sites gone");
        }
        for name in over {
            self.remove(&name, is_quiet, step);
        }
        if self.leaving.is_empty() {
            self.guard = Guard::default();
        }
        let leaving = &self.leaving;
        self.grace.retain(|pattern, grace| {
            if grace.until > at.now || leaving.contains_key(&grace.site.name) {
                return true;
            }
            step.edits.push(TableEdit::Release {
                pattern: pattern.clone(),
            });
            false
        });
        let leaving = self.leaving.values().map(|leaving| leaving.until);
        let leaving = leaving.filter(|until| *until > at.now).min();
        let held = match judgement {
            Judgement::Hold { until } => until,
            Judgement::LetGo => None,
        };
        let grace = self.grace.values().map(|grace| grace.until);
        let grace = grace.filter(|until| *until > at.now).min();
        self.due = [leaving, held, grace].into_iter().flatten().min();
    }

    /// Whether a site on its way out still answers for a name.
    fn serves_any(&self, name: &SiteName) -> bool {
        let live = self.entries.get(name).and_then(|entry| entry.live.as_ref());
        live.is_some_and(|live| {
            live.patterns().any(|pattern| {
                let last = self.grace.get(pattern);
                last.is_some_and(|grace| Arc::ptr_eq(&grace.site, &live.site))
            })
        })
    }

    fn say_kept(&mut self, lost: usize, judgement: Judgement) {
        let is_same = |kept: &Kept| kept.lost == lost && kept.judgement == judgement;
        if self.kept.as_ref().is_some_and(is_same) {
            return;
        }
        let (lost_text, total) = (thousands(lost), thousands(self.present + lost));
        let advice = match judgement {
            Judgement::Hold { until: None } => "onedoor reload --accept-removals",
            _ => "for 60 s, or onedoor reload --accept-removals",
        };
        let message =
            format!("sites.d lost {lost_text} of {total} files; still serving them; {advice}");
        warn!("{message}");
        self.kept = Some(Kept {
            lost,
            judgement,
            message,
        });
    }

    /// The end of a site: it no longer serves.
    fn remove(&mut self, name: &SiteName, is_quiet: bool, step: &mut Step) {
        self.leaving.remove(name);
        self.missed.remove(name);
        self.touched.insert(name.clone());
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(live) = entry.live.take() else {
            return;
        };
        if entry.print.is_none() {
            self.entries.remove(name);
        }
        for pattern in live.patterns() {
            let last = self.grace.get(pattern);
            if last.is_some_and(|grace| Arc::ptr_eq(&grace.site, &live.site)) {
                self.grace.remove(pattern);
                step.edits.push(TableEdit::Release {
                    pattern: pattern.clone(),
                });
            }
        }
        if !is_quiet {
            info!(site = %name, "site gone");
        }
        self.serving -= 1;
        step.freed.push(live.site.number);
        self.states.forget(name);
        self.unproven.remove(name);
        step.removed.push(name.clone());
        step.forget.push(name.clone());
        let (old, drain) = (live.site.clone(), live.site.drain.remove);
        step.changes.push(SiteChange::Removed { old, drain });
    }

    /// The sites directory can be looked into again, and these are not in it: as after an empty one.
    pub(in crate::reload) fn miss(&mut self, names: &[SiteName]) {
        let serving = names.iter().filter(|name| {
            let entry = self.entries.get(*name);
            entry.is_some_and(|entry| entry.live.is_some())
        });
        self.missed.extend(serving.cloned());
    }

    /// An operator said that what is gone may go.
    pub(in crate::reload) fn accept_removals(&mut self, now: Instant) {
        self.guard.accept();
        self.hurry(now);
    }

    /// Sites without a file have been served long enough.
    pub(in crate::reload) fn hurry(&mut self, now: Instant) {
        for leaving in self.leaving.values_mut() {
            leaving.until = now;
        }
        self.due = Some(now);
    }
}
