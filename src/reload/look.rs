//! One look at one site file: is it there, is it another one than before, and what does it say.
//!
//! Blocks on the disk, so it is called off the control thread; never waits for a writer and never reads without
//! bound. Whether what was seen counts is decided by `settle`.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::digest;
use super::settle::Seen;
use crate::document::Problem;
use crate::document::problem::Excerpt;
use crate::site::directory::{self, ReadError, Stamp};
use crate::site::file::{self, Rules};
use crate::site::{Site, SiteDocument, SiteName};
use crate::tls::{self, LoadError, Loaded};

/// A stamp this young may hide a second write in the same tick of the filesystem's clock: some tick at every timer
/// interrupt, some every second or two.
const FINE_TICK: Duration = Duration::from_millis(100);
const COARSE_TICK: Duration = Duration::from_secs(2);
/// Time for the kernel's events of a write that overtook our reading.
const EVENTS: Duration = Duration::from_millis(2);

/// Which file to look at, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: SiteName,
    pub(super) path: PathBuf,
    pub(super) before: Option<Print>,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug)]
pub(super) struct Print {
    /// Of the text, or of the reason why there is none.
    pub(super) digest: u64,
    pub(super) stamp: Option<Stamp>,
    /// The file may have been written again without the stamp showing it.
    pub(super) racy: bool,
    /// Behind symlinks, where there are some: changes there make no events here.
    pub(super) real: Option<PathBuf>,
    /// The file is mounted on its name: nor do changes of that one.
    pub(super) mounted: bool,
    /// Other files the site is made from.
    pub(super) files: Vec<(PathBuf, Option<Stamp>)>,
}

impl Print {
    /// Whether the disk shows anything else, without opening it.
    pub(super) fn differs(&self, stamp: Option<Stamp>) -> bool {
        self.racy
            || self.stamp != stamp
            || self.files.iter().any(|(path, was)| stamp_of(path) != *was)
    }

    /// Whether changes of this file may make no events in the sites directory.
    pub(super) fn is_made_elsewhere(&self) -> bool {
        self.real.is_some() || self.mounted || !self.files.is_empty()
    }
}

/// What there is.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) name: SiteName,
    pub(super) path: PathBuf,
    pub(super) found: Found,
}

#[derive(Debug)]
pub(super) enum Found {
    /// What was known already; its stamp may be another one.
    Same(Print),
    Site(Print, Box<Good>),
    Broken(Print, Broken),
    /// It could go live, but for a file that is not there yet.
    Waiting(Print, Complaint),
    Nothing(Absence),
    /// The folder cannot be read, so nothing is known.
    Unknown,
}

/// How a file is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Its operator said so: by another name, or by a command.
    Meant,
    Gone,
    /// Together with the folder of its team.
    WithFolder,
}

/// A file that can go live.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) site: Site,
    /// What its TLS needs of the disk. `None`: to be read later.
    pub(super) tls: Option<Loaded>,
    pub(super) document: SiteDocument,
    /// Whether a problem of it may show its text.
    pub(super) excerpt: Excerpt,
    pub(super) warnings: Vec<Complaint>,
}

#[derive(Debug)]
pub(super) struct Broken {
    pub(super) complaints: Vec<Complaint>,
}

/// A problem in two forms: one line for the log, a drawing for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) line: String,
    pub(super) drawn: String,
}

impl Look {
    pub(super) fn is_of_a_file(&self) -> bool {
        !matches!(self.found, Found::Nothing(_) | Found::Unknown)
    }

