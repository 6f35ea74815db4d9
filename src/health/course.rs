//! What the answers to one check come to: in force, out, back. Pure.

use crate::site::health::Check;

/// How a check stands, by all its answers so far.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Course {
    standing: Standing,
    /// In a row, of those that speak against `standing`.
    against: u32,
    /// Whether it has been said that a check that never passed failed.
    said: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// It has never passed: it may be the check that is wrong, so it takes nothing out.
    #[default]
    NeverPassed,
    Fit,
    Out,
}

/// What one more answer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Nothing,
    /// The first pass: from here on the check is in force.
    InForce,
    /// It has failed before it ever passed; said once.
    NotInForce,
    Out,
    Back,
}

impl Course {
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn passed(&mut self, check: &Check) -> Turn {
        match self.standing {
            Standing::NeverPassed => self.turn(Standing::Fit, Turn::InForce),
            Standing::Fit => {
                self.against = 0;
                Turn::Nothing
            }
            Standing::Out => self.counts(check.rise, Standing::Fit, Turn::Back),
        }
    }

    pub(super) fn failed(&mut self, check: &Check) -> Turn {
        match self.standing {
            Standing::NeverPassed if self.said => Turn::Nothing,
            Standing::NeverPassed => {
                self.counts(check.fall, Standing::NeverPassed, Turn::NotInForce)
            }
            Standing::Fit => self.counts(check.fall, Standing::Out, Turn::Out),
            Standing::Out => {
                self.against = 0;
                Turn::Nothing
            }
        }
    }

    /// One more against what holds so far; `enough` of them change it.
    fn counts(&mut self, enough: u32, next: Standing, turn: Turn) -> Turn {
        self.against += 1;
        if self.against < enough {
            return Turn::Nothing;
        }
        self.said |= turn == Turn::NotInForce;
        self.turn(next, turn)
    }

    fn turn(&mut self, next: Standing, turn: Turn) -> Turn {
        self.standing = next;
        self.against = 0;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rise: u32, fall: u32) -> Check {
        Check {
            rise,
            fall,
            ..Check::default()
        }
    }

    /// `+` a pass, `-` a failure; the letters say what each of them changed.
    fn told(rise: u32, fall: u32, answers: &str) -> String {
        let check = check(rise, fall);
        let mut course = Course::default();
        let turns = answers.chars().map(|answer| match answer {
            '+' => course.passed(&check),
            _ => course.failed(&check),
        });
        let letters = turns.map(|turn| match turn {
            Turn::Nothing => '.',
            Turn::InForce => 'F',
            Turn::NotInForce => 'N',
            Turn::Out => 'O',
            Turn::Back => 'B',
        });
        letters.collect()
    }

    #[test]
    fn as_many_in_a_row_as_the_file_says_change_it() {
        assert_eq!(told(2, 3, "+---"), "F..O");
        assert_eq!(told(2, 3, "+--+---"), "F.....O");
        assert_eq!(told(2, 3, "+---+-++"), "F..O...B");
        assert_eq!(told(1, 1, "+-+-"), "FOBO");
        assert_eq!(told(3, 2, "+--+++"), "F.O..B");
    }

    #[test]
    fn a_check_that_never_passed_says_so_once_and_takes_nothing_out() {
        assert_eq!(told(2, 3, "--------"), "..N.....");
        assert_eq!(told(2, 3, "---+---"), "..NF..O");
        assert_eq!(told(2, 3, "--+"), "..F");
    }

    #[test]
    fn the_first_pass_is_enough_to_be_in_force() {
        assert_eq!(told(9, 1, "+"), "F");
    }
}
