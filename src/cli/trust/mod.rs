//! `onedoor trust`: makes this machine believe the local authority, and takes that back.

mod store;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::geteuid;

use self::store::stores;
use super::args::{Places, Serving};
use super::said::Said;
use super::{FAILED, complain, run};
use crate::settings::Settings;
use crate::tls::{Authority, fingerprint, root_path};

/// What is to be done about the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Install,
    Remove,
    Print,
}

pub(super) fn trust(places: &Places, wish: Wish, mut said: Said) -> ExitCode {
    let settings = match run::settings(places, Serving::default()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let root = root_path(&settings.state);
    said.fact("authority", root.to_string_lossy());
    let done = match wish {
        Wish::Print => shown(&settings).map(|pem| print_out(&pem, &mut said)),
        Wish::Install => shown(&settings).and_then(|pem| install(&pem, &root, &mut said)),
        Wish::Remove => remove(&root, &mut said),
    };
    match done {
        Ok(()) => said.end(ExitCode::SUCCESS),
        Err(why) => {
            complain(why);
            ExitCode::from(FAILED)
        }
    }
}

/// Made if nobody has needed it yet.
fn shown(settings: &Settings) -> Result<String, String> {
    make_state(&settings.state, &settings.sites)?;
    Authority::open(&settings.state).map(|authority| authority.root_pem)
}

/// The state directory, where nothing has run yet, for its owner alone. Who is not the owner of the sites, or is root, is
/// likely to mean the onedoor of somebody else, which has its state elsewhere and would not know this authority: `sudo`
/// sets another `$HOME`.
fn make_state(state: &Path, sites: &Path) -> Result<(), String> {
    if state.is_dir() {
        return Ok(());
    }
    let us = geteuid();
    let is_of_others = fs::metadata(sites).is_ok_and(|sites| sites.uid() != us.as_raw());
    if us.is_root() || is_of_others {
        return Err(format!(
            "no onedoor has run with the state directory {}; name the one that yours runs with by --state, or say \
             `onedoor trust` as the user that it runs as",
            state.display()
        ));
    }
    let mut own = DirBuilder::new();
    own.recursive(true).mode(0o700);
    own.create(state)
        .map_err(|error| format!("{}: {error}", state.display()))
}

fn print_out(pem: &str, said: &mut Said) {
    said.line(pem.trim_end());
    said.fact("outcome", "printed");
    said.fact("pem", pem);
}

fn install(pem: &str, root: &Path, said: &mut Said) -> Result<(), String> {
    let Some(store) = stores().next() else {
        return Err(format!(
            "no system store that onedoor knows; give {} to whatever shall trust it",
            root.display()
        ));
    };
    let to = store.place(&name_of(pem, root)?);
    store.put(pem, &to, root)?;
    said.line(format_args!(
        "The system trusts the local authority now: {}\n\
         It vouches for localhost, *.localhost, *.test, *.internal, *.home.arpa and loopback addresses, and for nothing \
         else.\n\nBrowsers that keep a store of their own want to be told too:\n\
         \x20 Firefox    Settings, Certificates, Authorities, Import: {root}\n\
         \x20 Chromium   certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n onedoor -i {root}\n\
         \x20 Node       NODE_EXTRA_CA_CERTS={root}\n\
         `onedoor trust --remove` takes it back.",
        to.display(),
        root = root.display(),
    ));
    said.fact("outcome", "trusted");
    said.fact("file", to.to_string_lossy());
    said.fact("pem", pem);
    tell_others(store.others(&to), said);
    Ok(())
}

fn remove(root: &Path, said: &mut Said) -> Result<(), String> {
    let pem = match fs::read_to_string(root) {
        Ok(pem) => Some(pem),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("cannot read {}: {error}", root.display())),
    };
    let name = pem.as_deref().map(|pem| name_of(pem, root)).transpose()?;
    let (mut removed, mut others) = (None, Vec::new());
    for store in stores() {
        let own = name.as_deref().map(|name| store.place(name));
        if let Some(own) = &own
            && store.take_out(own)?
        {
            removed = Some(own.clone());
        }
        others.extend(store.others(own.as_deref().unwrap_or(Path::new(""))));
    }
    let outcome = match (&removed, &name) {
        (Some(path), _) => {
            said.line(format_args!(
                "The system trusts the local authority no more: {} is gone.\n\
                 The authority itself stays in {}; remove that folder and restart onedoor for a new one.",
                path.display(),
                root.parent().unwrap_or(root).display()
            ));
            "removed"
        }
        (None, Some(_)) => {
            said.line("The system did not trust it; nothing to remove.");
            "not-trusted"
        }
        (None, None) => {
            said.line(format_args!(
                "There is no local authority at {}; nothing to remove.",
                root.display()
            ));
            "no-authority"
        }
    };
    said.fact("outcome", outcome);
    said.fact(
        "file",
        removed.map(|path| path.to_string_lossy().into_owned()),
    );
    said.fact("pem", pem);
    tell_others(others, said);
    Ok(())
}

fn name_of(pem: &str, root: &Path) -> Result<String, String> {
    fingerprint(pem).ok_or_else(|| format!("{} is damaged", root.display()))
}

/// Those of other state directories, and of this one before its folder was removed.
fn tell_others(others: Vec<PathBuf>, said: &mut Said) {
    for other in &others {
        said.line(format_args!(
            "It trusts another one of onedoor: {}",
            other.display()
        ));
    }
    let others = others.iter().map(|other| other.to_string_lossy());
    said.fact("others", others.collect::<Vec<_>>());
}
