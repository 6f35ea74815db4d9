//! Folders as editors, tools and people leave them.

use std::os::unix::fs::symlink;

use super::*;
use crate::limits::SITE_FILE_BYTES;

/// A folder of its own, gone when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("onedoor-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("a folder for the test");
        Folder(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(&path, text).expect("file");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn named(name: &str) -> Result<String, Ignored> {
    classify(Path::new(name)).map(|name| name.to_string())
}

#[test]
fn a_site_is_named_after_its_file_and_one_folder() {
    assert_eq!(named("shop.toml"), Ok("shop".into()));
    assert_eq!(
        named("shop.example.com.toml"),
        Ok("shop.example.com".into())
    );
    assert_eq!(named("team/shop.toml"), Ok("team/shop".into()));
    assert_eq!(named("a/b/shop.toml"), Err(Ignored::TooDeep));
    assert_eq!(named("../shop.toml"), Err(Ignored::Elsewhere));
    // What would turn a line of the log around.
    assert_eq!(named("shop\u{202e}.toml"), Err(Ignored::Control));
    assert_eq!(named("team\u{2066}/shop.toml"), Err(Ignored::Control));
    assert_eq!(named("shop.toml/x.toml"), Err(Ignored::Folder));
}

#[test]
fn leftovers_are_ignored_with_the_reason() {
    use Ignored::*;
    for (name, reason) in [
        (".shop.toml", Hidden),
        (".shop.toml.swp", Hidden),
        ("shop.toml~", Backup),
        ("shop.swp", Scratch),
        ("shop.toml.tmp", Scratch),
        ("shop.toml.bak", Backup),
        ("shop.toml.off", Off),
        ("shop.off", Off),
        ("shop.toml.dpkg-new", Package),
        ("shop.toml.dpkg-old", Package),
        ("shop.toml.rpmnew", Package),
        ("shop.toml.rpmsave", Package),
        ("4913", Scratch),
        ("#shop.toml#", Scratch),
        (".toml", Hidden),
        ("x\n.toml", Control),
        ("x\x1b.toml", Control),
        ("README.md", NotToml { suggestion: None }),
    ] {
        assert_eq!(named(name), Err(reason), "{name}");
    }
    for name in [
        "shop.tml",
        "shop.conf",
        "shop.toml.txt",
        "shop",
        "shop.TOML",
        "shop.yaml",
    ] {
        let ignored = named(name).expect_err(name);
        assert_eq!(
            ignored.to_string(),
            "does not end in .toml, did you mean shop.toml?",
            "{name}"
        );
    }
    assert_eq!(
        classify(Path::new(OsStr::from_bytes(b"\xff.toml"))),
        Err(NotUtf8)
    );
}

#[test]
fn the_listing_follows_links_and_kubernetes_folders() {
    let folder = Folder::new("list");
    folder.write("..2026_1/shop.toml", "x");
    folder.write("team/blog.toml", "");
    folder.write("team/deep/x.toml", "");
    folder.write("shop.conf", "");
    folder.write(".git/config", "");
    symlink("..2026_1", folder.0.join("..data")).expect("link");
    symlink("..data/shop.toml", folder.0.join("shop.toml")).expect("link");
    symlink("nowhere", folder.0.join("lost.toml")).expect("link");
    symlink("loop.toml", folder.0.join("loop.toml")).expect("link");
    let listing = list(&folder.0).expect("listing");
    let names: Vec<_> = listing.files.keys().map(SiteName::as_str).collect();
    assert_eq!(names, ["loop", "lost", "shop", "team/blog"]);
    let stamps: Vec<_> = listing
        .files
        .values()
        .map(|found| found.stamp.is_some())
        .collect();
    assert_eq!(stamps, [false, false, true, true]);
    assert_eq!(
        listing.files[&SiteName::new("shop")]
            .stamp
            .map(|stamp| stamp.size),
        Some(1)
    );
    let ignored: Vec<_> = listing
        .ignored
        .iter()
        .map(|(_, reason)| reason.clone())
        .collect();
    assert_eq!(
        ignored,
        [
            Ignored::Hidden,
            Ignored::NotToml {
                suggestion: Some("shop.toml".into())
            },
            Ignored::TooDeep
        ]
    );
    assert!(listing.unreadable.is_empty());
    assert!(list(&folder.0.join("none")).is_err());

    let name = SiteName::new("shop");
    let document = read(&folder.0.join("shop.toml"), &name).expect("document");
    assert_eq!(
        document.real,
        folder
            .0
            .canonicalize()
            .expect("real")
            .join("..2026_1/shop.toml")
    );
    assert!(matches!(
        read(&folder.0.join("lost.toml"), &name),
        Err(ReadError::Gone)
    ));
    assert!(matches!(
        read(&folder.0.join("loop.toml"), &name),
        Err(ReadError::Io(_))
    ));
    assert!(matches!(
        read(&folder.0.join("team"), &name),
        Err(ReadError::NotRegular)
    ));
}

#[test]
fn a_fifo_or_a_device_hangs_nothing_and_a_large_file_is_refused() {
    let folder = Folder::new("fifo");
    let fifo = folder.0.join("fifo.toml");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .expect("mkfifo");
    assert!(made.success());
    let name = SiteName::new("x");
    assert!(matches!(read(&fifo, &name), Err(ReadError::NotRegular)));
    let writer = {
        let fifo = fifo.clone();
        // Goes on when somebody opens the other end.
        std::thread::spawn(move || fs::OpenOptions::new().write(true).open(fifo).map(drop))
    };
    for _ in 0..10 {
        assert!(matches!(read(&fifo, &name), Err(ReadError::NotRegular)));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(!writer.is_finished(), "it is not even opened");
    drop(fs::File::open(&fifo).expect("the other end"));
    writer.join().expect("writer").expect("opened");
    symlink("/dev/zero", folder.0.join("zero.toml")).expect("link");
    assert!(matches!(
        read(&folder.0.join("zero.toml"), &name),
        Err(ReadError::NotRegular)
    ));
    let large = folder.write("large.toml", vec![b'#'; SITE_FILE_BYTES as usize + 1]);
    assert!(matches!(read(&large, &name), Err(ReadError::TooLarge)));
}

#[test]
fn text_that_is_not_utf8_has_a_place() {
    let problem = decode(b"host = 'a'\nto = '\xff'".to_vec())
        .expect_err("error")
        .into_problem(Path::new("a.toml"));
    assert_eq!(
        problem.to_string(),
        "a.toml:2:7: not UTF-8 from here on, save the file as UTF-8"
    );
    assert!(matches!(
        decode(b"\xff\xfeh\0".to_vec()),
        Err(ReadError::Utf16)
    ));
}

#[test]
fn permission_denied_names_owner_mode_user_and_command() {
    let folder = Folder::new("permission");
    let path = folder.write("shop.toml", "");
    let how = how_to_permit(&path, "r");
    assert!(
        how.contains("belongs to ")
            && how.contains("with mode 0")
            && how.contains("onedoor runs as "),
        "{how}"
    );
    assert!(
        how.contains("chmod o+r '") && how.contains("setfacl -m u:"),
        "{how}"
    );
}

#[test]
fn ten_thousand_files_are_listed_quickly() {
    let folder = Folder::new("many");
    for number in 0..10_000 {
        fs::write(folder.0.join(format!("site-{number}.toml")), "").expect("file");
    }
    let start = std::time::Instant::now();
    assert_eq!(list(&folder.0).expect("listing").files.len(), 10_000);
    // Tens of milliseconds; the bound leaves room for a busy machine and a debug build.
    assert!(
        start.elapsed() < std::time::Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}
