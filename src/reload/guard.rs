//! Whether files that are gone may take their sites with them.
//!
//! A folder that was not mounted, a failed deployment or a slip of `rm` looks like hundreds of removals. Pure: the
//! time and what the folder looks like are passed in.

use std::time::Duration;

use tokio::time::Instant;

/// That many may go at once, whatever part of all they are: nobody calls ten a mass.
const FEW: usize = 10;
/// More than one in so many is a mass.
const PART: usize = 4;
/// Time for an operator to notice, or for the rest of a deployment to arrive.
const HOLD: Duration = Duration::from_secs(60);

/// What the sites directory looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// It has site files.
    Filled,
    /// It is readable and has none.
    Empty,
    /// The same, and it is not the folder it was: an unmounted one, or one made anew.
    EmptyAndOther,
    /// It is missing or cannot be read.
    Unreadable,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Judgement {
    #[default]
    LetGo,
    /// Keep serving them; until then, or until told.
    Hold { until: Option<Instant> },
}

/// How much is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loss {
    pub(super) lost: usize,
    /// Of so many sites.
    pub(super) total: usize,
    /// Some of it was kept until somebody says that it may go, and files have come back without it: perhaps the first
    /// ones of all.
    pub(super) was_kept: bool,
}

/// Remembers since when it holds.
#[derive(Debug, Default)]
pub(super) struct Guard {
    since: Option<Instant>,
    accepted: bool,
}

impl Guard {
    /// Judges the files that are gone, at least one. One guard is for one loss.
    pub(super) fn judge(&mut self, loss: Loss, folder: Folder, now: Instant) -> Judgement {
        if self.accepted {
            return Judgement::LetGo;
        }
        let Loss {
            lost,
            total,
            was_kept,
        } = loss;
        let until_told = match folder {
            Folder::Unreadable | Folder::EmptyAndOther => true,
            // The last file of a folder may be removed like any other.
            Folder::Empty => lost > 1 || was_kept,
            Folder::Filled => false,
        };
        if until_told {
            // The minute begins when files are there again.
            self.since = None;
            return Judgement::Hold { until: None };
        }
        let since = *self.since.get_or_insert(now);
        let is_mass = lost > FEW && lost * PART > total;
        if (is_mass || was_kept) && now < since + HOLD {
            return Judgement::Hold {
                until: Some(since + HOLD),
            };
        }
        if !is_mass {
            self.since = None;
        }
        Judgement::LetGo
    }

    /// Judges the folder of a team that has no site file any more: `lost` sites of it are gone. `is_there`: the folder
    /// still is. It may be a mount or a link to one like the sites directory, and its last file may be removed like any
    /// other.
    pub(super) fn judge_team(&self, lost: usize, is_there: bool) -> Judgement {
        if self.accepted || is_there && lost <= 1 {
            return Judgement::LetGo;
        }
        Judgement::Hold { until: None }
    }

    /// An operator said that what is gone is meant to be gone.
    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(lost: usize, total: usize) -> Loss {
        Loss {
            lost,
            total,
            was_kept: false,
        }
    }

    fn judge(lost: usize, total: usize, folder: Folder) -> Judgement {
        Guard::default().judge(loss(lost, total), folder, Instant::now())
    }

    #[test]
    fn ten_files_may_go_whatever_part_they_are() {
        assert_eq!(judge(10, 11, Folder::Filled), Judgement::LetGo);
        assert!(matches!(
            judge(11, 12, Folder::Filled),
            Judgement::Hold { until: Some(_) }
        ));
        assert_eq!(judge(25, 100, Folder::Filled), Judgement::LetGo);
        assert!(matches!(
            judge(26, 100, Folder::Filled),
            Judgement::Hold { until: Some(_) }
        ));
    }

    #[test]
    fn a_mass_loss_is_believed_after_a_minute() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        guard.judge(loss(50, 100), Folder::Filled, start);
        let late = start + Duration::from_secs(59);
        assert!(matches!(
            guard.judge(loss(90, 100), Folder::Filled, late),
            Judgement::Hold { .. }
        ));
        let later = start + Duration::from_secs(60);
        assert_eq!(
            guard.judge(loss(90, 100), Folder::Filled, later),
            Judgement::LetGo
        );
    }

    #[test]
    fn an_empty_folder_is_never_believed_until_told() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        let day = start + Duration::from_secs(86_400);
        for now in [start, day] {
            assert_eq!(
                guard.judge(loss(2, 2), Folder::Empty, now),
                Judgement::Hold { until: None }
            );
        }
        guard.accept();
        assert_eq!(
            guard.judge(loss(2, 2), Folder::Empty, day),
            Judgement::LetGo
        );
    }

    #[test]
    fn the_folder_of_a_team_is_like_the_sites_directory() {
        let mut guard = Guard::default();
        let held = Judgement::Hold { until: None };
        assert_eq!(guard.judge_team(2, true), held);
        assert_eq!(guard.judge_team(1, false), held);
        assert_eq!(guard.judge_team(1, true), Judgement::LetGo);
        guard.accept();
        assert_eq!(guard.judge_team(2, false), Judgement::LetGo);
    }

    #[test]
    fn what_is_still_missing_when_files_come_back_has_a_minute_more_however_few_it_is() {
        let (mut guard, start) = (Guard::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        guard.judge(loss(6, 6), Folder::Empty, start);
        let missing = Loss {
            was_kept: true,
            ..loss(5, 6)
        };
        let held = Judgement::Hold {
            until: Some(at(500) + HOLD),
        };
        for seconds in [500, 559] {
            let judgement = guard.judge(missing, Folder::Filled, at(seconds));
            assert_eq!(judgement, held);
        }
        let last = Loss { lost: 1, ..missing };
        assert_eq!(
            guard.judge(last, Folder::Empty, at(559)),
            Judgement::Hold { until: None }
        );
        assert!(matches!(
            guard.judge(last, Folder::Filled, at(600)),
            Judgement::Hold { until: Some(_) }
        ));
        assert_eq!(guard.judge(last, Folder::Filled, at(660)), Judgement::LetGo);
    }

    #[test]
    fn the_last_file_of_a_folder_may_be_removed_but_not_by_unmounting_it() {
        assert_eq!(judge(1, 1, Folder::Empty), Judgement::LetGo);
        assert_eq!(
            judge(1, 1, Folder::EmptyAndOther),
            Judgement::Hold { until: None }
        );
        assert_eq!(
            judge(1, 9, Folder::Unreadable),
            Judgement::Hold { until: None }
        );
    }
}