    /// The one that could go live.
    pub(super) fn site(&self) -> Option<&Site> {
        match &self.found {
            Found::Site(_, good) => Some(&good.site),
            _ => None,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        match &self.found {
            Found::Same(_) | Found::Unknown => Seen::Same,
            Found::Site(print, _) => Seen::Site(print.digest),
            Found::Broken(print, _) | Found::Waiting(print, _) => Seen::Broken(print.digest),
            Found::Nothing(_) => Seen::Nothing,
        }
    }
}

/// Looks, waits a moment and says whether the file was touched meanwhile: then the look is worth nothing.
pub(super) fn look_twice(questions: Vec<Question>, rules: &Rules) -> Vec<(Look, bool)> {
    let looks = look_at_all(questions, rules, Certificates::Now);
    if looks
        .iter()
        .any(|look| matches!(look.found, Found::Site(..)))
    {
        thread::sleep(EVENTS);
    }
    let again = |look: Look| {
        let touched = match &look.found {
            Found::Site(print, _) => print.stamp != stamp_of(&look.path),
            _ => false,
        };
        (look, touched)
    };
    looks.into_iter().map(again).collect()
}

/// When certificates are read: a site is not rejected for a bad one before it was looked at, and a start does not wait
/// for ten thousand of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certificates {
    Now,
    Later,
}

pub(super) fn look_at_all(
    questions: Vec<Question>,
    rules: &Rules,
    certificates: Certificates,
) -> Vec<Look> {
    super::parallel::map(questions, |question| look(question, rules, certificates))
}

fn look(question: Question, rules: &Rules, certificates: Certificates) -> Look {
    let found = contained(&question, |question| find(question, rules, certificates));
    let Question { name, path, .. } = question;
    Look { name, path, found }
}

/// One file that we cannot read without a panic must not keep the others from being read. It is told as broken, until
/// it is another one.
fn contained(question: &Question, find: impl FnOnce(&Question) -> Found) -> Found {
    let stamp = stamp_of(&question.path);
    catch_unwind(AssertUnwindSafe(|| find(question))).unwrap_or_else(|_| {
        let what = "onedoor has a fault that this file brings out; the log says where";
        let problem = Problem::of_file(&question.path, what);
        let print = print(
            digest(what.as_bytes()),
            stamp,
            &question.path,
            &question.path,
            Vec::new(),
        );
        let complaints = complaints(&[problem], "");
        Found::Broken(print, Broken { complaints })
    })
}

fn find(question: &Question, rules: &Rules, certificates: Certificates) -> Found {
    let Question { name, path, before } = question;
    // Before reading, so that a write in between shows as another stamp later.
    let stamp = stamp_of(path);
    let document = match directory::read(path, name) {
        Ok(document) => document,
        Err(ReadError::Gone) if is_absent(path) => return absence(question, &rules.sites),
        Err(ReadError::NotRegular) if path.is_dir() => return absence(question, &rules.sites),
        Err(error) => {
            let problem = error.into_problem(path);
            let reason = digest(problem.to_string().as_bytes());
            // What cannot be read today may be readable tomorrow without looking any different.
            let racy = true;
            let print = Print {
                racy,
                ..print(reason, stamp, path, path, Vec::new())
            };
            if before
                .as_ref()
                .is_some_and(|before| before.digest == print.digest)
            {
                return Found::Same(print);
            }
            let complaints = complaints(&[problem], "");
            return Found::Broken(print, Broken { complaints });
        }
    };
    let text = digest_under(rules, &document.text);
    if let Some(before) = before
        && before.digest == text
        && before
            .files
            .iter()
            .all(|(path, was)| stamp_of(path) == *was)
        && before.real.as_deref().unwrap_or(path) == document.real.as_path()
    {
        let files = before.files.clone();
        return Found::Same(Print {
            files,
            ..print(text, stamp, path, &document.real, Vec::new())
        });
    }
    match file::read(&document, rules) {
        Ok(accepted) => {
            let print = print(text, stamp, path, &document.real, accepted.files);
            let mut warnings: Vec<Problem> = accepted
                .warnings
                .into_iter()
                .chain(directory::exposed(path))
                .collect();
            let tls = match certificates {
                Certificates::Now => match tls::load(&accepted.site, rules) {
                    Ok(loaded) => Some(loaded),
                    Err(error) => return without_tls(print, &error, path),
                },
                Certificates::Later => None,
            };
            for warning in tls.iter().flat_map(|tls| &tls.warnings) {
                warnings.push(Problem::warning_of_file(path, warning.clone()));
            }
            let warnings = complaints(&warnings, &document.text);
            let site = accepted.site;
            let excerpt = file::excerpt(&document, rules);
            Found::Site(
                print,
                Box::new(Good {
                    site,
                    tls,
                    document,
                    excerpt,
                    warnings,
                }),
            )
        }
        Err(problems) => {
            let about = problems
                .iter()
                .filter_map(|problem| Some(problem.about.as_deref()?.to_owned()))
                .collect();
            let complaints = complaints(&problems, &document.text);
            Found::Broken(
                print(text, stamp, path, &document.real, about),
                Broken { complaints },
            )
        }
    }
}

