//! Who owns a name, what a rename, a vanished folder and a restart mean.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Proxy, until, words_of};

fn says(host: &str, text: &str) -> String {
    format!("host = '{host}'\nrespond = '{text}'\n")
}

#[test]
fn a_second_claim_of_a_name_is_rejected_with_both_places_named() {
    let proxy = Proxy::plan()
        .site("old.toml", says("shop.test", "old"))
        .start();
    proxy.sites().write("a-new.toml", says("shop.test", "new"));
    proxy.until_state("a-new", "conflict");
    assert_eq!(proxy.get("shop.test", "/").text(), "old");
    let output = proxy.command(["wait", "a-new"]);
    assert_eq!(output.status.code(), Some(1));
    let file = proxy.status("a-new").unwrap().to_string();
    assert!(
        file.contains("shop.test") && file.contains("old.toml:1:8"),
        "{file}"
    );
}

#[test]
fn a_claim_by_another_spelling_is_the_same_claim() {
    let proxy = Proxy::plan()
        .site("old.toml", says("bücher.test", "old"))
        .start();
    for (number, host) in ["BÜCHER.test", "xn--bcher-kva.test", "bücher.test."]
        .into_iter()
        .enumerate()
    {
        let name = format!("new{number}");
        proxy
            .sites()
            .write(&format!("{name}.toml"), says(host, "new"));
        proxy.until_state(&name, "conflict");
    }
    assert_eq!(proxy.get("xn--bcher-kva.test", "/").text(), "old");
}

#[test]
fn an_exact_name_under_the_wildcard_of_another_site_wins_and_both_are_named_in_the_log() {
    let proxy = Proxy::plan()
        .site("all.toml", says("*.shop.test", "all"))
        .site("early.toml", says("early.shop.test", "early"))
        .start();
    proxy
        .until_logged("early.shop.test is answered by early, not by all, which claims *.shop.test");
    proxy.site("late.toml", says("late.shop.test", "late"));
    proxy.until_logged("late.shop.test is answered by late, not by all");
    for (name, answer) in [("early", "early"), ("late", "late"), ("other", "all")] {
        assert_eq!(proxy.get(&format!("{name}.shop.test"), "/").text(), answer);
    }
    // A wildcard that comes later takes nothing away, and an edit of it says nothing new.
    proxy.site("x.toml", says("a.blog.test", "x"));
    proxy.site("wide.toml", says("*.blog.test", "wide"));
    proxy.until_logged("a.blog.test is answered by x, not by wide");
    proxy.site("wide.toml", says("*.blog.test", "wider"));
    assert_eq!(proxy.get("a.blog.test", "/").text(), "x");
    assert_eq!(proxy.log().matches("is answered by").count(), 3);
}

#[test]
fn waiting_for_a_file_that_is_ignored_says_why() {
    let proxy = Proxy::start();
    proxy
        .sites()
        .write_in_place("shop.conf", says("shop.test", "x"));
    proxy
        .sites()
        .write_in_place("blog.toml.off", says("blog.test", "x"));
    for (name, reason) in [
        (
            "shop",
            "shop.conf is ignored: does not end in .toml, did you mean shop.toml?",
        ),
        ("shop.conf", "shop.conf is ignored: does not end in .toml"),
        ("blog", "blog.toml.off is ignored: switched off by its name"),
    ] {
        let output = proxy.command(["wait", name]);
        assert_eq!(output.status.code(), Some(1));
        let said = words_of(&output);
        assert!(said.contains(reason), "{reason} in\n{said}");
    }
}

#[test]
fn a_rejected_claim_is_rejected_whole() {
    let proxy = Proxy::plan()
        .site("old.toml", says("shop.test", "old"))
        .start();
    proxy.sites().write(
        "new.toml",
        "host = ['shop.test', 'free.test']\nrespond = 'new'\n",
    );
    proxy.until_state("new", "conflict");
    assert_eq!(proxy.get("free.test", "/").status, 421);
}

#[test]
fn a_waiting_claim_goes_live_by_itself_when_the_name_is_let_go() {
    let proxy = Proxy::plan()
        .site("old.toml", says("shop.test", "old"))
        .start();
    proxy.sites().write("new.toml", says("shop.test", "new"));
    proxy.until_state("new", "conflict");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(proxy.get("shop.test", "/").status, 200, "there is no gap");
            }
        });
        proxy.sites().write("old.toml", says("other.test", "old"));
        proxy.wait_for("new");
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap();
    });
    assert_eq!(proxy.get("shop.test", "/").text(), "new");
    assert_eq!(proxy.get("other.test", "/").text(), "old");
}

