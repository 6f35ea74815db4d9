//! Files, variables and flags, and what becomes of them.

use super::*;
use crate::site::SendHost;

fn environment(name: &str) -> Option<OsString> {
    (name == "HOME").then(|| "/home/ann".into())
}

/// Loads `text` as a daemon file.
fn loaded(text: &str, overrides: Overrides) -> Result<Settings, Vec<String>> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = env::temp_dir().join(format!(
        "onedoor-settings-{}-{number}.toml",
        std::process::id()
    ));
    std::fs::write(&path, text).expect("file");
    let loaded = load_in(Some(&path), overrides, &environment);
    std::fs::remove_file(&path).expect("file");
    let shown = path.display().to_string();
    loaded.map_err(|problems| {
        problems
            .iter()
            .map(|p| p.to_string().replace(&shown, ""))
            .collect()
    })
}

#[test]
fn no_file_is_needed() {
    let settings = load_in(None, Overrides::default(), &environment).expect("settings");
    assert_eq!(settings.listen, [SocketAddr::from(([127, 0, 0, 1], 8080))]);
    assert_eq!(settings.sites, Path::new("sites.d"));
    assert!(settings.state.starts_with("/home/ann/.local/state/onedoor"));
    assert!(settings.workers > 0);
    assert_eq!(
        (settings.watch, settings.log.level.as_str()),
        (Watch::Auto, "info")
    );
    assert_eq!(settings.limits, Limits::default());
}

#[test]
fn every_key_of_the_daemon_file_has_its_effect() {
    let settings = loaded(
        r#"
        listen = [80, "[::1]:8080"]
        sites = "/etc/onedoor/sites.d"
        state = "/var/lib/onedoor"
        admin = "/run/onedoor.sock"
        workers = 3
        watch = "poll 5s"
        catch_all = "main"
        files_under = "/srv"
        sockets_under = ["/run"]
        allow_link_local = true
        [timeout]
        opening = "1s"
        head = "2s"
        idle = "3s"
        drain = "0s"
        linger = "4s"
        [limit]
        requests = 7
        interim = 1
        framing = "1kb"
        pool = 8
        pool_all = 9
        linger = "64kb"
        line = "1kb"
        field = "2kb"
        fields = 128
        head = "60kb"
        connections = 1000
        per_client = 10
        [trust]
        proxies = ["10.0.0.0/8", "127.0.0.1"]
        [log]
        level = "debug"
        format = "json"
        color = "never"
        [defaults]
        send_host = "backend"
        drain = "1s"
        timeout.connect = "1s"
        limit.body = "1mb"
        headers.via = false
        headers.response.set.Server = "x"
        "#,
        Overrides::default(),
    )
    .expect("settings");
    assert_eq!(settings.listen[0].to_string(), "0.0.0.0:80");
    assert_eq!(settings.listen[1].to_string(), "[::1]:8080");
    assert_eq!(settings.state, Path::new("/var/lib/onedoor"));
    assert_eq!(
        (settings.workers, settings.watch),
        (3, Watch::Poll(Duration::from_secs(5)))
    );
    assert_eq!(settings.sockets_under, Some(vec!["/run".into()]));
    assert_eq!(settings.limits.drain_time, Duration::ZERO);
    assert_eq!(
        (settings.limits.head_bytes, settings.limits.fields),
        (60 << 10, 128)
    );
    assert_eq!(
        (settings.limits.connections, settings.limits.per_client),
        (Some(1000), Some(10))
    );
    let limits = &settings.limits;
    assert_eq!(
        (limits.requests, limits.interim, limits.framing_bytes),
        (7, 1, 1 << 10)
    );
    assert_eq!((limits.pool, limits.pool_all), (8, Some(9)));
    assert_eq!(
        (limits.linger_bytes, limits.linger_time),
        (64 << 10, Duration::from_secs(4))
    );
    assert_eq!(settings.trust.proxies.len(), 2);
    assert_eq!(
        (settings.log.format, settings.log.color),
        (LogFormat::Json, Color::Never)
    );
    assert_eq!(settings.defaults.send_host, SendHost::Backend);
    assert_eq!(settings.defaults.limits.body_bytes, Some(1 << 20));
    assert!(!settings.defaults.headers.via && settings.defaults.headers.response.len() == 1);
    assert_eq!(settings.rules().catch_all, Some(SiteName::new("main")));
}

