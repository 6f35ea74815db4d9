//! The whole way from a file to the table in force, against a real folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::route::{Published, SiteChange};
use crate::settings::{self, Overrides};
use crate::tls::Keyring;

/// A folder of its own for one test, removed with it.
pub(super) struct TempFolder(PathBuf);

impl TempFolder {
    pub(super) fn new() -> TempFolder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("onedoor-reload-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("temporary folder");
        TempFolder(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // What was still running may put something into it meanwhile.
        for _ in 0..20 {
            match fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

/// A folder with site files, the loop, and one worker that acknowledges at once.
struct Story {
    folder: TempFolder,
    /// The sites directory in it.
    place: &'static str,
    watch: settings::Watch,
    current: Arc<Current>,
    reload: Option<Reload>,
    news: Option<mpsc::UnboundedReceiver<Published>>,
    changes: Vec<SiteChange>,
}

impl Story {
    async fn new() -> Story {
        let mut story = Story::unstarted();
        story.start().await;
        story
    }

    fn unstarted() -> Story {
        let folder = TempFolder::new();
        for name in ["sites.d", "state"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        Story {
            folder,
            place: "sites.d",
            watch: settings::Watch::Auto,
            current: Arc::new(Current::new()),
            reload: None,
            news: None,
            changes: Vec::new(),
        }
    }

    /// Starts, or starts again as after a crash.
    async fn start(&mut self) -> Summary {
        self.current = Arc::new(Current::new());
        let places = Overrides {
            sites: Some(self.sites()),
            state: Some(self.folder.path().join("state")),
            ..Overrides::default()
        };
        let settings = settings::load(None, places).expect("settings");
        let settings = Settings {
            watch: self.watch,
            ..settings
        };
        let (reload, summary) = {
            let keyring = Keyring::new(Vec::new(), settings.state.clone()).expect("keyring");
            let rules = settings.rules();
            let states = Arc::new(crate::upstream::States::new(1, b"key"));
            let current = self.current.clone();
            start(
                &settings,
                rules,
                current,
                Arc::new(keyring),
                states,
                mpsc::unbounded_channel().0,
            )
            .await
        };
        self.reload = Some(reload);
        self.news = Some(self.current.subscribe());
        summary
    }

    async fn restart(&mut self) -> Summary {
        self.reload().flush().await;
        self.reload = None;
        self.start().await
    }

    fn reload(&self) -> &Reload {
        self.reload.as_ref().expect("started")
    }

    fn sites(&self) -> PathBuf {
        self.folder.path().join(self.place)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.sites().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("write");
    }

    fn site(&self, file: &str, host: &str, port: u16) {
        self.write(file, &format!("host = '{host}'\nto = {port}\n"));
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).expect("remove");
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("rename");
    }

    /// `name port` of the site that answers for `host`.
    fn answer(&mut self, host: &str) -> String {
        while let Some(Ok(news)) = self.news.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            self.changes.extend(news.changes.iter().cloned());
            news.acknowledge(Vec::new());
        }
        let table = self.current.snapshot();
        let Some(site) = table.find(host) else {
            return "nobody".to_owned();
        };
        let Some(crate::site::Action::Proxy(backends)) = &site.action else {
            return site.name.to_string();
        };
        let port = backends.list[0].to_string();
        format!("{} {}", site.name, port.trim_start_matches("localhost:"))
    }

    /// Until `host` is answered as `wanted`; fails after ten seconds.
    async fn until(&mut self, host: &str, wanted: &str) -> Duration {
        let start = Instant::now();
        loop {
            let answer = self.answer(host);
            if answer == wanted {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{host} is answered by {answer}, not by {wanted}: {:#?}",
                self.reload().list().await
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// `host` is answered as `wanted` all of the time.
    async fn stays(&mut self, host: &str, wanted: &str, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            assert_eq!(self.answer(host), wanted, "after {:?}", start.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for what is on disk, while the worker acknowledges.
    async fn wait(&mut self, name: Option<&str>, until: Until) -> Waited {
        let reload = self.reload().clone();
        let name = name.map(str::to_owned);
        let wait =
            tokio::spawn(async move { reload.wait(name, until, Duration::from_secs(10)).await });
        while !wait.is_finished() {
            self.answer("");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        wait.await.expect("wait")
    }

    async fn report(&mut self, accept_removals: bool) -> Report {
        let reload = self.reload().clone();
        let report = tokio::spawn(async move { reload.reload(accept_removals).await });
        while !report.is_finished() {
            self.answer("");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        report.await.expect("report")
    }

    async fn state(&self, name: &str) -> State {
        let list = self.reload().list().await.files;
        let status = list.iter().find(|status| status.name == name);
        status
            .unwrap_or_else(|| panic!("no {name} in {list:#?}"))
            .state
    }
}

#[tokio::test]
async fn a_file_is_added_edited_broken_repaired_and_removed() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    let took = story.until("shop.test", "shop 5000").await;
    assert!(took < Duration::from_millis(150), "{took:?}");
    assert_eq!(
        story.wait(Some("shop"), Until::Serving).await,
        Waited::Serving
    );

    story.site("shop.toml", "shop.test", 5001);
    story.until("shop.test", "shop 5001").await;
    let Some(SiteChange::Edited { old, new }) = story.changes.pop() else {
        panic!("no edit")
    };
    assert_eq!(old.number, new.number);
    assert!(old.version < new.version);

    story.write("shop.toml", "host = 'shop.test'\nupstream = 5002\n");
    let Waited::Rejected { problems } = story.wait(Some("shop"), Until::Serving).await else {
        panic!("not rejected")
    };
    assert!(
        problems.iter().any(|problem| problem.contains("upstream")),
        "{problems:?}"
    );
    assert_eq!(story.state("shop").await, State::Stale);
    assert_eq!(story.answer("shop.test"), "shop 5001");

    story.site("shop.toml", "shop.test", 5003);
    story.until("shop.test", "shop 5003").await;
    assert_eq!(story.state("shop").await, State::Live);

    story.changes.clear();
    story.remove("shop.toml");
    let took = story.until("shop.test", "nobody").await;
    assert!(took > Duration::from_secs(2), "{took:?}");
    let Some(SiteChange::Removed { drain, .. }) = story.changes.pop() else {
        panic!("no removal")
    };
    assert_eq!(drain, Duration::from_secs(30));
    assert_eq!(story.wait(Some("shop"), Until::Gone).await, Waited::Gone);
}

#[tokio::test]
async fn touch_and_chmod_and_the_same_content_publish_nothing() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.until("shop.test", "shop 5000").await;
    let generation = story.current.generation();
    story.site("shop.toml", "shop.test", 5000);
    let file = fs::File::open(story.path("shop.toml")).expect("open");
    file.set_modified(SystemTime::now()).expect("touch");
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o600))
        .expect("chmod");
    assert_eq!(story.wait(None, Until::Serving).await, Waited::Serving);
    assert_eq!(story.current.generation(), generation);
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_not_live() {
    use std::io::Write;
    let mut story = Story::new().await;
    let mut file = fs::File::create(story.path("shop.toml")).expect("create");
    file.write_all(b"host = 'shop.test'\nto = 5000\n")
        .expect("write");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(story.answer("shop.test"), "nobody");
    file.write_all(b"allow = '10.0.0.0/8'\n").expect("write");
    drop(file);
    story.until("shop.test", "shop 5000").await;
    let snapshot = story.current.snapshot();
    assert!(snapshot.find("shop.test").expect("site").allow.is_some());
}

#[tokio::test]
async fn a_renamed_file_leaves_no_gap_and_off_removes_at_once() {
    let mut story = Story::new().await;
    story.site("a.toml", "shop.test", 5000);
    story.until("shop.test", "a 5000").await;
    story.rename("a.toml", "b.toml");
    let took = story.until("shop.test", "b 5000").await;
    assert!(took < Duration::from_millis(200), "{took:?}");
    story.rename("b.toml", "b.toml.off");
    let took = story.until("shop.test", "nobody").await;
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(story.state("b.toml.off").await, State::Ignored);
}

#[tokio::test]
async fn a_conflict_rejects_the_newcomer_until_the_name_is_let_go() {
    let mut story = Story::new().await;
    story.site("z.toml", "shop.test", 5000);
    story.until("shop.test", "z 5000").await;
    story.site("a.toml", "shop.test", 5001);
    let Waited::Rejected { problems } = story.wait(Some("a"), Until::Serving).await else {
        panic!("not rejected")
    };
    assert!(
        problems[0].contains("a.toml:1:8") && problems[0].contains("z.toml:1:8"),
        "{problems:?}"
    );
    assert_eq!(story.state("a").await, State::Conflict);
    // The owner is recorded.
    story.restart().await;
    assert_eq!(story.answer("shop.test"), "z 5000");
    story.site("z.toml", "other.test", 5000);
    story.until("shop.test", "a 5001").await;
    assert_eq!(story.answer("other.test"), "z 5000");
}

#[tokio::test]
async fn a_file_that_is_renamed_keeps_its_names_from_those_who_wait_for_them() {
    for watch in [
        settings::Watch::Auto,
        settings::Watch::Poll(Duration::from_millis(50)),
    ] {
        let mut story = Story::unstarted();
        story.watch = watch;
        story.start().await;
        story.site("shop.toml", "shop.test", 5000);
        story.until("shop.test", "shop 5000").await;
        story.site("aaa.toml", "shop.test", 6666);
        assert!(matches!(
            story.wait(Some("aaa"), Until::Serving).await,
            Waited::Rejected { .. }
        ));
        story.rename("shop.toml", "shop-eu.toml");
        while story.answer("shop.test") != "shop-eu 5000" {
            assert_ne!(story.answer("shop.test"), "aaa 6666");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(story.state("aaa").await, State::Conflict);
        story.remove("shop-eu.toml");
        story.until("shop.test", "aaa 6666").await;
    }
}

#[tokio::test]
async fn a_broken_file_serves_its_last_good_version_also_after_a_restart() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.until("shop.test", "shop 5000").await;
    story.write("shop.toml", "nonsense");
    assert!(matches!(
        story.wait(Some("shop"), Until::Serving).await,
        Waited::Rejected { .. }
    ));
    let summary = story.restart().await;
    assert_eq!((summary.live, summary.not_live), (0, 1));
    assert_eq!(story.answer("shop.test"), "shop 5000");
    assert_eq!(story.state("shop").await, State::Stale);
    story.site("shop.toml", "shop.test", 5001);
    story.until("shop.test", "shop 5001").await;
}

#[tokio::test]
async fn a_mass_loss_is_kept_until_somebody_says_that_it_is_meant() {
    let mut story = Story::unstarted();
    for n in 0..40 {
        story.site(&format!("s{n}.toml"), &format!("s{n}.test"), 5000);
    }
    assert_eq!(story.start().await.live, 40);
    for n in 0..20 {
        story.remove(&format!("s{n}.toml"));
    }
    tokio::time::sleep(Duration::from_millis(2600)).await;
    assert_eq!(story.answer("s3.test"), "s3 5000");
    let report = story.report(false).await;
    assert!(report.kept.expect("kept").contains("lost 20 of 40 files"));
    story.restart().await;
    assert_eq!(story.answer("s3.test"), "s3 5000");
    let report = story.report(true).await;
    assert_eq!(
        (report.removed.len(), report.live, report.kept),
        (20, 20, None)
    );
    assert_eq!(story.answer("s3.test"), "nobody");
    assert_eq!(story.answer("s30.test"), "s30 5000");
}

#[tokio::test]
async fn an_empty_or_missing_directory_takes_nothing_away() {
    let mut story = Story::new().await;
    story.site("a.toml", "a.test", 5000);
    story.site("b.toml", "b.test", 5000);
    story.until("a.test", "a 5000").await;
    story.until("b.test", "b 5000").await;
    fs::remove_dir_all(story.sites()).expect("remove");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(story.answer("a.test"), "a 5000");
    assert_eq!(story.restart().await.kept, 2);
    assert_eq!(story.answer("a.test"), "a 5000");
    fs::create_dir(story.sites()).expect("folder");
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(story.answer("a.test"), "a 5000");
    assert_eq!(story.restart().await.kept, 2);
    assert_eq!(story.answer("a.test"), "a 5000");
    // What is written into the new folder is seen, and is perhaps only the first of what comes back.
    story.site("b.toml", "b.test", 5001);
    story.until("b.test", "b 5001").await;
    story
        .stays("a.test", "a 5000", Duration::from_millis(2600))
        .await;
    let kept = story.report(false).await.kept.expect("kept");
    assert!(
        kept.contains("lost 1 of 2 files") && kept.contains("60 s"),
        "{kept}"
    );
    assert_eq!(story.report(true).await.removed, ["a"]);
    assert_eq!(story.answer("a.test"), "nobody");
    // One that is removed from a folder that was there all the time goes as ever.
    story.site("c.toml", "c.test", 5002);
    story.until("c.test", "c 5002").await;
    story.remove("c.toml");
    story.until("c.test", "nobody").await;
}

#[tokio::test]
async fn the_first_file_that_is_put_back_takes_no_other_away() {
    let mut story = Story::unstarted();
    for n in 0..6 {
        story.site(&format!("s{n}.toml"), &format!("s{n}.test"), 5000);
    }
    assert_eq!(story.start().await.live, 6);
    let away = story.folder.path().join("away.d");
    for is_renamed in [false, true] {
        if is_renamed {
            fs::rename(story.sites(), &away).expect("rename");
            tokio::time::sleep(Duration::from_millis(2500)).await;
            fs::create_dir(story.sites()).expect("folder");
        } else {
            (0..6).for_each(|n| story.remove(&format!("s{n}.toml")));
            tokio::time::sleep(Duration::from_millis(2800)).await;
        }
        story.site("s0.toml", "s0.test", 5001);
        story.until("s0.test", "s0 5001").await;
        story
            .stays("s3.test", "s3 5000", Duration::from_millis(3200))
            .await;
        for n in 0..6 {
            story.site(&format!("s{n}.toml"), &format!("s{n}.test"), 5000);
        }
        story.until("s0.test", "s0 5000").await;
        assert_eq!(story.wait(None, Until::Serving).await, Waited::Serving);
        assert_eq!(story.report(false).await.kept, None);
    }
}

#[tokio::test]
async fn where_the_sites_directory_was_before_nothing_is_read_any_more() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.until("shop.test", "shop 5000").await;
    // It has moved, is not mounted yet, and something else is in its old place.
    story.reload().flush().await;
    story.reload = None;
    // It ends, and sees no more.
    tokio::time::sleep(Duration::from_millis(100)).await;
    story.site("shop.toml", "shop.test", 6666);
    story.place = "moved.d";
    story.start().await;
    assert_eq!(story.answer("shop.test"), "shop 5000");
    let files = story.reload().list().await.files;
    assert_eq!(files[0].path, story.path("shop.toml"));
    fs::create_dir(story.sites()).expect("folder");
    story.site("shop.toml", "shop.test", 5001);
    while story.answer("shop.test") != "shop 5001" {
        assert_eq!(story.answer("shop.test"), "shop 5000");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_deleted_and_made_again_is_watched_again() {
    let mut story = Story::new().await;
    story.site("a.toml", "a.test", 5000);
    story.until("a.test", "a 5000").await;
    fs::remove_dir_all(story.sites()).expect("remove");
    fs::create_dir(story.sites()).expect("folder");
    story.site("a.toml", "a.test", 5001);
    story.until("a.test", "a 5001").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    story.site("a.toml", "a.test", 5002);
    let took = story.until("a.test", "a 5002").await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_team_folder_is_followed_one_level_deep() {
    let mut story = Story::new().await;
    fs::create_dir(story.path("team")).expect("folder");
    story.site("team/shop.toml", "shop.test", 5000);
    story.until("shop.test", "team/shop 5000").await;
    assert_eq!(story.wait(None, Until::Serving).await, Waited::Serving);
    story.site("team/shop.toml", "shop.test", 5001);
    story.until("shop.test", "team/shop 5001").await;
    story.remove("team/shop.toml");
    story.until("shop.test", "nobody").await;
}

#[tokio::test]
async fn a_team_folder_that_goes_away_or_is_empty_takes_nothing_with_it_until_told() {
    use std::os::unix::fs::symlink;
    let mut story = Story::unstarted();
    let [share, away] = ["share", "away"].map(|name| story.folder.path().join(name));
    fs::create_dir(&share).expect("folder");
    symlink(&share, story.path("far")).expect("link");
    fs::create_dir(story.path("near")).expect("folder");
    for n in 0..3 {
        story.site(&format!("far/f{n}.toml"), &format!("f{n}.test"), 5000);
    }
    for n in 0..30 {
        story.site(&format!("s{n}.toml"), &format!("s{n}.test"), 5000);
    }
    story.site("near/n.toml", "n.test", 5000);
    assert_eq!(story.start().await.live, 34);

    // An unmounted share is an empty folder.
    fs::rename(&share, &away).expect("rename");
    fs::create_dir(&share).expect("folder");
    story.report(false).await;
    story
        .stays("f1.test", "far/f1 5000", Duration::from_millis(3200))
        .await;
    let kept = story.report(false).await.kept.expect("kept");
    assert!(kept.contains("sites.d/far lost 3 of 3 files"), "{kept}");
    // So it is at a start.
    story.restart().await;
    assert_eq!(story.answer("f1.test"), "far/f1 5000");
    fs::remove_dir(&share).expect("remove");
    fs::rename(&away, &share).expect("rename");
    assert_eq!(story.report(false).await.kept, None);

    // Another's one is moved away; what is elsewhere goes as ever meanwhile.
    fs::rename(story.path("near"), story.folder.path().join("near")).expect("rename");
    story.remove("s7.toml");
    story.until("s7.test", "nobody").await;
    story
        .stays("n.test", "near/n 5000", Duration::from_millis(1000))
        .await;
    assert_eq!(story.report(true).await.removed, ["near/n"]);
    assert_eq!(story.answer("n.test"), "nobody");
    // One file of several, and the last one of a folder that is there, are removed like any other.
    story.remove("far/f0.toml");
    story.until("f0.test", "nobody").await;
    story.remove("far/f1.toml");
    story.until("f1.test", "nobody").await;
    story.remove("far/f2.toml");
    story.until("f2.test", "nobody").await;
}

#[tokio::test]
async fn the_links_of_kubernetes_are_followed_when_they_are_switched() {
    use std::os::unix::fs::symlink;
    let mut story = Story::new().await;
    for (version, port) in [("..1", 5000), ("..2", 5001)] {
        fs::create_dir(story.path(version)).expect("folder");
        story.site(&format!("{version}/shop.toml"), "shop.test", port);
    }
    symlink("..1", story.path("..data")).expect("link");
    symlink("..data/shop.toml", story.path("shop.toml")).expect("link");
    story.until("shop.test", "shop 5000").await;
    symlink("..2", story.path("..data_tmp")).expect("link");
    story.rename("..data_tmp", "..data");
    let took = story.until("shop.test", "shop 5001").await;
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_body_file_that_changes_changes_its_site() {
    let mut story = Story::new().await;
    story.write("page.html", "one");
    story.write(
        "shop.toml",
        "host = 'shop.test'\nrespond = { file = 'page.html' }\n",
    );
    let body = |story: &Story| {
        let table = story.current.snapshot();
        match table
            .find("shop.test")
            .and_then(|site| site.action.as_ref())
        {
            Some(crate::site::Action::Respond(respond)) => respond.body.to_vec(),
            _ => Vec::new(),
        }
    };
    story.until("shop.test", "shop").await;
    assert_eq!(body(&story), b"one");
    story.write("page.html", "two");
    let start = Instant::now();
    while body(&story) != b"two" {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{:#?}",
            story.reload().list().await
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_write_beside_and_a_rename_list_no_folder() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.until("shop.test", "shop 5000").await;
    let listings = story.reload().gauges().await.listings;
    for n in 1..=20 {
        // As scripts do, and vim.
        for beside in [".shop.toml.tmp", "shop.toml~", "4913"] {
            story.site(beside, "shop.test", 5000 + n);
            story.rename(beside, "shop.toml");
        }
        story.write("4913", "");
        story.remove("4913");
        let wanted = format!("shop {}", 5000 + n);
        story.until("shop.test", &wanted).await;
    }
    assert_eq!(story.reload().gauges().await.listings, listings);
    // A team's folder that goes is missed all the same.
    fs::create_dir(story.path("team")).expect("folder");
    story.site("team/a.toml", "a.test", 5000);
    story.until("a.test", "team/a 5000").await;
    fs::rename(story.path("team"), story.path("other")).expect("rename");
    story.until("a.test", "other/a 5000").await;
}

#[tokio::test]
async fn without_events_a_file_is_found_by_looking() {
    let mut story = Story::unstarted();
    story.watch = settings::Watch::Poll(Duration::from_millis(50));
    story.start().await;
    story.site("shop.toml", "shop.test", 5000);
    let took = story.until("shop.test", "shop 5000").await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    story.remove("shop.toml");
    story.until("shop.test", "nobody").await;
}

#[tokio::test]
async fn waiting_for_a_name_that_is_none_says_which_one_was_meant() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    assert_eq!(
        story.wait(Some("shop"), Until::Serving).await,
        Waited::Serving
    );
    let waited = story.wait(Some("shpo"), Until::Serving).await;
    let did_you_mean = Some("shop".to_owned());
    assert_eq!(
        waited,
        Waited::Unknown {
            did_you_mean,
            reason: None
        }
    );
    assert_eq!(story.wait(Some("../shop"), Until::Gone).await, Waited::Gone);
}

#[tokio::test]
async fn a_publish_is_waited_for_until_the_worker_has_it() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    let patience = Duration::from_millis(300);
    // The worker is busy and acknowledges nothing.
    let waited = story
        .reload()
        .wait(Some("shop".to_owned()), Until::Serving, patience)
        .await;
    assert!(matches!(waited, Waited::Timeout { .. }), "{waited:?}");
    assert_eq!(story.answer("shop.test"), "shop 5000");
    assert_eq!(
        story.wait(Some("shop"), Until::Serving).await,
        Waited::Serving
    );
}

#[tokio::test]
async fn many_files_at_once_make_few_tables() {
    let mut story = Story::new().await;
    let before = story.current.generation();
    for n in 0..500 {
        story.site(&format!("s{n}.toml"), &format!("s{n}.test"), 5000);
    }
    assert_eq!(story.wait(None, Until::Serving).await, Waited::Serving);
    assert_eq!(story.current.snapshot().len(), 500);
    let tables = story.current.generation() - before;
    assert!(tables < 50, "{tables} tables");
}

#[tokio::test]
async fn a_page_is_seen_at_once_also_where_the_sites_directory_is_a_link() {
    use std::os::unix::fs::symlink;
    let mut story = Story::unstarted();
    let real = story.folder.path().join("real.d");
    fs::rename(story.sites(), &real).expect("rename");
    symlink(&real, story.sites()).expect("link");
    story.write("page.html", "one");
    story.write(
        "shop.toml",
        "host = 'shop.test'\nrespond = { file = 'page.html' }\n",
    );
    story.start().await;
    story.until("shop.test", "shop").await;
    let before = story.current.generation();
    let start = Instant::now();
    // What is beside it is nobody's.
    story.write(".page.html.tmp", "x");
    story.write("page.html", "two");
    while story.current.generation() == before {
        assert!(start.elapsed() < Duration::from_secs(1), "not seen at once");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn while_the_disk_hangs_questions_are_answered_and_edits_wait_their_turn() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.until("shop.test", "shop 5000").await;
    let reload = story.reload().clone();
    let end = reload.hang();
    story.site("shop.toml", "shop.test", 5001);
    let report = tokio::spawn({
        let reload = reload.clone();
        async move { reload.reload(false).await }
    });
    let at_once = async {
        assert_eq!(reload.list().await.files.len(), 1);
        assert_eq!(reload.contest("shop.test", None).await.refused.len(), 0);
        reload.gauges().await;
        reload.flush().await;
        let name = Some("shop".to_owned());
        let waited = reload
            .wait(name, Until::Serving, Duration::from_millis(50))
            .await;
        assert!(matches!(waited, Waited::Timeout { .. }), "{waited:?}");
    };
    let at_once = tokio::time::timeout(Duration::from_secs(2), at_once).await;
    assert!(at_once.is_ok(), "somebody waits for the disk");
    let start = Instant::now();
    while reload.list().await.notice.is_none() {
        assert!(start.elapsed() < Duration::from_secs(10), "nobody is told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let notice = reload.list().await.notice.expect("notice");
    assert!(notice.contains("has not answered"), "{notice}");
    assert_eq!(story.answer("shop.test"), "shop 5000");
    end.send(()).expect("it hangs");
    story.until("shop.test", "shop 5001").await;
    let start = Instant::now();
    while !report.is_finished() {
        story.answer("");
        assert!(start.elapsed() < Duration::from_secs(10), "no report");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(report.await.expect("report").live, 1);
    assert_eq!(reload.list().await.notice, None);
}

#[tokio::test]
async fn after_a_fault_in_the_loop_everything_is_read_anew_and_nobody_is_left_without_an_answer() {
    let mut story = Story::new().await;
    story.site("shop.toml", "shop.test", 5000);
    story.site("gone.toml", "gone.test", 5001);
    story.site("blog.toml", "blog.test", 5002);
    story.until("shop.test", "shop 5000").await;
    story.until("gone.test", "gone 5001").await;
    story.until("blog.test", "blog 5002").await;
    story.write("blog.toml", "broken");
    assert!(matches!(
        story.wait(Some("blog"), Until::Serving).await,
        Waited::Rejected { .. }
    ));
    let number = |story: &Story, host: &str| {
        let table = story.current.snapshot();
        table.find(host).map(|site| site.number)
    };
    let before = [number(&story, "shop.test"), number(&story, "gone.test")];

    story.reload().panic();
    story.remove("gone.toml");
    story.site("new.toml", "new.test", 5003);
    while story.answer("new.test") == "nobody" {
        assert_eq!(story.answer("shop.test"), "shop 5000");
        assert_eq!(story.answer("blog.test"), "blog 5002");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    story.until("gone.test", "nobody").await;
    assert_eq!(story.state("shop").await, State::Live);
    assert_eq!(story.state("blog").await, State::Stale);
    let after = number(&story, "shop.test");
    assert!(!before.contains(&after), "{after:?} may still mean another");

    story.site("shop.toml", "shop.test", 5004);
    story.until("shop.test", "shop 5004").await;
    assert_eq!(
        story.wait(Some("shop"), Until::Serving).await,
        Waited::Serving
    );
}
