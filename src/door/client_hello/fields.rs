//! Numbers and lists with a length in front, as TLS writes them (RFC 8446 3).

use super::HelloRefusal;

/// What is left to be read of a message, or of a list in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], HelloRefusal> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(HelloRefusal::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of `N` bytes.
    pub(super) fn number<const N: usize>(&mut self) -> Result<usize, HelloRefusal> {
        let bytes = self.take(N)?;
        Ok(bytes
            .iter()
            .fold(0, |number, &byte| number << 8 | usize::from(byte)))
    }

    /// What stands behind its length, a number of `N` bytes.
    pub(super) fn list<const N: usize>(&mut self) -> Result<Fields<'a>, HelloRefusal> {
        let count = self.number::<N>()?;
        self.take(count).map(Fields)
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), HelloRefusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(HelloRefusal::Malformed)
        }
    }
}