#[test]
fn at_a_first_start_the_first_by_file_name_owns_the_name() {
    let proxy = Proxy::plan()
        .site("b.toml", says("shop.test", "b"))
        .site("a.toml", says("shop.test", "a"))
        .start();
    assert_eq!(proxy.get("shop.test", "/").text(), "a");
    assert_eq!(proxy.state_of("b"), "conflict");
}

#[test]
fn a_recorded_claim_wins_over_the_order_of_names_at_the_next_start() {
    let mut proxy = Proxy::plan().site("b.toml", says("shop.test", "b")).start();
    proxy.sites().write("a.toml", says("shop.test", "a"));
    proxy.until_state("a", "conflict");
    proxy.stop();
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "b");
    assert_eq!(proxy.state_of("a"), "conflict");
}

#[test]
fn claims_survive_a_kill() {
    let mut proxy = Proxy::plan().site("b.toml", says("shop.test", "b")).start();
    proxy.site("c.toml", says("blog.test", "c"));
    proxy.sites().write("a.toml", says("blog.test", "a"));
    proxy.until_state("a", "conflict");
    // A claim is recorded after it is served, however slow the disk is.
    let recorded = ["b.json", "c.json"].map(|name| proxy.state().join("sites").join(name));
    until("the claims are recorded", || {
        recorded.iter().all(|file| file.exists())
    });
    proxy.kill();
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "b");
    assert_eq!(proxy.get("blog.test", "/").text(), "c");
}

#[test]
fn a_renamed_file_has_no_gap() {
    let proxy = Proxy::plan().site("a.toml", says("shop.test", "x")).start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(proxy.get("shop.test", "/").text(), "x");
            }
        });
        proxy.sites().rename("a.toml", "b.toml");
        proxy.wait_for("b");
        proxy.sites().rename("b.toml", "c.toml");
        proxy.wait_for("c");
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap();
    });
    assert_eq!(proxy.state_of("c"), "live");
    assert_eq!(proxy.state_of("a"), "");
}

#[test]
fn a_name_that_moves_between_two_files_has_no_gap() {
    let proxy = Proxy::plan()
        .site(
            "a.toml",
            "host = ['shop.test', 'keep.test']\nrespond = 'a'\n",
        )
        .site("b.toml", says("blog.test", "b"))
        .start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                assert_eq!(proxy.get("shop.test", "/").status, 200);
            }
        });
        // Let go first, claimed half a second later, within the grace of two.
        proxy.sites().write("a.toml", says("keep.test", "a"));
        proxy.wait_for("a");
        thread::sleep(Duration::from_millis(500));
        proxy.sites().write(
            "b.toml",
            "host = ['blog.test', 'shop.test']\nrespond = 'b'\n",
        );
        proxy.wait_for("b");
        done.store(true, Ordering::SeqCst);
        asking.join().unwrap();
    });
    assert_eq!(proxy.get("shop.test", "/").text(), "b");
}

#[test]
fn a_directory_that_is_suddenly_empty_keeps_everything_until_told() {
    let mut plan = Proxy::plan();
    for number in 0..15 {
        plan = plan.site(
            &format!("s{number}.toml"),
            says(&format!("s{number}.test"), "x"),
        );
    }
    let proxy = plan.start();
    for number in 0..15 {
        proxy.sites().remove(&format!("s{number}.toml"));
    }
    proxy.until_logged("onedoor reload --accept-removals");
    for number in 0..15 {
        assert_eq!(proxy.get(&format!("s{number}.test"), "/").text(), "x");
    }
    let output = proxy.command(["reload", "--accept-removals"]);
    assert!(output.status.success(), "{output:?}");
    proxy.until_answer("s3.test", "removed", |answer| answer.status == 421);
}

#[test]
fn a_folder_renamed_away_keeps_everything_and_coming_back_is_noticed() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "one"))
        .start();
    let (sites, away) = (
        proxy.sites().path().to_path_buf(),
        proxy.folder().join("away"),
    );
    fs::rename(&sites, &away).unwrap();
    proxy.until_logged("sites.d");
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    fs::rename(&away, &sites).unwrap();
    proxy.sites().write("shop.toml", says("shop.test", "two"));
    proxy.until_answer("shop.test", "seen in the folder that came back", |answer| {
        answer.text() == "two"
    });
}

