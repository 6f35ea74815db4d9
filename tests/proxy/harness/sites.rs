//! Writes site files the way operators and their tools do.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A `sites.d`.
#[derive(Clone, Debug)]
pub(crate) struct Sites {
    path: PathBuf,
}

impl Sites {
    pub(crate) fn at(path: PathBuf) -> Sites {
        fs::create_dir_all(&path).unwrap();
        Sites { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes beside, then renames: what editors, ansible, certbot and rsync do.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let goal = self.join(name);
        let folder = goal.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        let beside = folder.join(format!(
            ".{}.new",
            goal.file_name().unwrap().to_str().unwrap()
        ));
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, &goal).unwrap();
    }

    /// Truncates and writes: what `>`, `cp` and nano do.
    pub(crate) fn write_in_place(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.join(name), text).unwrap();
    }

    /// Truncates and keeps the file open: the first half of a `cat >` that pauses.
    pub(crate) fn begin_in_place(&self, name: &str, half: &str) -> File {
        let mut file = File::create(self.join(name)).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        file
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.join(name)).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.join(from), self.join(to)).unwrap();
    }

    /// Every file with its text, for the report of a failed test.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        describe_folder(&self.path, &mut text);
        text
    }
}

fn describe_folder(folder: &Path, text: &mut String) {
    const MOST_SHOWN: usize = 40;
    let Ok(entries) = fs::read_dir(folder) else {
        text.push_str(&format!("({} cannot be read)\n", folder.display()));
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths.iter().take(MOST_SHOWN) {
        if path.is_dir() {
            describe_folder(path, text);
        } else if path.is_file() {
            let content = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            text.push_str(&format!(
                "- {}\n{}\n",
                path.display(),
                content.unwrap_or_else(|error| error.to_string())
            ));
        } else {
            text.push_str(&format!("- {} (no regular file)\n", path.display()));
        }
    }
    if paths.len() > MOST_SHOWN {
        text.push_str(&format!("- and {} more\n", paths.len() - MOST_SHOWN));
    }
}