/// What a site is whose certificate cannot be used.
fn without_tls(print: Print, error: &LoadError, path: &Path) -> Found {
    let problem = Problem::of_file(path, error.to_string());
    let mut complaints = complaints(&[problem], "");
    match error {
        LoadError::Missing(_) if complaints.len() == 1 => {
            Found::Waiting(print, complaints.remove(0))
        }
        _ => Found::Broken(print, Broken { complaints }),
    }
}

/// The same text means another site under other rules.
pub(super) fn digest_under(rules: &Rules, text: &str) -> u64 {
    digest(text.as_bytes()).wrapping_add(rules.number)
}

fn print(
    digest: u64,
    stamp: Option<Stamp>,
    path: &Path,
    real: &Path,
    files: Vec<PathBuf>,
) -> Print {
    let files: Vec<_> = files
        .into_iter()
        .map(|file| (file.clone(), stamp_of(&file)))
        .collect();
    let racy = std::iter::once(&stamp)
        .chain(files.iter().map(|(_, stamp)| stamp))
        .any(is_racy);
    // A sites directory that is reached by a link is no link of its files.
    let (is_linked, mounted) = linked_or_mounted(path);
    let real = (real != path && is_linked).then(|| real.to_owned());
    Print {
        digest,
        stamp,
        racy,
        real,
        mounted,
        files,
    }
}

fn linked_or_mounted(path: &Path) -> (bool, bool) {
    use rustix::fs::{AtFlags, CWD, FileType, StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => (
            FileType::from_raw_mode(found.stx_mode.into()) == FileType::Symlink,
            found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        ),
        Err(_) => (false, false),
    }
}

/// Also when the clock was set back: a file from the future is young for ever, and only read once too often.
fn is_racy(stamp: &Option<Stamp>) -> bool {
    let Some(stamp) = stamp else { return false };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    let is_coarse = stamp.ctime_ns % 1_000_000_000 == 0;
    let tick = if is_coarse { COARSE_TICK } else { FINE_TICK };
    stamp.ctime_ns.max(stamp.mtime_ns) > now.saturating_sub(tick.as_nanos() as i64)
}

pub(super) fn stamp_of(path: &Path) -> Option<Stamp> {
    directory::stamp(path).ok()
}

/// A dangling link is there; what it says cannot be read.
fn is_absent(path: &Path) -> bool {
    let metadata = fs::symlink_metadata(path);
    metadata.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    })
}

/// Absence counts only in a directory that can be read.
fn absence(question: &Question, sites: &Path) -> Found {
    if fs::read_dir(sites).is_err() {
        return Found::Unknown;
    }
    let was = question.before.as_ref().and_then(|before| before.stamp);
    let off = ["off", "disabled"].iter().any(|ending| {
        let mut switched_off = question.path.clone().into_os_string();
        switched_off.push(".");
        switched_off.push(ending);
        let is = stamp_of(Path::new(&switched_off));
        was.zip(is)
            .is_some_and(|(was, is)| was.inode == is.inode && was.dev == is.dev)
    });
    let folder = question.path.parent();
    Found::Nothing(match off {
        true => Absence::Meant,
        false if folder.is_some_and(Path::is_dir) => Absence::Gone,
        false => Absence::WithFolder,
    })
}

