//! What a parser says that takes the bytes that have come.

/// When it has not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    Complete(T),
    NeedMore,
}