#[test]
fn all_errors_come_at_once_with_places() {
    let text = "lisen = 1\nlisten = 'x'\nworkers = 0\nwatch = 'poll'\nhead = '1kb'\n[limit]\nhead = '1mb'\nfields = 200\n[log]\ncolor = 'red'\n";
    let errors = loaded(
        text,
        Overrides {
            watch: Some("never".into()),
            ..Overrides::default()
        },
    )
    .expect_err("errors");
    assert_eq!(errors.len(), 8, "{errors:#?}");
    assert_eq!(
        errors[0],
        ":1:1: unknown key \"lisen\", did you mean \"listen\"?"
    );
    assert!(
        errors[1].starts_with(":2:10: \"x\" is no address to listen on"),
        "{errors:#?}"
    );
    assert_eq!(errors[2], ":3:11: \"workers\" is 1 to 1024");
    assert!(
        errors[3].starts_with(":5:1: \"head\" belongs in [timeout]"),
        "{errors:#?}"
    );
    assert!(
        errors[4].starts_with(":7:8: \"head\" is 256b to 60kb"),
        "{errors:#?}"
    );
    assert_eq!(errors[5], ":8:10: \"fields\" is 1 to 128");
    assert!(
        errors[7].starts_with("--watch or $ONEDOOR_WATCH: "),
        "{errors:#?}"
    );
    assert!(
        load_in(
            Some(Path::new("/nowhere/onedoor.toml")),
            Overrides::default(),
            &environment
        )
        .is_err()
    );
}

#[test]
fn a_home_is_written_whole_wherever_a_path_stands() {
    let text = "sites = '~/sites'\ncertificates = ['/etc/x', '~/c']\nfiles_under = '~'\n[log]\naccess = '~/log/x.log'\n";
    let problems = loaded(text, Overrides::default()).expect_err("no shell reads it");
    let errors = problems
        .iter()
        .filter(|p| p.contains("is not expanded here"));
    assert_eq!(errors.count(), 4, "{problems:#?}");
}

#[test]
fn a_flag_beats_the_file() {
    let overrides = Overrides {
        listen: vec![":81".into(), "127.0.0.1:0".into()],
        sites: Some("/other".into()),
        workers: Some(2),
        log_level: Some("warn".into()),
        ..Overrides::default()
    };
    let settings = loaded(
        "listen = 80\nworkers = 9\nsites = 'here'\ncatch_all = 'main'",
        overrides,
    )
    .expect("settings");
    assert_eq!(
        settings
            .listen
            .iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>(),
        ["0.0.0.0:81", "127.0.0.1:0"]
    );
    assert_eq!(
        (settings.workers, settings.sites.as_path()),
        (2, Path::new("/other"))
    );
    assert_eq!(
        (settings.log.level.as_str(), settings.catch_all),
        ("warn", Some(SiteName::new("main")))
    );
}

#[test]
fn a_listening_address_has_several_spellings() {
    for (text, address) in [
        ("8080", "0.0.0.0:8080"),
        (":8080", "0.0.0.0:8080"),
        ("*:80", "0.0.0.0:80"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::]:80", "[::]:80"),
        ("localhost:80", "127.0.0.1:80"),
    ] {
        assert_eq!(
            read_listen(text).map(|a| a.to_string()),
            Ok(address.to_owned()),
            "{text}"
        );
    }
    for bad in [
        "",
        ":",
        "x",
        "65536",
        "a.test:80",
        "+80",
        "127.0.0.1",
        "::1:80:",
        "**80",
    ] {
        assert!(read_listen(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_state_directory_is_never_inside_the_sites_directory() {
    let text = "sites = '/tmp'\nstate = '/tmp/onedoor-state'";
    assert!(
        loaded(text, Overrides::default()).expect_err("error")[0]
            .contains("lies inside the sites directory")
    );
    let of = |sites: &str| {
        loaded(&format!("sites = '{sites}'"), Overrides::default())
            .expect("settings")
            .state
    };
    assert_eq!(of("/tmp/."), of("/tmp"));
    assert_ne!(of("/tmp"), of("/usr"));
    let systemd = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/a:/var/lib/b".into());
    let settings = load_in(None, Overrides::default(), &systemd).expect("settings");
    assert_eq!(settings.state, Path::new("/var/lib/a"));
    assert!(load_in(None, Overrides::default(), &|_| None).is_err());
}
