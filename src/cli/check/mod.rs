//! `onedoor check`: every error of every site file, before anything goes live.
//!
//! Reads what is on disk as a start would. Where two files claim one name, its owner is whose the daemon says it is, if one
//! serves this folder, and else the first by file name. Files that are named are held against all others, and against each
//! other as if they were dropped in together.

mod claims;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::document::problem::printable;
use crate::document::{Problem, Severity};
use crate::limits::SITE_FILE_BYTES;
use crate::settings::Settings;
use crate::site::directory::{self, Ignored, Listing};
use crate::site::file::{Excerpts, Rules};
use crate::site::{SiteDocument, SiteName};

use claims::Claims;

/// What to check, and how to say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// A directory, a file, or `-` for standard input. `None`: the sites directory.
    pub path: Option<&'a Path>,
    /// The name that one file is checked as, among the others of the sites directory.
    pub as_name: Option<&'a str>,
    /// Warnings count as errors.
    pub strict: bool,
    pub color: bool,
    /// `None`: no daemon serves this folder.
    pub live: Option<&'a Owners>,
}

/// Who owns each name now, as the daemon tells.
#[derive(Clone, Debug, Default)]
pub struct Owners(HashMap<String, (String, PathBuf)>);

impl Owners {
    /// Of the answer to `/v1/sites`.
    pub fn of(answer: &Value) -> Owners {
        let mut owners = HashMap::new();
        for site in answer["sites"].as_array().into_iter().flatten() {
            let (Some(name), Some(file)) = (site["name"].as_str(), site["file"].as_str()) else {
                continue;
            };
            for host in site["hosts"].as_array().into_iter().flatten() {
                if let Some(host) = host.as_str() {
                    owners.insert(host.to_owned(), (name.to_owned(), file.into()));
                }
            }
        }
        Owners(owners)
    }
}

/// What to print, and whether all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub output: String,
    pub ok: bool,
    /// How many site files were read.
    pub files: usize,
    pub problems: Vec<Problem>,
    /// What is no site file, and why.
    pub ignored: Vec<(PathBuf, String)>,
}

impl Verdict {
    /// The same as the output, in JSON.
    pub fn for_programs(&self) -> Value {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let problems = self.problems.iter().map(|problem| {
            let place = |number: u32| (number > 0).then_some(number);
            json!({
                "file": shown(&problem.origin),
                "line": place(problem.line),
                "column": place(problem.column),
                "severity": match problem.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "message": problem.message,
                "help": problem.help,
            })
        });
        let ignored = self.ignored.iter();
        let ignored = ignored.map(|(path, why)| json!({ "file": shown(path), "reason": why }));
        json!({
            "ok": self.ok,
            "files": self.files,
            "problems": problems.collect::<Vec<_>>(),
            "ignored": ignored.collect::<Vec<_>>(),
        })
    }
}

/// Checks a directory or one file.
pub fn check(settings: &Settings, question: &Question<'_>) -> Verdict {
    let mut report = Report::of(question);
    report.read(settings, question.path);
    report.verdict()
}

/// Checks several files or directories: each directory as if it were named alone, the files as if all were dropped in.
pub fn each(settings: &Settings, question: &Question<'_>, paths: &[PathBuf]) -> Verdict {
    let mut report = Report::of(question);
    let (folders, files): (Vec<&PathBuf>, Vec<_>) = paths.iter().partition(|path| path.is_dir());
    for folder in folders {
        report.read(settings, Some(folder));
    }
    report.named(settings, &files);
    report.verdict()
}

/// Checks a text that is not written yet as if it were the file `question.path`.
pub fn text(settings: &Settings, question: &Question<'_>, text: &str) -> Verdict {
    let mut report = Report::of(question);
    let mut rules = settings.rules();
    let path = question.path.unwrap_or(Path::new("-"));
    let document = site_name(&rules, path, question.as_name)
        .map_err(|reason| Problem::of_file(path, reason))
        .map(|name| SiteDocument {
            name,
            text: text.to_owned(),
            // Nobody shall look for it.
            origin: format!("{} (not written)", path.display()).into(),
            real: path.to_owned(),
        });
    report.documents(settings, &mut rules, vec![document]);
    report.is_written = false;
    report.verdict()
}

struct Report<'q> {
    question: &'q Question<'q>,
    output: String,
    files: usize,
    /// Files with errors and files with warnings only.
    errors: usize,
    warnings: usize,
    ignored: usize,
    unreadable: usize,
    /// What is wrong with the folders of certificates, and with who may claim `*`.
    folders: usize,
    problems: Vec<Problem>,
    ignored_files: Vec<(PathBuf, String)>,
    /// Whether what was read is a file already.
    is_written: bool,
}