pub(super) fn complaints(problems: &[Problem], text: &str) -> Vec<Complaint> {
    let problems = problems.iter();
    let complain = |problem: &Problem| Complaint {
        line: problem.to_string(),
        drawn: problem.render(text, false),
    };
    problems.map(complain).collect()
}

/// Asks the disk about many files without opening them: which of them differ.
pub(super) fn which_differ(known: Vec<(SiteName, PathBuf, Print)>) -> Vec<SiteName> {
    let known = known.into_iter();
    let differing = known.filter(|(_, path, print)| print.differs(stamp_of(path)));
    differing.map(|(name, _, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reload::tests::TempFolder;

    struct Desk {
        folder: TempFolder,
        rules: Rules,
    }

    impl Desk {
        fn new() -> Desk {
            let folder = TempFolder::new();
            let rules = Rules {
                sites: folder.path().to_owned(),
                ..Rules::default()
            };
            Desk { folder, rules }
        }

        fn look(&self, before: Option<Print>) -> Found {
            let (name, path) = (SiteName::new("shop"), self.path());
            look(
                Question { name, path, before },
                &self.rules,
                Certificates::Now,
            )
            .found
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("shop.toml")
        }

        fn site(&self) -> Print {
            fs::write(self.path(), "host = 'a.test'\nto = 5000").expect("write");
            match self.look(None) {
                Found::Site(print, _) => print,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_same_text_in_a_new_file_is_nothing_new() {
        let desk = Desk::new();
        let before = desk.site();
        fs::remove_file(desk.path()).expect("remove");
        desk.site();
        assert!(matches!(desk.look(Some(before)), Found::Same(_)));
    }

    #[test]
    fn a_file_is_gone_only_where_its_folder_can_be_read() {
        let mut desk = Desk::new();
        assert!(matches!(desk.look(None), Found::Nothing(Absence::Gone)));
        desk.rules.sites = desk.folder.path().join("missing");
        assert!(matches!(desk.look(None), Found::Unknown));
    }

    #[test]
    fn a_file_that_was_renamed_to_off_says_so() {
        let desk = Desk::new();
        let before = desk.site();
        fs::rename(desk.path(), desk.folder.path().join("shop.toml.off")).expect("rename");
        assert!(matches!(
            desk.look(Some(before)),
            Found::Nothing(Absence::Meant)
        ));
        let (name, path) = (
            SiteName::new("team/shop"),
            desk.folder.path().join("team/shop.toml"),
        );
        let question = Question {
            name,
            path,
            before: None,
        };
        assert!(matches!(
            look(question, &desk.rules, Certificates::Now).found,
            Found::Nothing(Absence::WithFolder)
        ));
        fs::copy(
            desk.folder.path().join("shop.toml.off"),
            desk.folder.path().join("x"),
        )
        .expect("copy");
        assert!(matches!(desk.look(None), Found::Nothing(Absence::Gone)));
    }

    #[test]
    fn a_file_that_brings_out_a_panic_is_broken_and_looks_the_same_until_it_is_another() {
        let desk = Desk::new();
        desk.site();
        let question = |before| Question {
            name: SiteName::new("shop"),
            path: desk.path(),
            before,
        };
        let Found::Broken(print, broken) = contained(&question(None), |_| panic!("a fault")) else {
            panic!("not broken");
        };
        assert!(
            broken.complaints[0].line.contains("shop.toml"),
            "{broken:?}"
        );
        assert_eq!(print.stamp, stamp_of(&desk.path()));
        assert!(matches!(desk.look(Some(print)), Found::Site(..)));
    }

    #[test]
    fn a_dangling_link_is_broken_and_not_gone() {
        let desk = Desk::new();
        std::os::unix::fs::symlink("nowhere", desk.path()).expect("link");
        assert!(matches!(desk.look(None), Found::Broken(..)));
    }
}
