//! The corpora of the fuzz targets, which also run as plain tests.

use std::fs;
use std::path::Path;

/// The inputs of the fuzz target `target`. They are part of the repository: without them a test would show nothing, so
/// it fails.
pub(crate) fn inputs_of(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let inputs: Vec<Vec<u8>> = files
        .map(|file| fs::read(file.expect("entry").path()).expect("corpus file"))
        .collect();
    assert!(
        inputs.len() >= 10,
        "{} has too few inputs",
        folder.display()
    );
    inputs
}
