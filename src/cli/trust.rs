//! `onedoor trust`: makes this machine believe the local authority, and takes that back.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::args::{Places, Serving};
use super::{FAILED, complain, print, run};
use crate::tls::{Authority, root_path};

/// What is to be done about the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Install,
    Remove,
    Print,
}

/// A place where a distribution looks for authorities of its owner's, and the command that takes them over.
#[derive(Clone, Copy, Debug)]
struct Store {
    folder: &'static str,
    /// The file name there: each wants another ending.
    file: &'static str,
    command: &'static [&'static str],
}

const STORES: [Store; 3] = [
    // Debian, Ubuntu, Alpine.
    Store {
        folder: "/usr/local/share/ca-certificates",
        file: "onedoor-local-authority.crt",
        command: &["update-ca-certificates"],
    },
    // Fedora and its kin.
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        file: "onedoor-local-authority.pem",
        command: &["update-ca-trust"],
    },
    // Arch, and whatever else has p11-kit.
    Store {
        folder: "/etc/ca-certificates/trust-source/anchors",
        file: "onedoor-local-authority.crt",
        command: &["update-ca-trust"],
    },
];

pub(super) fn trust(places: &Places, wish: Wish) -> ExitCode {
    let settings = match run::settings(places, Serving::default()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let root = root_path(&settings.state);
    let done = match wish {
        Wish::Print => shown(&settings.state),
        Wish::Install => install(&settings.state, &root),
        Wish::Remove => remove(&root),
    };
    match done {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(why);
            ExitCode::from(FAILED)
        }
    }
}

/// Made if nobody has needed it yet.
fn shown(state: &Path) -> Result<String, String> {
    fs::create_dir_all(state).map_err(|error| format!("{}: {error}", state.display()))?;
    Authority::open(state).map(|authority| authority.root_pem)
}

fn install(state: &Path, root: &Path) -> Result<String, String> {
    let pem = shown(state)?;
    let Some(store) = STORES.iter().find(|store| Path::new(store.folder).is_dir()) else {
        return Err(format!(
            "no system store that onedoor knows; give {} to whatever shall trust it",
            root.display()
        ));
    };
    let to = Path::new(store.folder).join(store.file);
    fs::write(&to, pem).map_err(|error| by_hand(&error, store, root, &to))?;
    run_command(store)?;
    Ok(format!(
        "The system trusts the local authority now: {}\n\
         It vouches for localhost, *.localhost, *.test, *.internal, *.home.arpa and loopback addresses, and for nothing \
         else.\n\nBrowsers that keep a store of their own want to be told too:\n\
         \x20 Firefox    Settings, Certificates, Authorities, Import: {root}\n\
         \x20 Chromium   certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n onedoor -i {root}\n\
         \x20 Node       NODE_EXTRA_CA_CERTS={root}\n\
         `onedoor trust --remove` takes it back.\n",
        to.display(),
        root = root.display(),
    ))
}

fn remove(root: &Path) -> Result<String, String> {
    let mut removed = Vec::new();
    for store in &STORES {
        let path = Path::new(store.folder).join(store.file);
        match fs::remove_file(&path) {
            Ok(()) => {
                run_command(store)?;
                removed.push(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}; try again with sudo", path.display())),
        }
    }
    Ok(match removed.first() {
        Some(path) => format!(
            "The system trusts the local authority no more: {} is gone.\n\
             The authority itself stays in {}; remove that folder for a new one.\n",
            path.display(),
            root.parent().unwrap_or(root).display()
        ),
        None => "The system did not trust it; nothing to remove.\n".to_owned(),
    })
}

/// The same in commands, for somebody who may do more than we.
fn by_hand(error: &io::Error, store: &Store, root: &Path, to: &Path) -> String {
    format!(
        "{}: {error}; with the right to write there:\n  sudo cp {} {} && sudo {}",
        to.display(),
        root.display(),
        to.display(),
        store.command.join(" ")
    )
}

fn run_command(store: &Store) -> Result<(), String> {
    let (program, words) = store.command.split_first().unwrap_or((&"true", &[]));
    let ran = Command::new(program)
        .args(words)
        .stdout(Stdio::null())
        .status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
        Err(error) => Err(format!("{program} cannot be run: {error}")),
    }
}
