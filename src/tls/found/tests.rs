use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::UNIX_EPOCH;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};
use time::OffsetDateTime;

use super::*;

struct Desk {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

/// A chain of one and its key.
struct Made {
    cert: String,
    key: String,
}

impl Desk {
    fn new(name: &str) -> Desk {
        let folder = std::env::temp_dir().join(format!("onedoor-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("folder");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let root = params.self_signed(&key).expect("root").pem();
        let issuer = Issuer::new(params, key);
        Desk {
            folder,
            issuer,
            root,
        }
    }

    fn make(&self, names: &[&str], days: i64) -> Made {
        self.make_with(KeyPair::generate().expect("key"), names, days)
    }

    fn make_with(&self, key: KeyPair, names: &[&str], days: i64) -> Made {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let now = OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + time::Duration::days(days);
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        let key = key.serialize_pem();
        Made { cert, key }
    }

    /// Written long enough ago to be nothing that is just being written.
    fn put(&self, name: &str, text: &str) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        fs::write(&path, text).expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
    }

    fn put_pair(&self, name: &str, made: &Made) {
        self.put(&format!("{name}.pem"), &made.cert);
        self.put(&format!("{name}.key"), &made.key);
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.join(name)).expect("removed");
    }

    /// As it looks so many seconds from now.
    fn look(&self, before: &Found, seconds: u64) -> (Found, Told) {
        let now = SystemTime::now() + Duration::from_secs(seconds);
        let Again { found, told } =
            before.again(std::slice::from_ref(&self.folder), now, Removals::Doubted);
        (found.expect("another"), told)
    }

