//! Texts that are kept in `tests/golden`, so that a change of a screen is seen and meant.

use std::fs;
use std::path::Path;

/// Fails the test when `text` is not what is kept as `name`. `WRITE_GOLDEN=1` keeps it.
#[track_caller]
pub(crate) fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        return fs::write(&path, text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is another one (WRITE_GOLDEN=1 keeps it); it was\n{kept}\nand is\n{text}"
    );
}