impl<'q> Report<'q> {
    fn of(question: &'q Question<'q>) -> Report<'q> {
        Report {
            question,
            output: String::new(),
            files: 0,
            errors: 0,
            warnings: 0,
            ignored: 0,
            unreadable: 0,
            folders: 0,
            problems: Vec::new(),
            ignored_files: Vec::new(),
            is_written: true,
        }
    }

    fn read(&mut self, settings: &Settings, path: Option<&Path>) {
        match path {
            Some(path) if !path.is_dir() => self.named(settings, &[path]),
            path => {
                let mut rules = settings.rules();
                if let Some(path) = path {
                    rules.sites = path.to_owned();
                }
                self.directory(settings, &rules);
            }
        }
    }

    /// Files by their paths, `-` among them.
    fn named(&mut self, settings: &Settings, paths: &[impl AsRef<Path>]) {
        let mut rules = settings.rules();
        let read = |path: &_| one_document(&rules, path, self.question.as_name);
        let documents = paths.iter().map(|path| read(path.as_ref())).collect();
        self.documents(settings, &mut rules, documents);
    }

    fn directory(&mut self, settings: &Settings, rules: &Rules) {
        let listing = match directory::list(&rules.sites) {
            Ok(listing) => listing,
            Err(error) => return self.unreadable(&rules.sites, &error),
        };
        let mut claims = self.claims(settings);
        for (name, found) in &listing.files {
            let (text, problems) = match directory::read(&found.path, name) {
                Ok(document) => {
                    let problems = claims.add(&document, rules);
                    (document.text, problems)
                }
                Err(error) => (String::new(), vec![error.into_problem(&found.path)]),
            };
            let exposed = directory::exposed(&found.path);
            self.file(&text, problems.into_iter().chain(exposed));
        }
        let shared = claims.passed_and_shown();
        self.warnings += usize::from(!shared.is_empty());
        shared
            .into_iter()
            .for_each(|problem| self.beside_files(problem));
        if let Some(line) = rules.missing_catch_all(|name| listing.files.contains_key(name)) {
            let named_in = settings.config.as_deref().unwrap_or(Path::new("catch_all"));
            self.folders += 1;
            self.beside_files(Problem::warning_of_file(named_in, line));
        }
        self.rest(&listing, &claims);
    }

    /// Says what is wrong with the folders of certificates, and begins with no claims.
    fn claims(&mut self, settings: &Settings) -> Claims<'q> {
        let (claims, of_folders) = Claims::of(self.question.live, settings);
        let named_in = settings.config.as_deref();
        let named_in = named_in.unwrap_or(Path::new("certificates"));
        for line in of_folders {
            self.folders += 1;
            self.beside_files(Problem::warning_of_file(named_in, line));
        }
        claims
    }

    fn beside_files(&mut self, problem: Problem) {
        if self.problems.contains(&problem) {
            return;
        }
        let drawn = problem.render("", self.question.color);
        self.line(&drawn);
        self.problems.push(problem);
    }

    fn rest(&mut self, listing: &Listing, claims: &Claims<'_>) {
        for (folder, error) in &listing.unreadable {
            self.unreadable(folder, error);
        }
        for (path, reason) in &listing.ignored {
            if claims.has_named(path) {
                continue;
            }
            self.ignored += 1;
            let shown = printable(&path.to_string_lossy());
            self.line(&format!("ignored: {shown}: {reason}"));
            self.ignored_files.push((path.clone(), reason.to_string()));
        }
        if listing.files.is_empty() && listing.unreadable.is_empty() {
            self.line("no site files here; a first one is shop.toml with host = \"shop.example.com\" and to = 5000");
        }
    }

    /// Files among those of the sites directory, of which only their own problems are told.
    fn documents(
        &mut self,
        settings: &Settings,
        rules: &mut Rules,
        documents: Vec<Result<SiteDocument, Problem>>,
    ) {
        let mut sites = BTreeMap::new();
        // Two versions of one site are no two sites: the others are for later.
        let mut versions = Vec::new();
        for document in documents {
            match document {
                Err(problem) => self.file("", std::iter::once(problem)),
                Ok(document) if sites.contains_key(&document.name) => versions.push(Ok(document)),
                Ok(document) => {
                    sites.insert(document.name.clone(), document);
                }
            }
        }
        if sites.is_empty() {
            return;
        }
        let folders = self.folders;
        let mut claims = self.claims(settings);
        // The files have no part in it.
        self.folders = folders;
        let others = directory::list(&rules.sites).unwrap_or_default();
        // Also those behind them: who has a name keeps it, however the newcomer is called.
        for (name, found) in &others.files {
            if !sites.contains_key(name)
                && let Ok(other) = directory::read(&found.path, name)
            {
                claims.add(&other, rules);
            }
        }
        // Whoever checks a file by its path could read it without us.
        rules.excerpts = Excerpts::Always;
        let (known, new): (Vec<_>, Vec<_>) = sites
            .into_values()
            .partition(|document| others.files.contains_key(&document.name));
        for document in known.into_iter().chain(new) {
            let problems = claims.add(&document, rules);
            self.file(&document.text, problems.into_iter());
        }
        self.documents(settings, rules, versions);
    }

    fn file(&mut self, text: &str, problems: impl Iterator<Item = Problem>) {
        self.files += 1;
        let (mut errors, mut warnings) = (0, 0);
        for problem in problems {
            match problem.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            let drawn = problem.render(text, self.question.color);
            self.line(&drawn);
            self.problems.push(problem);
        }
        self.errors += usize::from(errors > 0);
        self.warnings += usize::from(errors == 0 && warnings > 0);
    }

    fn unreadable(&mut self, folder: &Path, error: &io::Error) {
        self.unreadable += 1;
        self.problems.push(Problem::of_file(
            folder,
            format!("cannot be listed: {error}"),
        ));
        self.line(&format!(
            "error: {}: cannot be listed: {error}",
            printable(&folder.to_string_lossy())
        ));
    }

    fn line(&mut self, text: &str) {
        self.output.push_str(text.trim_end_matches('\n'));
        self.output.push('\n');
        // A drawing has several lines and wants room behind it.
        if text.contains('\n') {
            self.output.push('\n');
        }
    }

    /// `12 files: 10 fine, 2 with errors, 1 ignored`
    fn verdict(mut self) -> Verdict {
        let fine = self.files.saturating_sub(self.errors + self.warnings);
        let plural = if self.files == 1 { "file" } else { "files" };
        let mut summary = format!("{} {plural}: {fine} fine", self.files);
        for (count, what) in [
            (self.errors, "with errors"),
            (self.warnings, "with warnings"),
            (self.ignored, "ignored"),
            (self.unreadable, "folder not readable"),
        ] {
            if count > 0 {
                // Writing to a String cannot fail.
                let written = write!(summary, ", {count} {what}");
                debug_assert!(written.is_ok());
            }
        }
        if !self.is_written {
            return self.ended();
        }
        self.line(&summary);
        if self.errors > 0 {
            let (a, its) = match self.errors {
                1 => ("the file with errors does", "its"),
                _ => ("the files with errors do", "their"),
            };
            self.line(&format!(
                "{a} not go live; {its} last good version, if there is one, goes on serving"
            ));
        }
        self.ended()
    }

    fn ended(self) -> Verdict {
        let warnings = self.warnings + self.folders;
        let ok = self.errors + self.unreadable == 0 && !(self.question.strict && warnings > 0);
        Verdict {
            output: self.output,
            ok,
            files: self.files,
            problems: self.problems,
            ignored: self.ignored_files,
        }
    }
}