    fn again(&self, before: &Found, removals: Removals) -> Again {
        let now = SystemTime::now() + Duration::from_secs(LATER);
        before.again(std::slice::from_ref(&self.folder), now, removals)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Made {
    /// Whether it is what `found` shows first for `host`.
    fn is_shown(&self, found: &Found, host: &str) -> bool {
        let shown = found.find(host).expect("shown");
        let shown = &shown.certificates[0];
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let own = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("certificate");
        shown.leaf() == Some(own.as_ref())
    }
}

const LATER: u64 = 3600;

#[test]
fn half_a_renewal_keeps_the_pair_beside_others() {
    let desk = Desk::new("half");
    let (one, other) = (desk.make(&["one.test"], 50), desk.make(&["two.test"], 50));
    desk.put_pair("one", &one);
    desk.put_pair("two", &other);
    let (found, _) = desk.look(&Found::default(), LATER);
    let renewed = desk.make(&["one.test"], 90);
    desk.put("one.pem", &renewed.cert);
    let (found, told) = desk.look(&found, LATER);
    assert!(one.is_shown(&found, "one.test") && other.is_shown(&found, "two.test"));
    assert_eq!(told.problems, Vec::<String>::new(), "not yet");
    assert_eq!(told.again_in, Some(RESTLESS));
    let (found, told) = desk.look(&found, LATER);
    assert!(told.problems[0].contains("one.pem and"), "{told:?}");
    assert!(told.problems[0].contains("are no pair"), "{told:?}");
    assert_eq!((told.problems.len(), told.again_in), (1, None));
    desk.put("one.key", &renewed.key);
    let (found, told) = desk.look(&found, LATER);
    assert!(renewed.is_shown(&found, "one.test") && told.is_news);
    let (found, told) = desk.look(&found, LATER);
    assert!(!told.is_news && told.problems.is_empty(), "{told:?}");
    assert!(desk_is_at_rest(&desk, &found));
    for half in ["one.key", "one.pem"] {
        desk.remove(half);
    }
    let (found, _) = desk.look(&found, LATER);
    assert!(found.find("one.test").is_none(), "taken away");
}

/// Until nothing moves any more.
fn settled(desk: &Desk, mut found: Found) -> Found {
    while let Some(next) = desk.again(&found, Removals::Doubted).found {
        found = next;
    }
    found
}

#[test]
fn a_pair_of_which_both_halves_are_gone_is_gone() {
    let desk = Desk::new("both");
    let old = desk.make(&["a.test", "b.test"], 50);
    desk.put_pair("n", &old);
    let (found, _) = desk.look(&Found::default(), LATER);
    desk.remove("n.pem");
    let new = desk.make(&["a.test"], 50);
    desk.put("n.key", &new.key);
    desk.put("n2.pem", &new.cert);
    let (found, _) = desk.look(&found, LATER);
    assert!(old.is_shown(&found, "b.test"), "it may be a renewal");
    let found = settled(&desk, found);
    assert!(new.is_shown(&found, "a.test"));
    assert!(found.find("b.test").is_none(), "its key was taken out");
}

#[test]
fn what_is_whole_is_shown_before_what_is_kept() {
    let desk = Desk::new("whole");
    let mut old = desk.make(&["a.test", "b.test"], 90);
    old.cert.push_str(&desk.root);
    desk.put_pair("old", &old);
    let found = settled(&desk, Found::default());
    // Another without intermediates for one of its names, and then for the other.
    let (one, two) = (desk.make(&["a.test"], 30), desk.make(&["b.test"], 30));
    desk.put_pair("one", &one);
    desk.remove("old.pem");
    let (found, _) = desk.look(&found, LATER);
    assert!(old.is_shown(&found, "a.test"), "it may be a renewal");
    let found = settled(&desk, found);
    assert!(one.is_shown(&found, "a.test") && old.is_shown(&found, "b.test"));
    let problems: Vec<&String> = found.problems().collect();
    assert!(problems[0].contains("old.pem is gone"), "{problems:?}");
    desk.put_pair("two", &two);
    let found = settled(&desk, found);
    assert!(one.is_shown(&found, "a.test") && two.is_shown(&found, "b.test"));
    assert_eq!(found.problems().count(), 0);
    // What is whole again is what it was.
    desk.remove("one.pem");
    desk.remove("two.pem");
    desk.put("old.pem", &old.cert);
    let found = settled(&desk, found);
    assert!(old.is_shown(&found, "a.test") && old.is_shown(&found, "b.test"));
}

fn desk_is_at_rest(desk: &Desk, found: &Found) -> bool {
    let again = desk.again(found, Removals::Doubted);
    again.found.is_none() && again.told.again_in.is_none()
}

/// certbot links cert, privkey, chain and fullchain, one after the other.
#[test]
fn every_step_of_a_switch_shows_a_whole_chain() {
    let desk = Desk::new("switch");
    let whole = |made: &Made| format!("{}{}", made.cert, desk.root);
    let parts = |made: &Made| {
        [
            ("live/a/cert.pem", made.cert.clone()),
            ("live/a/privkey.pem", made.key.clone()),
            ("live/a/chain.pem", desk.root.clone()),
            ("live/a/fullchain.pem", whole(made)),
        ]
    };
    let (old, new) = (desk.make(&["a.test"], 20), desk.make(&["a.test"], 90));
    for (name, text) in parts(&old) {
        desk.put(name, &text);
    }
    let (mut found, told) = desk.look(&Found::default(), LATER);
    assert_eq!(told.problems, Vec::<String>::new());
    for (name, text) in parts(&new) {
        // There is a moment without the link.
        desk.remove(name);
        for is_there in [false, true] {
            if is_there {
                desk.put(name, &text);
            }
            found = desk.look(&found, LATER).0;
            let shown = found.find("a.test").expect("shown");
            assert_eq!(shown.certificates[0].certified.cert.len(), 2, "{name}");
        }
    }
    assert!(new.is_shown(&found, "a.test"));
    let (_, told) = desk.look(&found, LATER);
    assert_eq!(told.problems, Vec::<String>::new(), "nobody was told of it");
}

#[test]
fn what_cannot_be_listed_is_unknown_and_not_gone() {
    let desk = Desk::new("closed");
    let made = desk.make(&["a.test"], 50);
    desk.put_pair("a/a", &made);
    let (found, _) = desk.look(&Found::default(), LATER);
    let away = desk.folder.with_extension("away");
    fs::rename(&desk.folder, &away).expect("away");
    let (found, told) = desk.look(&found, LATER);
    assert!(made.is_shown(&found, "a.test"));
    assert!(told.problems[0].contains("goes on being shown"), "{told:?}");
    assert_eq!((told.is_news, told.again_in), (false, Some(CLOSED)));
    let again = desk.again(&found, Removals::Doubted);
    assert!(again.found.is_none() && again.told.problems.is_empty());
    fs::rename(&away, &desk.folder).expect("back");
    let (found, told) = desk.look(&found, LATER);
    assert!(made.is_shown(&found, "a.test") && !told.is_news);
    fs::remove_dir_all(desk.folder.join("a")).expect("removed");
    let found = settled(&desk, found);
    assert!(found.find("a.test").is_none(), "its folder was taken away");
}

#[test]
fn a_link_that_leads_nowhere_is_unknown_and_not_gone() {
    let desk = Desk::new("link");
    let made = desk.make(&["a.test"], 50);
    desk.put_pair("far/deep/down/er/a", &made);
    let (target, away) = (
        desk.folder.join("far/deep/down/er"),
        desk.folder.join("away"),
    );
    std::os::unix::fs::symlink(&target, desk.folder.join("a")).expect("link");
    let found = settled(&desk, Found::default());
    assert!(made.is_shown(&found, "a.test"));
    fs::rename(&target, &away).expect("away");
    fs::remove_dir_all(desk.folder.join("far")).expect("gone");
    fs::rename(&away, desk.folder.with_extension("away")).expect("away");
    let mut found = found;
    for _ in 0..3 {
        let again = desk.again(&found, Removals::Doubted);
        assert_eq!(again.told.again_in, Some(CLOSED));
        assert!(!again.told.is_news);
        found = again.found.unwrap_or(found);
        assert!(made.is_shown(&found, "a.test"));
    }
    fs::remove_dir_all(desk.folder.with_extension("away")).expect("gone");
    fs::remove_file(desk.folder.join("a")).expect("gone");
    let found = settled(&desk, found);
    assert!(found.find("a.test").is_none(), "the link was taken away");
}

#[test]
fn a_folder_that_is_swapped_is_not_missed() {
    let desk = Desk::new("swap");
    let (old, new) = (desk.make(&["a.test"], 20), desk.make(&["a.test"], 90));
    desk.put_pair("live/a", &old);
    desk.put_pair("next/down/too/deep/a", &new);
    let found = settled(&desk, Found::default());
    fs::rename(desk.folder.join("live"), desk.folder.with_extension("old")).expect("away");
    let Again {
        found: between,
        told,
    } = desk.again(&found, Removals::Doubted);
    let between = between.expect("another");
    assert!(old.is_shown(&between, "a.test"));
    assert_eq!((told.is_news, told.again_in), (false, Some(RESTLESS)));
    let (gone, told) = desk.look(&between, LATER);
    assert!(gone.find("a.test").is_none(), "nothing has come");
    assert_eq!(told.lost.len(), 1, "{told:?}");
    let next = desk.folder.join("next/down/too/deep");
    fs::rename(next, desk.folder.join("live")).expect("there");
    let found = settled(&desk, between);
    assert!(new.is_shown(&found, "a.test"));
    fs::remove_dir_all(desk.folder.with_extension("old")).expect("gone");
}

#[test]
fn what_has_vanished_all_at_once_is_unknown_and_not_gone() {
    let desk = Desk::new("emptied");
    let made = ["a.test", "b.test"].map(|host| (host, desk.make(&[host], 50)));
    let are_shown = |found: &Found| {
        made.iter()
            .filter(|(host, made)| found.find(host).is_some() && made.is_shown(found, host))
            .count()
    };
    let fill = |layout: fn(&str) -> String| {
        for (host, made) in &made {
            desk.put_pair(&layout(host), made);
        }
        settled(&desk, Found::default())
    };
    let empty = || {
        fs::remove_dir_all(&desk.folder).expect("removed");
        fs::create_dir_all(&desk.folder).expect("made anew");
    };
    // Whether in one folder or each in its own.
    let layouts: [fn(&str) -> String; 2] = [str::to_owned, |host| format!("{host}/it")];
    for layout in layouts {
        let found = fill(layout);
        assert_eq!(are_shown(&found), 2);
        empty();
        let (mut found, told) = desk.look(&found, LATER);
        assert!(told.problems[0].contains("goes on being shown"), "{told:?}");
        for _ in 0..3 {
            let again = desk.again(&found, Removals::Doubted);
            assert_eq!(again.told.again_in, Some(CLOSED));
            assert!(!again.told.is_news && again.told.problems.is_empty());
            found = again.found.unwrap_or(found);
            assert_eq!(are_shown(&found), 2);
            assert_eq!(found.problems().count(), 1, "for who asks");
        }
        // Somebody puts one file after the other.
        for (host, made) in &made {
            desk.put_pair(&layout(host), made);
            found = desk.look(&found, LATER).0;
            assert_eq!(are_shown(&found), 2, "{host}");
        }
        found = settled(&desk, found);
        assert!(are_shown(&found) == 2 && found.problems().count() == 0);
        empty();
        let (found, _) = desk.look(&found, LATER);
        let again = desk.again(&found, Removals::Meant);
        let gone = again.found.expect("another");
        assert_eq!((are_shown(&gone), again.told.lost.len()), (0, 2));
        assert_eq!(gone.problems().count(), 0);
    }
}

#[test]
fn what_comes_back_slowly_is_shown_until_it_is_back_and_then_like_any_other() {
    let desk = Desk::new("slowly");
    let hosts = ["a.test", "b.test", "c.test"];
    let made = hosts.map(|host| (host, desk.make(&[host], 50)));
    let shown = |found: &Found| {
        let is_shown =
            |(host, made): &&(&str, Made)| found.find(host).is_some() && made.is_shown(found, host);
        made.iter().filter(is_shown).count()
    };
    let empty = || {
        fs::remove_dir_all(&desk.folder).expect("removed");
        fs::create_dir_all(&desk.folder).expect("made anew");
    };
    let remove = |name: &str| {
        desk.remove(&format!("{name}.pem"));
        desk.remove(&format!("{name}.key"));
    };
    let lacks = |found: &Found, count: usize| {
        let problems: Vec<&String> = found.problems().collect();
        match count {
            0 => problems.is_empty(),
            count => {
                let lacks = format!("still lacks {count} of the certificates");
                problems.len() == 1 && problems[0].contains(&lacks)
            }
        }
    };
    let layouts: [fn(&str) -> String; 2] = [str::to_owned, |host| format!("{host}/it")];
    for layout in layouts {
        empty();
        for (host, made) in &made {
            desk.put_pair(&layout(host), made);
        }
        let found = settled(&desk, Found::default());
        empty();
        let (found, _) = desk.look(&found, LATER);
        // It comes to rest after the first.
        desk.put_pair(&layout("a.test"), &made[0].1);
        let (mut found, mut told) = desk.look(&found, LATER);
        assert_eq!(told.problems, Vec::<String>::new(), "there may be more");
        while told.again_in.is_some() {
            (found, told) = desk.look(&found, LATER);
        }
        assert!(told.problems[0].contains("still lacks 2 of"), "{told:?}");
        assert!(desk_is_at_rest(&desk, &found) && shown(&found) == 3 && lacks(&found, 2));
        let pattern = HostPattern::parse("b.test").expect("a name");
        let advice = found.advice(&pattern, SystemTime::now());
        assert!(advice[0].contains("are no pair again since"), "{advice:?}");
        // What is back may be taken away.
        remove(&layout("a.test"));
        desk.put("authority.pem", &desk.root);
        found = settled(&desk, found);
        assert!(shown(&found) == 2 && lacks(&found, 2) && found.find("a.test").is_none());
        // Half of one is not there yet, also where the key is another one.
        let new = desk.make(&["b.test"], 90);
        desk.put(&format!("{}.key", layout("b.test")), &new.key);
        found = settled(&desk, found);
        assert!(shown(&found) == 2 && lacks(&found, 2));
        desk.put(&format!("{}.pem", layout("b.test")), &new.cert);
        let (next, told) = desk.look(&found, LATER);
        assert_eq!(told.problems, Vec::<String>::new(), "said already");
        found = settled(&desk, next);
        assert!(new.is_shown(&found, "b.test") && lacks(&found, 1));
        // Others do it as well, wherever they lie.
        let wildcard = desk.make(&["*.test"], 50);
        desk.put_pair("elsewhere/w", &wildcard);
        found = settled(&desk, found);
        assert!(wildcard.is_shown(&found, "c.test") && lacks(&found, 0));
    }
}

#[test]
fn a_folder_that_is_swapped_while_something_is_missing_loses_nothing_else() {
    let desk = Desk::new("swap-missing");
    let (a, b) = (desk.make(&["a.test"], 50), desk.make(&["b.test"], 50));
    desk.put_pair("live/a", &a);
    desk.put_pair("live/b", &b);
    let found = settled(&desk, Found::default());
    fs::remove_dir_all(&desk.folder).expect("removed");
    fs::create_dir_all(&desk.folder).expect("made anew");
    let (found, _) = desk.look(&found, LATER);
    desk.put_pair("live/a", &a);
    desk.put_pair("c", &desk.make(&["c.test"], 50));
    let found = settled(&desk, found);
    assert!(a.is_shown(&found, "a.test") && b.is_shown(&found, "b.test"));
    let (live, aside) = (
        desk.folder.join("live"),
        desk.folder.with_extension("aside"),
    );
    fs::rename(&live, &aside).expect("away");
    let (between, told) = desk.look(&found, LATER);
    assert!(a.is_shown(&between, "a.test") && b.is_shown(&between, "b.test"));
    assert_eq!((told.is_news, told.again_in), (false, Some(RESTLESS)));
    fs::rename(&aside, &live).expect("back");
    let found = settled(&desk, between);
    assert!(a.is_shown(&found, "a.test") && b.is_shown(&found, "b.test"));
}

#[test]
fn what_does_not_come_back_goes_when_that_is_said_to_be_meant() {
    let desk = Desk::new("meant");
    let made = ["a.test", "b.test"].map(|host| (host, desk.make(&[host], 50)));
    for (host, made) in &made {
        desk.put_pair(host, made);
    }
    let found = settled(&desk, Found::default());
    let away = desk.folder.with_extension("away");
    fs::rename(&desk.folder, &away).expect("away");
    let (found, _) = desk.look(&found, LATER);
    desk.put_pair("a.test", &made[0].1);
    let mut found = settled(&desk, found);
    assert!(made[1].1.is_shown(&found, "b.test"));
    // Empty once more, it has still lost two.
    for file in ["a.test.pem", "a.test.key"] {
        desk.remove(file);
    }
    let (emptied, told) = desk.look(&found, LATER);
    assert!(
        told.problems[0].contains("has no certificate any more"),
        "{told:?}"
    );
    assert_eq!(emptied.problems().count(), 1);
    found = emptied;
    desk.put_pair("a.test", &made[0].1);
    found = settled(&desk, found);
    assert!(found.find("a.test").is_some() && found.find("b.test").is_some());
    let again = desk.again(&found, Removals::Meant);
    let gone = again.found.expect("another");
    assert_eq!(again.told.lost.len(), 1, "{:?}", again.told);
    assert!(gone.find("a.test").is_some() && gone.find("b.test").is_none());
    assert_eq!(gone.problems().count(), 0);
    fs::remove_dir_all(away).expect("gone");
}

#[test]
fn the_last_pair_may_be_taken_away_but_not_with_its_folder() {
    let desk = Desk::new("last");
    let made = desk.make(&["a.test"], 50);
    desk.put_pair("a", &made);
    let found = settled(&desk, Found::default());
    let away = desk.folder.with_extension("away");
    fs::rename(&desk.folder, &away).expect("away");
    fs::create_dir(&desk.folder).expect("another");
    let (found, told) = desk.look(&found, LATER);
    assert!(made.is_shown(&found, "a.test"), "{told:?}");
    fs::remove_dir(&desk.folder).expect("gone");
    let (found, told) = desk.look(&found, LATER);
    assert!(made.is_shown(&found, "a.test"), "{told:?}");
    let again = desk.again(&found, Removals::Meant);
    assert_eq!(
        again.told.lost.len(),
        1,
        "whatever has become of the folder"
    );
    fs::rename(&away, &desk.folder).expect("back");
    let found = settled(&desk, found);
    desk.remove("a.pem");
    desk.remove("a.key");
    assert!(settled(&desk, found).find("a.test").is_none());
}

#[test]
fn what_is_good_today_comes_before_what_is_for_the_very_name() {
    let desk = Desk::new("dates");
    let (exact, wildcard) = (desk.make(&["a.w.test"], 5), desk.make(&["*.w.test"], 50));
    desk.put_pair("exact", &exact);
    desk.put_pair("wildcard", &wildcard);
    let (found, _) = desk.look(&Found::default(), LATER);
    assert!(exact.is_shown(&found, "a.w.test"));
    // Nothing changes but the time.
    let (found, told) = desk.look(&found, 6 * 86_400);
    assert!(told.is_news && wildcard.is_shown(&found, "a.w.test"));
    // When all have ended the one for the name tells its operator more.
    let (found, _) = desk.look(&found, 60 * 86_400);
    assert!(exact.is_shown(&found, "a.w.test"));
}

#[test]
fn each_kind_of_key_has_its_pair() {
    let desk = Desk::new("kinds");
    let ecdsa = desk.make(&["a.test"], 50);
    let ended = desk.make(&["b.test"], -1);
    let edwards = |names: &[&str]| {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("key");
        desk.make_with(key, names, 90)
    };
    desk.put_pair("ecdsa", &ecdsa);
    desk.put_pair("longer", &edwards(&["a.test"]));
    desk.put_pair("ended", &ended);
    let good = edwards(&["b.test"]);
    desk.put_pair("good", &good);
    let (found, _) = desk.look(&Found::default(), 0);
    let kinds = |host: &str| found.find(host).expect("shown").certificates.len();
    assert_eq!((kinds("a.test"), kinds("b.test")), (2, 1));
    assert!(ecdsa.is_shown(&found, "a.test") && good.is_shown(&found, "b.test"));
}

#[test]
fn only_files_that_changed_are_read_and_only_their_pairs_are_others() {
    let desk = Desk::new("flat");
    for number in 0..40 {
        let made = desk.make(&[&format!("{number}.test")], 50);
        desk.put_pair(&number.to_string(), &made);
    }
    let (before, told) = desk.look(&Found::default(), LATER);
    assert_eq!(before.certificates().count(), 40);
    assert_eq!(told.problems, Vec::<String>::new());
    let renewed = desk.make(&["7.test"], 90);
    desk.put_pair("7", &renewed);
    let (after, _) = desk.look(&before, LATER);
    let is_other = |number: &usize| {
        let host = format!("{number}.test");
        let shown = |found: &Found| Arc::clone(&found.find(&host).expect("shown").certificates[0]);
        !Arc::ptr_eq(&shown(&before), &shown(&after))
    };
    assert_eq!((0..40).filter(is_other).collect::<Vec<_>>(), [7]);
}

#[test]
fn what_is_of_no_use_is_said_once() {
    let desk = Desk::new("useless");
    let made = desk.make(&["a.test"], 50);
    desk.put("alone.pem", &made.cert);
    desk.put("torn.pem", &made.cert[..made.cert.len() / 2]);
    desk.put("authority.pem", &desk.root);
    desk.put("key.key", &desk.make(&["b.test"], 50).key);
    let (found, told) = desk.look(&Found::default(), 0);
    assert_eq!((told.problems.len(), told.again_in), (0, Some(RESTLESS)));
    assert_eq!(found.problems().count(), 2, "for who asks");
    let (found, told) = desk.look(&found, LATER);
    let [alone, torn] = told.problems.as_slice() else {
        panic!("{told:?}");
    };
    assert!(
        torn.contains("torn.pem: the PEM in it is damaged"),
        "{torn}"
    );
    assert!(alone.contains("alone.pem: no key in"), "{alone}");
    desk.put("more.pem", &desk.root);
    let (found, _) = desk.look(&found, LATER);
    let (_, told) = desk.look(&found, LATER);
    assert_eq!(told.problems, Vec::<String>::new());
}

/// What has become of which file for `host`.
fn fates(told: &Told, host: &str) -> Vec<(Fate, String)> {
    let pattern = HostPattern::parse(host).expect("host");
    let difference = told.difference.iter();
    let fates = difference.flat_map(|difference| difference.of(&pattern));
    let fates = fates.map(|(fate, certificate)| {
        let name = certificate.file().file_name().expect("a file");
        (fate, name.to_string_lossy().into_owned())
    });
    fates.collect()
}

#[test]
fn what_is_shown_for_a_name_is_told_when_it_is_another_one() {
    let desk = Desk::new("fates");
    let of = |fate: Fate, file: &str| vec![(fate, file.to_owned())];
    let is = |told: &Told, host: &str, fate, file| assert_eq!(fates(told, host), of(fate, file));
    desk.put_pair("one", &desk.make(&["a.w.test", "b.test"], 50));
    desk.put_pair("other", &desk.make(&["c.test"], 50));
    let (found, told) = desk.look(&Found::default(), LATER);
    is(&told, "a.w.test", Fate::Found, "one.pem");
    desk.put_pair("one", &desk.make(&["a.w.test", "b.test"], 60));
    let (found, told) = desk.look(&found, LATER);
    is(&told, "b.test", Fate::Swapped, "one.pem");
    assert!(fates(&told, "c.test").is_empty());
    // Written again, and nothing else.
    let again = fs::read_to_string(desk.folder.join("other.pem")).expect("text");
    desk.put("other.pem", &(again + "\n"));
    let (found, told) = desk.look(&found, LATER);
    assert!(told.is_news && told.difference.is_none(), "{told:?}");
    // One for the very name comes before that of a wildcard, and behind it when it is gone.
    desk.put_pair("wild", &desk.make(&["*.w.test"], 90));
    let (found, told) = desk.look(&found, LATER);
    is(&told, "*.w.test", Fate::Found, "wild.pem");
    is(&told, "z.w.test", Fate::Found, "wild.pem");
    assert!(fates(&told, "a.w.test").is_empty());
    for half in ["one.key", "one.pem"] {
        desk.remove(half);
    }
    let (found, told) = desk.look(&found, LATER);
    is(&told, "a.w.test", Fate::Swapped, "wild.pem");
    is(&told, "b.test", Fate::Gone, "one.pem");
    // One of another kind takes nobody's place.
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("key");
    desk.put_pair("ed", &desk.make_with(key, &["c.test"], 50));
    let (found, told) = desk.look(&found, LATER);
    is(&told, "c.test", Fate::Found, "ed.pem");
    for half in ["ed.key", "ed.pem"] {
        desk.remove(half);
    }
    let (found, told) = desk.look(&found, LATER);
    is(&told, "c.test", Fate::Gone, "ed.pem");
    let (_, told) = desk.look(&found, 70 * 86_400);
    assert!(fates(&told, "c.test").is_empty(), "still shown");
}

/// An empty file is what a full disk leaves.
#[test]
fn a_key_without_its_certificate_is_said_where_that_is_not_there_by_mistake() {
    let desk = Desk::new("lone");
    let (made, old) = (desk.make(&["a.test"], 50), desk.make(&["a.test"], 40));
    let other = desk.make(&["b.test"], 50);
    let root = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        params.self_signed(&key).expect("root").pem()
    };
    let der = {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let der = CertificateDer::from_pem_slice(made.cert.as_bytes()).expect("certificate");
        der.to_vec()
    };
    let own = root(&["a.test"]);
    let none = "there is no certificate in it";
    let fits = "privkey.pem: no certificate in ";
    let x509 = "fullchain.pem: there is no certificate in PEM in it, but one in DER; `openssl x509";
    let dh = "-----BEGIN DH PARAMETERS-----\nMIIB\n-----END DH PARAMETERS-----\n";
    type Case<'c> = (&'c str, &'c [(&'c str, &'c [u8])], &'c [&'c str]);
    let key = ("privkey.pem", made.key.as_bytes());
    let cases: &[Case<'_>] = &[
        (
            "empty",
            &[
                key,
                ("fullchain.pem", b""),
                ("chain.pem", desk.root.as_bytes()),
            ],
            &[fits, " fits this key; fullchain.pem: ", none],
        ),
        ("junk", &[key, ("fullchain.pem", b"To do\n")], &[fits, none]),
        ("der", &[key, ("fullchain.pem", &der)], &[fits, x509]),
        (
            "authority",
            &[key, ("cert.pem", desk.root.as_bytes())],
            &[fits, " fits this key"],
        ),
        (
            "unfit",
            &[key, ("cert.pem", own.as_bytes())],
            &["cert.pem: no key in "],
        ),
        (
            "keyless",
            &[("cert.pem", own.as_bytes())],
            &["cert.pem: no key in "],
        ),
        // Where others are whole it is said of what was meant.
        (
            "flat",
            &[
                ("a.pem", made.cert.as_bytes()),
                ("a.key", made.key.as_bytes()),
                ("b.pem", b""),
                ("b.key", other.key.as_bytes()),
                ("c.key", old.key.as_bytes()),
                ("dh.pem", dh.as_bytes()),
            ],
            &["b.key: no certificate in ", " fits this key; b.pem: ", none],
        ),
        (
            "namesake",
            &[
                ("a.pem", made.cert.as_bytes()),
                ("a.key", made.key.as_bytes()),
                ("b.pem", desk.root.as_bytes()),
                ("b.key", other.key.as_bytes()),
            ],
            &["b.key: no ", "; b.pem: its certificate is for another key"],
        ),
        // Nothing is wrong with these.
        ("keys", &[key, ("dh.pem", dh.as_bytes())], &[]),
        ("bundle", &[("roots.crt", desk.root.as_bytes())], &[]),
        (
            "notes",
            &[("README.pem", b"To do\n"), ("none.pem", b"")],
            &[],
        ),
        (
            "old",
            &[
                ("a.pem", made.cert.as_bytes()),
                ("a.key", made.key.as_bytes()),
                ("old.key", old.key.as_bytes()),
                ("chain.pem", desk.root.as_bytes()),
                ("dh.pem", dh.as_bytes()),
            ],
            &[],
        ),
    ];
    for (folder, files, said) in cases {
        let mut written = PathBuf::new();
        for (name, bytes) in *files {
            let path = desk.folder.join(folder).join(name);
            fs::create_dir_all(path.parent().expect("folder")).expect("folder");
            fs::write(&path, bytes).expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
            written = path;
        }
        let written = fs::metadata(written).expect("metadata");
        let written = Duration::from_secs(written.ctime().cast_unsigned());
        let root = [desk.folder.join(folder)];
        let look = |before: &Found, seconds| {
            let now = UNIX_EPOCH + written + Duration::from_secs(seconds);
            before.again(&root, now, Removals::Doubted)
        };
        // What is just being written may be whole soon.
        let first = look(&Found::default(), 0);
        assert_eq!(first.told.problems, Vec::<String>::new(), "{folder}");
        let told = look(&first.found.expect("found"), LATER).told;
        let lines: Vec<&String> = told.problems.iter().collect();
        assert_eq!(
            lines.len(),
            usize::from(!said.is_empty()),
            "{folder}: {lines:?}"
        );
        for said in *said {
            assert!(lines[0].contains(said), "{folder}: {said} in {lines:?}");
        }
    }
}

#[test]
fn a_key_that_is_not_in_pem_is_said() {
    let desk = Desk::new("der-key");
    let key = KeyPair::generate().expect("key");
    fs::write(desk.folder.join("a.key"), key.serialize_der()).expect("file");
    let (found, _) = desk.look(&Found::default(), LATER);
    let problems: Vec<&String> = found.problems().collect();
    let said = "a.key: there is no private key in PEM in it, but one in DER; `openssl pkey";
    assert!(problems[0].contains(said), "{problems:?}");
}

/// One half of the pair of one of two names, put or taken away.
#[derive(Clone, Copy, Debug)]
struct Move {
    name: usize,
    is_key: bool,
    /// `None`: it is taken away.
    version: Option<usize>,
    then_looked: bool,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = (
        0..2_usize,
        any::<bool>(),
        option::of(0..3_usize),
        any::<bool>(),
    );
    let one = one.prop_map(|(name, is_key, version, then_looked)| Move {
        name,
        is_key,
        version,
        then_looked,
    });
    vec(one, 1..25)
}

/// Whatever comes after what: two halves that fit are shown, two that do not leave what was shown, and nothing is shown of
/// which neither the key nor any chain is left, unless all has gone at once.
#[test]
fn a_name_is_shown_as_long_as_half_of_its_pair_is_there() {
    let desk = Desk::new("moves");
    let made =
        [["a.test"], ["b.test"]].map(|names| [10, 20, 30].map(|days| desk.make(&names, days)));
    let mut runner = TestRunner::new(Config::with_cases(64));
    let mut writes = 0;
    let whatever = |moves: Vec<Move>| {
        for file in fs::read_dir(&desk.folder).expect("listed").flatten() {
            fs::remove_file(file.path()).expect("removed");
        }
        let mut found = Found::default();
        let mut on_disk = [[None; 2]; 2];
        let mut shown = [None; 2];
        // Nothing of these has come back since all had gone at once.
        let mut missing = [false; 2];
        for Move {
            name,
            is_key,
            version,
            then_looked,
        } in moves
        {
            let host = ["a.test", "b.test"][name];
            let file = format!("{host}.{}", if is_key { "key" } else { "pem" });
            match version {
                Some(version) => {
                    let made = &made[name][version];
                    let text = if is_key { &made.key } else { &made.cert };
                    // No two writes look the same.
                    writes += 1;
                    desk.put(&file, &format!("{text}{}", "\n".repeat(writes)));
                }
                None => drop(fs::remove_file(desk.folder.join(&file))),
            }
            on_disk[name][usize::from(is_key)] = version;
            if !then_looked {
                continue;
            }
            found = settled(&desk, found);
            // All at once is no way to take two pairs away.
            let is_empty = on_disk == [[None; 2]; 2] && shown.iter().all(Option::is_some);
            missing = missing.map(|missing| missing || is_empty);
            for name in 0..2 {
                let is_whole =
                    matches!(on_disk[name], [cert, key] if cert.is_some() && cert == key);
                missing[name] &= !is_whole;
                shown[name] = match on_disk[name] {
                    _ if missing[name] => shown[name],
                    [None, None] => None,
                    [cert, key] if cert == key => cert,
                    [None, key] if key != shown[name] => None,
                    _ => shown[name],
                };
                let host = ["a.test", "b.test"][name];
                match shown[name] {
                    Some(version) => prop_assert!(made[name][version].is_shown(&found, host)),
                    None => prop_assert!(found.find(host).is_none()),
                }
            }
        }
        Ok(())
    };
    let cell = std::cell::RefCell::new(whatever);
    runner
        .run(&moves(), |moves| (cell.borrow_mut())(moves))
        .expect("every order");
}
