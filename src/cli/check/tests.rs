use std::fs;

use super::*;
use crate::settings::{Overrides, load};

struct Sites {
    folder: PathBuf,
    settings: Settings,
}

impl Sites {
    fn new(name: &str, files: &[(&str, &str)]) -> Sites {
        let folder =
            std::env::temp_dir().join(format!("onedoor-check-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("file");
        }
        let overrides = Overrides {
            sites: Some(folder.clone()),
            state: Some("/nowhere".into()),
            ..Overrides::default()
        };
        let settings = load(None, overrides).expect("settings");
        Sites { folder, settings }
    }

    fn check(&self, question: Question<'_>) -> Verdict {
        let verdict = check(&self.settings, &question);
        Verdict {
            output: verdict
                .output
                .replace(&self.folder.display().to_string(), "sites.d"),
            ..verdict
        }
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

#[test]
fn every_error_of_every_file_is_drawn_and_counted() {
    let sites = Sites::new(
        "errors",
        &[
            ("blog.toml", "host = 'blog.test'\nupstream = 8081\nto = 1\n"),
            ("shop.toml", "host = 'shop.test'\nto = 5000\n"),
            ("shop.conf", ""),
        ],
    );
    let Verdict { output, ok, .. } = sites.check(Question::default());
    assert!(!ok);
    assert!(
        output.contains("error: unknown key \"upstream\", did you mean \"to\"?"),
        "{output}"
    );
    assert!(output.contains("--> sites.d/blog.toml:2:1"), "{output}");
    assert!(output.contains("2 | upstream = 8081"), "{output}");
    assert!(
        output
            .contains("ignored: sites.d/shop.conf: does not end in .toml, did you mean shop.toml?"),
        "{output}"
    );
    assert!(
        output.contains("2 files: 1 fine, 1 with errors, 1 ignored\n"),
        "{output}"
    );
}

#[test]
fn a_name_claimed_twice_is_an_error_of_the_later_file_with_both_places() {
    let sites = Sites::new(
        "conflict",
        &[
            ("a.toml", "host = 'x.test'\nto = 1\n"),
            (
                "b.toml",
                "note = 'b'\nhost = ['y.test', 'X.test.']\nto = 2\n",
            ),
            ("c.toml", "host = 'y.test'\nto = 3\n"),
        ],
    );
    let Verdict { output, ok, .. } = sites.check(Question::default());
    assert!(!ok);
    assert!(
        output.contains("\"x.test\" is already claimed by sites.d/a.toml:1:8"),
        "{output}"
    );
    assert!(output.contains("--> sites.d/b.toml:2:19"), "{output}");
    // b is refused whole, so y.test is free for c.
    assert!(
        output.contains("3 files: 2 fine, 1 with errors\n"),
        "{output}"
    );
}

#[test]
fn one_file_is_checked_from_anywhere_under_a_name() {
    let sites = Sites::new(
        "one",
        &[
            ("a.toml", "host = 'x.test'\nto = 1\n"),
            ("new.txt", "host = 'x.test'\nto = 1\n"),
        ],
    );
    let path = sites.folder.join("new.txt");
    let question = Question {
        path: Some(&path),
        ..Question::default()
    };
    let refused = sites.check(question);
    assert!(
        !refused.ok && refused.output.contains("--as NAME"),
        "{}",
        refused.output
    );
    let renamed = sites.check(Question {
        as_name: Some("a"),
        ..question
    });
    assert!(renamed.ok, "{}", renamed.output);
    let other = sites.check(Question {
        as_name: Some("b"),
        ..question
    });
    assert!(
        other
            .output
            .contains("already claimed by sites.d/a.toml:1:8"),
        "{}",
        other.output
    );
    assert!(
        other.output.contains("1 file: 0 fine, 1 with errors\n"),
        "{}",
        other.output
    );
    // Who has the name is not who is called first.
    let before = sites.check(Question {
        as_name: Some("0"),
        ..question
    });
    assert!(
        before
            .output
            .contains("already claimed by sites.d/a.toml:1:8"),
        "{}",
        before.output
    );
}

#[test]
fn files_that_are_named_together_are_held_against_each_other_too() {
    let sites = Sites::new("other", &[("m.toml", "host = 'm.test'\nto = 1\n")]);
    let new = Sites::new(
        "together",
        &[
            ("a.toml", "host = 'x.test'\nto = 1\n"),
            ("b.toml", "host = 'x.test'\nto = 2\n"),
            ("c.toml", "host = 'm.test'\nto = 3\n"),
            ("m.toml", "host = ['m.test', 'x.test']\nto = 4\n"),
        ],
    );
    let checked = |names: &[&str]| {
        let paths: Vec<PathBuf> = names.iter().map(|name| new.folder.join(name)).collect();
        let verdict = each(&sites.settings, &Question::default(), &paths);
        let folder = new.folder.display().to_string();
        let errors = verdict.problems.iter().map(|problem| {
            let place = format!("{}:{}", problem.origin.display(), problem.line);
            format!("{place} {}", problem.message).replace(&folder, "new")
        });
        (errors.collect::<Vec<_>>(), verdict.files)
    };
    // The first by its name, whichever is named first.
    let of_b = "new/b.toml:1 \"x.test\" is already claimed by new/a.toml:1:8";
    assert_eq!(checked(&["b.toml", "a.toml"]), (vec![of_b.into()], 2));
    assert_eq!(checked(&["b.toml"]), (vec![], 1));
    // A site that is there keeps its names, and has those of its new version.
    let (errors, files) = checked(&["a.toml", "c.toml", "m.toml"]);
    assert_eq!(
        errors,
        [
            "new/a.toml:1 \"x.test\" is already claimed by new/m.toml:1:19",
            "new/c.toml:1 \"m.test\" is already claimed by new/m.toml:1:9",
        ]
    );
    assert_eq!(files, 3);
    // Two versions of one site do not claim its names from each other.
    assert_eq!(checked(&["a.toml", "a.toml"]), (vec![], 2));
}

#[test]
fn the_owner_of_a_name_is_whose_the_daemon_says_it_is() {
    let sites = Sites::new(
        "owners",
        &[
            ("a.toml", "host = 'x.test'\nto = 1\n"),
            ("z.toml", "host = 'x.test'\nto = 1\n"),
        ],
    );
    let owners = Owners::of(&json!({ "sites": [
        { "name": "z", "file": "sites.d/z.toml", "hosts": ["x.test"] },
        { "name": "a", "file": "sites.d/a.toml", "hosts": [] },
    ]}));
    let question = Question {
        live: Some(&owners),
        ..Question::default()
    };
    let all = sites.check(question);
    assert!(
        all.output.contains("--> sites.d/a.toml:1:8"),
        "{}",
        all.output
    );
    assert!(
        all.output
            .contains("already claimed by sites.d/z.toml, which serves it"),
        "{}",
        all.output
    );
    assert!(
        all.output.contains("2 files: 1 fine, 1 with errors"),
        "{}",
        all.output
    );
    let (own, other) = (sites.folder.join("z.toml"), sites.folder.join("a.toml"));
    for (path, ok) in [(&own, true), (&other, false)] {
        let one = sites.check(Question {
            path: Some(path),
            ..question
        });
        assert_eq!(one.ok, ok, "{}", one.output);
    }
}

#[test]
fn warnings_fail_only_a_strict_check() {
    let sites = Sites::new(
        "strict",
        &[(
            "a.toml",
            "host = 'x.test'\nto = { at = 'https://127.0.0.1:1', verify = 'off' }\n",
        )],
    );
    let lax = sites.check(Question::default());
    assert!(
        lax.ok && lax.output.ends_with("1 file: 0 fine, 1 with warnings\n"),
        "{}",
        lax.output
    );
    assert!(
        !sites
            .check(Question {
                strict: true,
                ..Question::default()
            })
            .ok
    );
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let sites = Sites::new("gone", &[]);
    assert!(sites.check(Question::default()).ok);
    let mut settings = sites.settings.clone();
    settings.sites = sites.folder.join("none");
    assert!(!check(&settings, &Question::default()).ok);
}