/// The document of a single file or of standard input.
fn one_document(
    rules: &Rules,
    path: &Path,
    as_name: Option<&str>,
) -> Result<SiteDocument, Problem> {
    let name = site_name(rules, path, as_name).map_err(|reason| Problem::of_file(path, reason))?;
    if path != Path::new("-") {
        return directory::read(path, &name).map_err(|error| error.into_problem(path));
    }
    let origin = PathBuf::from("<standard input>");
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(SITE_FILE_BYTES + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| Problem::of_file(&origin, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > SITE_FILE_BYTES {
        return Err(directory::ReadError::TooLarge.into_problem(&origin));
    }
    let text = directory::decode(bytes).map_err(|error| error.into_problem(&origin))?;
    let real = rules.sites.join(format!("{name}.toml"));
    Ok(SiteDocument {
        name,
        text,
        origin,
        real,
    })
}

/// `--as`, else the place below the sites directory, else the file's own name.
fn site_name(rules: &Rules, path: &Path, as_name: Option<&str>) -> Result<SiteName, String> {
    if let Some(name) = as_name {
        let named = directory::classify(Path::new(&format!("{name}.toml")));
        return named.map_err(|reason| format!("{name:?} is no name of a site: {reason}"));
    }
    if path == Path::new("-") {
        return Err("standard input has no name, write --as NAME".into());
    }
    let below = || {
        path.canonicalize()
            .ok()?
            .strip_prefix(rules.sites.canonicalize().ok()?)
            .ok()
            .map(Path::to_owned)
    };
    let relative = path
        .strip_prefix(&rules.sites)
        .map(Path::to_owned)
        .ok()
        .or_else(below);
    let alone = || path.file_name().map(PathBuf::from).unwrap_or_default();
    directory::classify(&relative.unwrap_or_else(alone)).map_err(|reason| match reason {
        Ignored::NotToml { .. } => format!("{reason}; --as NAME checks it as that site"),
        reason => format!("would be ignored: {reason}; --as NAME checks it as that site"),
    })
}
