//! Choices that look random and are the same in every run, so that a failure can be had again.

/// A generator of Lehmer's kind (Knuth's constants), good enough to choose by.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The seed of `variable` in the environment, or `seed`.
    pub(crate) fn seeded_by(variable: &str, seed: u64) -> u64 {
        std::env::var(variable).map_or(seed, |text| text.parse().unwrap())
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn in_percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
