//! How sites end: names in grace, files that are gone, and what the guard keeps.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Book, Ground, Kept, Leaving, Losses, Moment, Step, TALKATIVE};
use crate::reload::guard::{Folder, Guard, Judgement, Loss};
use crate::reload::look::Absence;
use crate::reload::status::thousands;
use crate::route::{SiteChange, TableEdit};
use crate::site::SiteName;

/// A site without a file that still answers for a name.
type Lost = (SiteName, Leaving);

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
        // No loss is what was meant, and what other files have taken over with all its names.
        let leaving = self.leaving.iter();
        let (lost, mut over): (Vec<_>, Vec<_>) = leaving
            .map(|(name, leaving)| (name.clone(), *leaving))
            .partition(|(name, leaving)| {
                leaving.absence != Absence::Meant && self.serves_any(name)
            });
        let (of_teams, lost) = self.losses_of_teams(lost);
        let loss = Loss {
            lost: lost.len(),
            total: self.serving,
            was_kept: lost.iter().any(|(name, _)| self.missed.contains(name)),
        };
        let judgement = match loss.lost {
            0 => Judgement::LetGo,
            _ => self.guard.judge(loss, folder, at.now),
        };
        let is_over = |leaving: &Leaving| leaving.until <= at.now;
        let mut losses = Losses {
            judgement,
            ..Losses::default()
        };
        for (name, leaving) in &of_teams {
            self.missed.insert(name.clone());
            if let Some(team) = name.team()
                && is_over(leaving)
            {
                *losses.teams.entry(team.to_owned()).or_default() += 1;
            }
        }
        if judgement == (Judgement::Hold { until: None }) {
            self.missed
                .extend(lost.iter().map(|(name, _)| name.clone()));
        }
        if judgement == Judgement::LetGo {
            over.extend(lost.into_iter().filter(|(_, leaving)| is_over(leaving)));
        } else if lost.iter().any(|(_, leaving)| is_over(leaving)) {
            losses.lost = loss.lost;
        }
        self.say_kept(losses);
        let is_quiet = over.len() > TALKATIVE;
        if is_quiet {
            info!(count = over.len(), "sites gone");
        }
        for (name, _) in over {
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

    /// Those of `lost` whose team's folder looks as if it were gone as a whole, and the others.
    fn losses_of_teams(&self, lost: Vec<Lost>) -> (Vec<Lost>, Vec<Lost>) {
        let mut teams: HashMap<String, (usize, bool)> = HashMap::new();
        for (name, leaving) in &lost {
            if let Some(team) = name.team() {
                let (count, is_there) = teams.entry(team.to_owned()).or_insert((0, true));
                *count += 1;
                *is_there &= leaving.absence != Absence::WithFolder;
            }
        }
        teams.retain(|team, (count, is_there)| {
            let judgement = self.guard.judge_team(*count, *is_there);
            judgement != Judgement::LetGo && !self.has_file_of(team)
        });
        lost.into_iter().partition(|(name, _)| {
            let team = name.team();
            team.is_some_and(|team| teams.contains_key(team))
        })
    }

    fn has_file_of(&self, team: &str) -> bool {
        let first = SiteName::new(format!("{team}/"));
        let from_there = self.entries.range(first..);
        from_there
            .take_while(|(name, _)| name.team() == Some(team))
            .any(|(_, entry)| entry.print.is_some())
    }

    /// Says what is kept, once.
    fn say_kept(&mut self, losses: Losses) {
        let is_nothing = losses.teams.is_empty() && losses.lost == 0;
        if is_nothing && losses.judgement != Judgement::LetGo {
            // Not yet.
            return;
        }
        if is_nothing {
            self.kept = None;
            return;
        }
        if self.kept.as_ref().is_some_and(|kept| kept.losses == losses) {
            return;
        }
        let of_teams = losses.teams.values().sum::<usize>();
        let lost = losses.lost + of_teams;
        let folder = match losses.teams.keys().next() {
            Some(team) if losses.lost == 0 && losses.teams.len() == 1 => format!("sites.d/{team}"),
            _ => "sites.d".to_owned(),
        };
        let total = match folder == "sites.d" {
            true => self.present + lost,
            false => lost,
        };
        let (lost, total) = (thousands(lost), thousands(total));
        let advice = match losses.judgement {
            Judgement::Hold { until: Some(_) } if of_teams == 0 => {
                "for 60 s, or onedoor reload --accept-removals"
            }
            _ => "onedoor reload --accept-removals",
        };
        let message =
            format!("{folder} lost {lost} of {total} files; still serving them; {advice}");
        warn!("{message}");
        self.kept = Some(Kept { losses, message });
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