#[test]
fn a_folder_deleted_and_made_again_is_watched_again() {
    let proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "one"))
        .start();
    for number in 2..4 {
        fs::remove_dir_all(proxy.sites().path()).unwrap();
        assert_eq!(proxy.get("shop.test", "/").status, 200);
        fs::create_dir(proxy.sites().path()).unwrap();
        proxy
            .sites()
            .write("shop.toml", says("shop.test", &number.to_string()));
        proxy.until_answer("shop.test", "seen in the new folder", |answer| {
            answer.text() == number.to_string()
        });
    }
}

#[test]
fn a_folder_that_is_not_there_at_the_start_is_waited_for() {
    let plan = Proxy::plan();
    fs::remove_dir(plan.sites().path()).unwrap();
    let proxy = plan.start();
    fs::create_dir(proxy.sites().path()).unwrap();
    proxy.sites().write("shop.toml", says("shop.test", "x"));
    proxy.until_answer("shop.test", "seen in the folder that came", |answer| {
        answer.status == 200
    });
}

#[test]
fn a_start_with_an_empty_folder_serves_what_was_known() {
    let mut proxy = Proxy::plan()
        .site("shop.toml", says("shop.test", "x"))
        .start();
    proxy.stop();
    proxy.sites().remove("shop.toml");
    proxy.start_again();
    assert_eq!(proxy.get("shop.test", "/").text(), "x");
    proxy.until_logged("--accept-removals");
}

#[test]
fn kubernetes_swaps_a_whole_folder_by_one_symlink() {
    // What kubelet's AtomicWriter does: NAME.toml -> ..data/NAME.toml, ..data -> ..2026_1; then ..data is replaced.
    let plan = Proxy::plan();
    let sites = plan.sites().path().to_path_buf();
    let write = |version: &str| {
        let folder = sites.join(format!("..{version}"));
        fs::create_dir(&folder).unwrap();
        for name in ["a", "b"] {
            fs::write(
                folder.join(format!("{name}.toml")),
                says(&format!("{name}.test"), version),
            )
            .unwrap();
        }
        symlink(format!("..{version}"), sites.join("..data_tmp")).unwrap();
        fs::rename(sites.join("..data_tmp"), sites.join("..data")).unwrap();
    };
    write("2026_1");
    for name in ["a.toml", "b.toml"] {
        symlink(format!("..data/{name}"), sites.join(name)).unwrap();
    }
    let proxy = plan.start();
    assert_eq!(proxy.get("a.test", "/").text(), "2026_1");
    for version in ["2026_2", "2026_3"] {
        let old = fs::read_link(sites.join("..data")).unwrap();
        write(version);
        fs::remove_dir_all(sites.join(old)).unwrap();
        for name in ["a.test", "b.test"] {
            proxy.until_answer(name, "the version after the swap", |answer| {
                assert_eq!(answer.status, 200);
                answer.text() == version
            });
        }
    }
}

#[test]
fn a_symlink_to_a_file_elsewhere_follows_its_changes() {
    let plan = Proxy::plan();
    let real = plan.folder().join("real.toml");
    fs::write(&real, says("shop.test", "one")).unwrap();
    symlink(&real, plan.sites().join("shop.toml")).unwrap();
    let proxy = plan.start();
    assert_eq!(proxy.get("shop.test", "/").text(), "one");
    fs::write(&real, says("shop.test", "two")).unwrap();
    proxy.command(["reload"]);
    assert_eq!(proxy.get("shop.test", "/").text(), "two");
}

#[test]
fn the_same_files_give_the_same_table_whatever_order_they_came_in() {
    let write = |proxy: &Proxy, order: &[&str]| {
        for name in order {
            proxy
                .sites()
                .write(&format!("{name}.toml"), says("shop.test", name));
        }
    };
    for order in [["a", "b", "c"], ["c", "b", "a"]] {
        let mut proxy = Proxy::plan()
            .site("first.toml", says("shop.test", "first"))
            .start();
        write(&proxy, &order);
        for name in order {
            proxy.until_state(name, "conflict");
        }
        proxy.sites().remove("first.toml");
        proxy.until_answer("shop.test", "the first by name", |answer| {
            answer.text() == "a"
        });
        proxy.stop();
        proxy.start_again();
        assert_eq!(proxy.get("shop.test", "/").text(), "a");
        until("the others wait", || {
            ["b", "c"]
                .iter()
                .all(|name| proxy.state_of(name) == "conflict")
        });
    }
}
