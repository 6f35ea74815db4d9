use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

use crate::limits::{
    ALLOW_NETWORKS, SITE_BACKENDS, SITE_HEADERS, SITE_HOSTS, SITE_PATHS, TLS_PAIRS, TLS_REVOKED,
};
use crate::site::health::{Ask, Check, Passive, WhenNone};
use crate::site::tls::{ClearText, Mode};
use crate::site::{Action, ClaimRole, HeaderEdit, Member};

fn document(text: &str) -> SiteDocument {
    SiteDocument {
        name: SiteName::new("shop"),
        text: text.to_owned(),
        origin: "sites.d/shop.toml".into(),
        real: "sites.d/shop.toml".into(),
    }
}

fn site(text: &str) -> Site {
    match read(&document(text), &Rules::default()) {
        Ok(accepted) => accepted.site,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn errors_with(text: &str, rules: &Rules) -> Vec<String> {
    let problems = match read(&document(text), rules) {
        Ok(accepted) => accepted.warnings,
        Err(problems) => problems,
    };
    problems
        .iter()
        .map(|problem| problem.to_string().replace("sites.d/shop.toml", ""))
        .collect()
}

/// The one error of a file whose first two lines are a good host and a good backend.
fn error(rest: &str) -> String {
    let mut errors = errors_with(
        &format!("host = 'a.test'\nto = 5000\n{rest}"),
        &Rules::default(),
    );
    assert_eq!(errors.len(), 1, "{rest}: {errors:#?}");
    errors.remove(0)
}

fn proxied(site: &Site) -> Vec<String> {
    match &site.action {
        Some(Action::Proxy(backends)) => backends.list.iter().map(Member::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_lines_are_a_site() {
    let site = site("host = \"Shop.Example.com.\"\nto   = 5000\n");
    assert_eq!(site.claims.len(), 1);
    assert_eq!(site.claims[0].pattern.to_string(), "shop.example.com");
    assert_eq!((site.claims[0].line, site.claims[0].column), (1, 8));
    assert_eq!(proxied(&site), ["localhost:5000"]);
    assert_eq!((site.limits, site.timeouts, site.drain), Default::default());
    assert_eq!((site.headers, site.send_host), Default::default());
}

#[test]
fn every_key_has_its_effect() {
    let site = site(
        r#"
            host = ["a.test", "*.a.test"]
            to = [5000, "10.0.0.7:80", { at = "unix:/run/x.sock" }]
            redirect_from = "www.b.test"
            allow = ["10.0.0.0/8", "::1"]
            send_host = "backend"
            drain = { edit = "5s", remove = "0s" }
            tls = "off"
            note = "the shop"
            [[path]]
            match = "/api/"
            strip = true
            [[path]]
            match = "=/gone"
            respond = { status = 410, body = "gone" }
            allow = "127.0.0.1"
            [[path]]
            match = "/old"
            redirect = { to = "https://c.test", status = 302 }
            [limit]
            body = "10mb"
            [timeout]
            connect = "1s"
            first_byte = "2s"
            idle = "3s"
            websocket_idle = "4s"
            total = "5s"
            pool_idle = "6s"
            [headers]
            via = false
            [headers.request]
            remove = "X-Secret"
            set = { X-Env = "live" }
            [headers.response.add]
            Link = ["</a>", "</b>"]
            "#,
    );
    let claims: Vec<_> = site
        .claims
        .iter()
        .map(|claim| (claim.pattern.to_string(), claim.role))
        .collect();
    assert_eq!(claims[1], ("*.a.test".to_owned(), ClaimRole::Serve));
    assert_eq!(
        claims[2],
        ("www.b.test".to_owned(), ClaimRole::RedirectToFirst)
    );
    assert!(site.redirects("www.b.test") && !site.redirects("a.test"));
    assert_eq!(
        proxied(&site),
        ["localhost:5000", "10.0.0.7:80", "unix:/run/x.sock"]
    );
    assert_eq!(site.allow.as_ref().map(|allow| allow.0.len()), Some(2));
    assert_eq!(site.send_host, SendHost::Backend);
    assert_eq!(
        site.drain,
        DrainPolicy {
            edit: Some(Duration::from_secs(5)),
            remove: Duration::ZERO
        }
    );
    assert_eq!(site.note.as_deref(), Some("the shop"));
    assert_eq!(site.limits.body_bytes, Some(10 << 20));
    assert_eq!(site.timeouts.total, Some(Duration::from_secs(5)));
    assert_eq!(site.timeouts.pool_idle, Duration::from_secs(6));
    let paths: Vec<_> = site
        .paths
        .iter()
        .map(|rule| rule.pattern.to_string())
        .collect();
    assert_eq!(paths, ["=/gone", "/api", "/old"]);
    assert!(
        matches!(&site.paths[0].action, Some(Action::Respond(r)) if r.status == 410 && &*r.body == b"gone")
    );
    assert!(
        matches!(&site.paths[2].action, Some(Action::Redirect(r)) if r.status == 302 && r.keep_path)
    );
    assert!(site.paths[1].action.is_none() && site.paths[1].strip);
    assert!(!site.headers.via);
    assert_eq!(
        site.headers.request[0],
        HeaderEdit::Remove {
            name: "X-Secret".into()
        }
    );
    assert_eq!(
        site.headers.request[1],
        HeaderEdit::Set {
            name: "X-Env".into(),
            value: b"live"[..].into()
        }
    );
    assert_eq!(site.headers.response.len(), 2);
}

#[test]
fn a_file_named_like_a_host_needs_no_host() {
    let mut named = document("to = 5000");
    named.name = SiteName::new("team/Shop.example.com");
    let site = read(&named, &Rules::default()).expect("a site").site;
    assert_eq!(site.claims[0].pattern.to_string(), "shop.example.com");
    let errors = errors_with("to = 5000", &Rules::default());
    assert_eq!(errors, [":1:1: the site has no \"host\""]);
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_in_its_order() {
    let text = "hots = 'a'\nhost = 'a b'\nto = \"http://x/y\"\nupstream = 3\n[timeout]\nidle = '5'\nsticky = 1\n";
    let errors = errors_with(text, &Rules::default());
    assert_eq!(errors.len(), 6, "{errors:#?}");
    assert_eq!(
        errors[0],
        ":1:1: unknown key \"hots\", did you mean \"host\"?"
    );
    assert_eq!(errors[1], ":2:8: \"a b\": ' ' is not allowed in a hostname");
    assert!(
        errors[2].contains("a backend is an address without a path"),
        "{errors:#?}"
    );
    assert_eq!(
        errors[3],
        ":4:1: unknown key \"upstream\", did you mean \"to\"?"
    );
    assert!(
        errors[4].starts_with(":6:8: \"5\": a duration is a whole number and a unit"),
        "{errors:#?}"
    );
    assert_eq!(
        errors[5],
        ":7:1: \"sticky\" belongs above [timeout], line 5"
    );
}

#[test]
fn a_broken_line_is_one_error_and_the_rest_is_still_read() {
    let errors = errors_with(
        "host = 'shop.test'\nto = nowhere\nnoet = 'x'\n",
        &Rules::default(),
    );
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with(":2:6: "), "{errors:#?}");
    assert!(
        errors[1].starts_with(":3:1: unknown key \"noet\""),
        "{errors:#?}"
    );
}

#[test]
fn one_thing_answers_per_level() {
    let errors = errors_with(
        "host = 'a.test'\nto = 1\nredirect = 'https://b.test'\n",
        &Rules::default(),
    );
    assert_eq!(
        errors,
        [
            ":3:1: \"redirect\" beside \"to\" in line 2: only one of to, redirect, respond can answer"
        ]
    );
    let errors = errors_with("host = 'a.test'\n", &Rules::default());
    assert_eq!(
        errors,
        [":1:1: the site has no \"to\", no \"redirect\" and no \"respond\""]
    );
    let errors = errors_with("host = 'a.test'\nrespnd = 'x'\n", &Rules::default());
    assert_eq!(
        errors,
        [":2:1: unknown key \"respnd\", did you mean \"respond\"?"],
        "what is misspelt is not missing, too"
    );
    let errors = errors_with(
        "host = 'a.test'\n[[path]]\nmatch = '/x'\nto = 1\n[[path]]\nmatch = '/y'\n",
        &Rules::default(),
    );
    assert_eq!(
        errors,
        [":6:9: nothing answers for \"/y\": neither the path nor the site says what"]
    );
}

#[test]
fn what_a_value_cannot_be_is_said() {
    for (rest, message) in [
        (
            "redirect_from = ['a.test']",
            "\"a.test\" is claimed twice, first in line 1",
        ),
        ("redirect_from = '*'", "\"*\" cannot stand in redirect_from"),
        (
            "allow = 'nobody'",
            "\"nobody\" is neither an IP address nor a network",
        ),
        ("allow = []", "\"allow\" is an empty list"),
        (
            "send_host = 'a b'",
            "\"a b\" is neither \"keep\" nor \"backend\" nor a name",
        ),
        ("drain = '5'", "a duration is a whole number and a unit"),
        (
            "tls = 'passthrough'\nsend_host = 'backend'",
            "\"send_host\" cannot be done with tls = \"passthrough\"",
        ),
        ("tls = 'on'", "is no way of TLS"),
        ("[tls]\nmode = 'files'", "has no \"cert\" and no \"key\""),
        (
            "[tls]\ncert = 'x'",
            "1 \"cert\" and 0 \"key\": each certificate needs its key",
        ),
        (
            "[tls]\ncert = ['x', 'y']\nkey = 'x'",
            "2 \"cert\" and 1 \"key\"",
        ),
        (
            "[tls]\nmode = 'local'\ncert = 'x'\nkey = 'y'",
            "mode = \"local\" has no use for \"cert\"",
        ),
        ("[tls]\nmin = '1.1'", "is neither \"1.2\" nor \"1.3\""),
        ("[tls]\nhttp = 'yes'", "is none of \"redirect\""),
        (
            "[tls.client]\nmode = 'require'",
            "[tls.client] has no \"ca\"",
        ),
        (
            "[tls.client]\nca = 'x'\nmode = 'maybe'",
            "is none of \"require\", \"optional\" and \"off\"",
        ),
        ("buffer = true", "\"buffer\" is planned and not built yet"),
        ("balance = 'least'", "is no way to balance"),
        ("balance = 'hash:user'", "is none of \"hash:ip\""),
        ("balance = 'hash:header'", "which header?"),
        (
            "balance = 'hash:cookie:a b'",
            "\"a b\" is not the name of a cookie",
        ),
        ("balance = 5", "\"balance\" is a text"),
        ("sticky = 'ip'", "\"sticky\" is true, false or a table"),
        ("sticky = 5", "\"sticky\" is true, false or a table"),
        ("sticky = { cookie = 'a;b' }", "is not the name of a cookie"),
        ("hold = 5", "\"hold\" is a duration"),
        ("[retry]\ntimes = 11", "\"times\" is 0 to 10"),
        ("[retry]\non = '500'", "is none of \"connect\""),
        ("[retry]\nbudget = '120%'", "is no share of requests"),
        ("[retry]\nbudget = '+5%'", "is no share of requests"),
        ("[limit]\nqueue = 0", "\"queue\" is at least 1"),
        ("note = \"\\u001b\"", "a note has no control characters"),
        ("[[path]]\nstrip = true", "the [[path]] has no \"match\""),
        ("[[path]]\nmatch = '/api/*'", "write \"/api\""),
        (
            "[[path]]\nmatch = '/a'\n[[path]]\nmatch = '/%61/'",
            "the path \"/a\" is already in line 4",
        ),
        (
            "[[path]]\nmatch = '/a'\nrespond = 99",
            "a status is a number from 200 to 599",
        ),
        (
            "[[path]]\nmatch = '/a'\nredirect = 'b.test'",
            "a redirect goes to https://, http:// or a path",
        ),
        (
            "[[path]]\nmatch = '/a'\nredirect = \"https://b\\r\\nX: y\"",
            "must be percent-encoded",
        ),
        (
            "[[path]]\nmatch = '/a'\nredirect = {to = '/b', status = 200}",
            "a redirect's status is",
        ),
        (
            "[[path]]\nmatch = '/a'\nrespond = {body = 'x', file = 'y'}",
            "only one of them can be sent",
        ),
        (
            "[[path]]\nmatch = '/a'\nrespond = {body = 'x', status = 204}",
            "has no body",
        ),
        (
            "[timeout]\nconnect = '0s'",
            "\"connect\" must be longer than 0",
        ),
        ("[timeout]\nconnect = 'off'", "a duration is a whole number"),
        (
            "[timeout]\nidle = 5",
            "\"idle\" is a duration such as \"30s\", found a number",
        ),
        (
            "[headers.request.set]\nHost = 'x'",
            "send_host says which Host a backend is sent",
        ),
        (
            "[headers.request]\nremove = 'X_Forwarded_For'",
            "[trust] proxies",
        ),
        (
            "[headers.response.add]\nTransfer-Encoding = 'x'",
            "writes the framing of every message itself",
        ),
        (
            "[headers.request.set]\n'a b' = 'x'",
            "\"a b\" is not a header name",
        ),
        (
            "[headers.request.set]\nA = \"x\\r\\ny\"",
            "a header's value is one line",
        ),
        ("[headers.request.set]\nA = 5", "a header's value is a text"),
        (
            "[headers.request]\nremove = 'a'\nset = { A = 'x' }",
            "\"A\" is set or removed twice",
        ),
    ] {
        let error = error(rest);
        assert!(error.contains(message), "{rest}: {error}");
    }
}

#[test]
fn the_local_authority_is_only_for_names_that_nobody_owns() {
    let rest = "localhost, test, internal, home.arpa only";
    let said = |what: &str| {
        format!("{what}: the local authority vouches for loopback addresses and names under {rest}")
    };
    let errors = |text: &str| errors_with(text, &Rules::default());
    assert_eq!(
        errors("host = ['a.test', 'shop.example.com', '*.example.com']\nto = 1\ntls = 'local'"),
        [said(
            ":3:7: tls = \"local\" cannot be for shop.example.com, *.example.com"
        )]
    );
    assert_eq!(
        errors("host = 'a.test'\nto = 1\nredirect_from = 'a.com'\n[tls]\nmode = 'local'"),
        [said(":5:8: tls = \"local\" cannot be for a.com")]
    );
    let local = "host = ['a.test', '*.localhost', 'nas.home.arpa', '127.0.0.1', '::1']\nto = 1\n";
    assert_eq!(
        errors(&format!("{local}tls = 'local'")),
        Vec::<String>::new()
    );
    let mut rules = Rules::default();
    rules.defaults.tls.mode = Mode::Local;
    assert_eq!(errors_with(local, &rules), Vec::<String>::new());
    assert_eq!(
        errors_with("host = 'a.com'\nto = 1", &rules),
        [said(
            ":1:8: tls = \"local\", as [defaults] in onedoor.toml say, cannot be for a.com"
        )]
    );
    let own = "host = 'a.com'\nto = 1\ntls = 'off'";
    assert_eq!(errors_with(own, &rules), Vec::<String>::new());
}

#[test]
fn the_catch_all_is_for_the_site_that_the_daemon_file_names() {
    let text = "host = '*'\nto = 1";
    assert_eq!(
        errors_with(text, &Rules::default()),
        [":1:8: \"*\" needs catch_all = \"shop\" in onedoor.toml"]
    );
    let other = Rules {
        catch_all: Some(SiteName::new("other")),
        ..Rules::default()
    };
    assert!(errors_with(text, &other)[0].contains("only be claimed by the site \"other\""));
    let ours = Rules {
        catch_all: Some(SiteName::new("shop")),
        ..Rules::default()
    };
    assert_eq!(errors_with(text, &ours), Vec::<String>::new());
    assert!(
        errors_with("host = '*'\nto = 1\nredirect_from = 'a.test'", &ours)[0]
            .contains("is not one name")
    );
}

#[test]
fn our_own_listeners_are_no_backends() {
    let listening = |address: &str| Rules {
        listen: vec![address.parse().expect(address)],
        ..Rules::default()
    };
    for (listen, to, own) in [
        ("127.0.0.1:80", "80", true),
        ("127.0.0.1:80", "'127.0.0.1:80'", true),
        ("0.0.0.0:80", "80", true),
        ("0.0.0.0:80", "'127.0.0.1:80'", true),
        ("[::]:80", "'[::1]:80'", true),
        ("10.0.0.1:80", "'10.0.0.1:80'", true),
        ("10.0.0.1:80", "80", false),
        ("127.0.0.1:80", "81", false),
        ("0.0.0.0:80", "'10.0.0.9:80'", false),
    ] {
        let errors = errors_with(&format!("host = 'a.test'\nto = {to}"), &listening(listen));
        assert_eq!(!errors.is_empty(), own, "{listen} {to} {errors:?}");
    }
}

#[test]
fn our_own_admin_socket_is_no_backend_by_any_way_to_it() {
    let root = std::env::temp_dir().join(format!("onedoor-admin-{}", std::process::id()));
    std::fs::create_dir_all(root.join("state")).expect("folder");
    drop(std::os::unix::fs::symlink(
        root.join("state"),
        root.join("link"),
    ));
    let rules = Rules {
        admin: Some(root.join("state/admin.sock")),
        ..Rules::default()
    };
    for (socket, own) in [
        ("state/admin.sock", true),
        ("state/../state/admin.sock", true),
        ("link/admin.sock", true),
        ("state/app.sock", false),
        ("admin.sock", false),
    ] {
        let to = root.join(socket);
        let text = format!("host = 'a.test'\nto = 'unix:{}'", to.display());
        let errors = errors_with(&text, &rules);
        assert_eq!(!errors.is_empty(), own, "{socket} {errors:?}");
    }
    drop(std::fs::remove_dir_all(root));
}

#[test]
fn files_and_sockets_stay_inside_their_fences() {
    let root = std::env::temp_dir().join(format!("onedoor-fence-{}", std::process::id()));
    let sites = root.join("sites.d");
    std::fs::create_dir_all(&sites).expect("folder");
    std::fs::write(root.join("secret"), "s3cret\n").expect("file");
    std::fs::write(sites.join("page.html"), "<p>").expect("file");
    symlink(root.join("secret"), sites.join("link")).expect("link");
    let mut document = document("");
    document.real = sites.join("shop.toml");
    let mut rules = Rules {
        sites: sites.clone(),
        ..Rules::default()
    };
    let mut outcome = |file: &str, rules: &Rules| {
        document.text = format!(
            "host = 'a.test'\nrespond = {{ file = '{file}' }}\n[headers.request.set]\nA = {{ file = '{file}' }}"
        );
        read(&document, rules)
    };
    let accepted = outcome("page.html", &rules).expect("inside");
    assert_eq!(
        accepted.files,
        [sites.join("page.html"), sites.join("page.html")]
    );
    assert!(
        matches!(&accepted.site.action, Some(Action::Respond(r)) if &*r.content_type == "text/html; charset=utf-8")
    );
    for outside in ["link", "../secret", "/etc/passwd"] {
        let problems = outcome(outside, &rules).expect_err(outside);
        assert!(
            problems
                .iter()
                .all(|problem| problem.message.contains("lies outside")),
            "{problems:?}"
        );
        assert!(problems[0].about.is_some());
    }
    assert!(
        outcome("nothing", &rules).expect_err("missing")[0]
            .message
            .contains("cannot be read")
    );
    rules.files_under = vec![root.clone()];
    let accepted = outcome("link", &rules).expect("allowed");
    assert_eq!(
        accepted.site.headers.request[0],
        HeaderEdit::Set {
            name: "A".into(),
            value: b"s3cret"[..].into()
        }
    );

    document.text = "host = 'a.test'\nto = 'unix:x.sock'".into();
    rules.sockets_under = Some(vec![root.join("run")]);
    assert!(read(&document, &rules).is_err());
    rules.sockets_under = Some(vec![sites.clone()]);
    assert!(read(&document, &rules).is_ok());

    // What is not there yet counts by what is, symlinks resolved.
    std::os::unix::fs::symlink(&root, sites.join("away")).expect("link");
    std::os::unix::fs::symlink(root.join("later"), sites.join("open")).expect("link");
    let under = |text: &str, folder: &str| {
        let mut rules = rules.clone();
        rules.sockets_under = Some(vec![root.join(folder)]);
        let document = SiteDocument {
            text: format!("host = 'a.test'\nto = 'unix:{text}'"),
            ..document.clone()
        };
        read(&document, &rules).is_ok()
    };
    assert!(under("away/run/app/x.sock", "run"));
    assert!(!under("away/run/app/x.sock", "sites.d"));
    assert!(!under("open/x.sock", "sites.d"), "it leads elsewhere");
    assert!(!under("run/../x.sock", "sites.d"), "it climbs");
    std::fs::remove_dir_all(&root).expect("gone");
}

#[test]
fn a_team_reads_the_files_of_its_own_folder_and_nobody_sends_a_private_key() {
    let root = std::env::temp_dir().join(format!("onedoor-teams-{}", std::process::id()));
    let sites = root.join("sites.d");
    for folder in ["a", "b/pages", "../elsewhere"] {
        std::fs::create_dir_all(sites.join(folder)).expect("folder");
    }
    let key = "some words\n-----BEGIN EC PRIVATE KEY-----\nabc\n";
    for (file, text) in [
        ("shop.token", "tok3n"),
        ("a/token", "tok3n"),
        ("b/pages/sorry.html", "<p>"),
        ("b/shop.key", key),
        ("../elsewhere/token", "tok3n"),
    ] {
        std::fs::write(sites.join(file), text).expect("file");
    }
    let rules = Rules {
        sites: sites.clone(),
        ..Rules::default()
    };
    let outcome = |real: &Path, text: &str| {
        let document = SiteDocument {
            origin: sites.join("b/z.toml"),
            real: real.to_owned(),
            ..document(&format!("host = 'z.test'\n{text}"))
        };
        read(&document, &rules).map_err(|problems| problems[0].message.clone())
    };
    let own = sites.join("b/z.toml");
    let body = |file: &str| format!("respond = {{ file = '{file}' }}\n");
    let field =
        |file: &str| format!("to = 1\n[headers.request]\nset = {{ A = {{ file = '{file}' }} }}\n");
    assert!(outcome(&own, &body("pages/sorry.html")).is_ok());
    for file in ["../shop.token", "../a/token"] {
        for text in [body(file), field(file)] {
            let message = outcome(&own, &text).expect_err(file);
            assert!(
                message.contains("outside the folder of the site file"),
                "{message}"
            );
        }
    }
    let message = outcome(&own, &body("shop.key")).expect_err("a key");
    assert!(message.contains("holds a private key"), "{message}");
    // A link to a site file elsewhere opens neither that folder nor that of all sites.
    let linked = root.join("elsewhere/z.toml");
    let all = sites.join("shop.token").display().to_string();
    let theirs = sites.join("b/pages/sorry.html").display().to_string();
    assert!(outcome(&linked, &body("token")).is_err());
    assert!(outcome(&linked, &body(&all)).is_err());
    assert!(outcome(&linked, &body(&theirs)).is_ok());
    std::fs::remove_dir_all(&root).expect("gone");
}

#[test]
fn what_a_site_may_have_of_a_kind_has_a_bound_and_the_first_beyond_it_is_told() {
    let listed = |count: usize, entry: fn(usize) -> String| {
        let entries: Vec<String> = (1..=count).map(entry).collect();
        format!("[{}]", entries.join(","))
    };
    let hosts = |count| {
        let hosts = listed(count, |number| format!("'h{number}.test'"));
        format!("host = {hosts}\nto = 1\n")
    };
    let backends = |count| {
        let own = listed(count - 1, |number| number.to_string());
        format!("host = 'a.test'\nto = {own}\n[[path]]\nmatch = '/a'\nto = 'unix:/x'\n")
    };
    let paths = |count| {
        let paths = (0..count).map(|number| format!("[[path]]\nmatch = '/{number}'\n"));
        format!("host = 'a.test'\nto = 1\n{}", paths.collect::<String>())
    };
    let headers = |count| {
        let values = listed(count - 1, |_| "'v'".to_owned());
        format!("host = 'a.test'\nto = 1\n[headers.request]\nset = {{ A = 'a', B = {values} }}\n")
    };
    let networks = |count| {
        let networks = listed(count, |number| {
            format!("'10.{}.{}.1'", number / 250, number % 250)
        });
        format!("host = 'a.test'\nto = 1\nallow = {networks}\n")
    };
    let pairs = |count| {
        let files = listed(count, |number| format!("'{number}'"));
        format!("host = 'a.test'\nto = 1\ntls.cert = {files}\ntls.key = {files}\n")
    };
    let crls = |count| {
        let files = listed(count, |number| format!("'{number}'"));
        format!("host = 'a.test'\nto = 1\ntls.client = {{ ca = 'a', crl = {files} }}\n")
    };
    type Kind<'k> = (&'k str, &'k dyn Fn(usize) -> String, usize);
    let kinds: [Kind; 7] = [
        ("hosts", &hosts, SITE_HOSTS),
        ("backends", &backends, SITE_BACKENDS),
        ("[[path]]", &paths, SITE_PATHS),
        ("headers", &headers, SITE_HEADERS),
        ("networks", &networks, ALLOW_NETWORKS),
        ("pairs", &pairs, TLS_PAIRS),
        ("lists", &crls, TLS_REVOKED),
    ];
    for (what, text, most) in kinds {
        site(&text(most));
        let text = text(most + 1);
        let problems = read(&document(&text), &Rules::default()).expect_err(what);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        let told = &problems[0];
        assert!(
            told.message.contains(&format!("at most {most} ")) && told.message.contains(what),
            "{told}"
        );
        let place = &text[told.span.clone()];
        match what {
            "hosts" => assert_eq!(place, format!("'h{}.test'", most + 1)),
            "backends" => assert_eq!(place, "'unix:/x'"),
            "headers" => assert_eq!(place, "'v'"),
            "pairs" => assert_eq!(place, format!("'{}'", most + 1)),
            "[[path]]" => assert_eq!(told.line as usize, 3 + 2 * most),
            _ => assert!(told.line == 3, "{told}"),
        }
    }
}

#[test]
fn a_megabyte_of_names_on_one_line_is_refused_in_an_instant() {
    let names: String = (0..60_000)
        .map(|number| format!("x{number} = 'a', "))
        .collect();
    let hosts: String = (0..60_000)
        .map(|number| format!("'x{number}.b', "))
        .collect();
    let start = std::time::Instant::now();
    for text in [
        format!("host = 'a.b'\nto = 5\nheaders.request.set = {{ {names} y = '' }}\n"),
        format!("host = [{hosts}]\nto = 5\n"),
    ] {
        assert!(read(&document(&text), &Rules::default()).is_err());
    }
    // Minutes in a build for tests when each was compared with all before it; a fraction of a second now.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_file_that_many_paths_respond_with_is_in_memory_once_and_all_files_have_a_bound() {
    let root = std::env::temp_dir().join(format!("onedoor-bodies-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("folder");
    let rules = Rules {
        sites: root.clone(),
        ..Rules::default()
    };
    let outcome = |files: &[&str]| {
        let paths = files.iter().enumerate();
        let paths = paths.map(|(at, file)| {
            format!("[[path]]\nmatch = '/{at}'\nrespond = {{ file = '{file}' }}\n")
        });
        let mut document = document(&format!("host = 'a.test'\n{}", paths.collect::<String>()));
        document.real = root.join("shop.toml");
        document.origin = document.real.clone();
        read(&document, &rules)
    };
    let large: Vec<String> = (0..6).map(|at| format!("page{at}")).collect();
    for name in &large {
        let file = std::fs::File::create(root.join(name)).expect("file");
        file.set_len(4 << 20).expect("room");
    }
    symlink("page0", root.join("link")).expect("link");

    let accepted = outcome(&["page0", "./page0", "link", "page1"]).expect("a site");
    let bodies: Vec<&Arc<[u8]>> = (accepted.site.paths.iter())
        .map(|rule| match &rule.action {
            Some(Action::Respond(respond)) => &respond.body,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(Arc::ptr_eq(bodies[0], bodies[1]) && Arc::ptr_eq(bodies[0], bodies[2]));
    assert!(!Arc::ptr_eq(bodies[0], bodies[3]));

    let large: Vec<&str> = large.iter().map(String::as_str).collect();
    assert!(outcome(&large[..4]).is_ok(), "16 MiB");
    let problems = outcome(&large).expect_err("more");
    assert_eq!(problems.len(), 1, "said once: {problems:?}");
    assert_eq!((problems[0].line, problems[0].column), (16, 20));
    assert!(
        problems[0].message.contains("larger than 16 MiB together"),
        "{problems:?}"
    );
    std::fs::remove_dir_all(&root).expect("gone");
}

#[test]
fn who_asks_for_client_certificates_is_never_open_to_everybody() {
    let client = "[tls.client]\nca = 'x'\n";
    for (mode, need) in [
        ("off", "require"),
        ("off", "optional"),
        ("passthrough", "require"),
    ] {
        let said = error(&format!("[tls]\nmode = '{mode}'\n{client}mode = '{need}'"));
        assert!(
            said.starts_with(&format!(":5:1: [tls.client] beside mode = \"{mode}\": ")),
            "{said}"
        );
    }
    let mut rules = Rules::default();
    rules.defaults.tls.mode = Mode::Off;
    let text = format!("host = 'a.test'\nto = 5000\n{client}");
    let said = errors_with(&text, &rules);
    assert_eq!(
        said,
        [
            ":3:1: [tls.client] beside tls = \"off\", as [defaults] in onedoor.toml say: everybody could come in clear text, without a certificate"
        ]
    );
    // What is not asked for is not missed, and what others ask for is theirs.
    assert_eq!(
        error("[tls]\nmode = 'off'\n[tls.client]\nmode = 'off'"),
        ":5:1: \"client\" has no effect where we do not end TLS"
    );
    rules.defaults.tls = site(&text).tls;
    assert!(rules.defaults.tls.client.is_some());
    for rest in ["tls = 'off'", "[tls]\nmode = 'off'", "tls = 'passthrough'"] {
        let text = format!("host = 'a.test'\nto = 5000\n{rest}\n");
        assert_eq!(errors_with(&text, &rules), [""; 0], "{rest}");
    }
    // Neither are those open that find their certificate by their names.
    rules.defaults.tls.client = None;
    rules.defaults.tls.clear_text = Some(ClearText::Serve);
    let read = read(&document(&text), &rules).expect("a site");
    assert_eq!(
        (read.site.tls.mode, read.site.tls.clear_text),
        (Mode::Auto, None)
    );
}

#[test]
fn defaults_apply_where_the_site_says_nothing() {
    let mut rules = Rules::default();
    rules.defaults.timeouts.idle = Duration::from_secs(1);
    rules.defaults.headers.request = Arc::new([HeaderEdit::Remove { name: "A".into() }]);
    rules.defaults.send_host = SendHost::Backend;
    let text = "host = 'a.test'\nto = 1\n[timeout]\ntotal = '9s'\n[headers.request]\nremove = 'B'";
    let site = read(&document(text), &rules).expect("a site").site;
    assert_eq!(
        (site.timeouts.idle, site.timeouts.total),
        (Duration::from_secs(1), Some(Duration::from_secs(9)))
    );
    assert_eq!(
        site.headers
            .request
            .iter()
            .map(HeaderEdit::name)
            .collect::<Vec<_>>(),
        ["A", "B"]
    );
    assert_eq!(site.send_host, SendHost::Backend);
}

/// The table of keys says what the code does.
#[test]
fn the_defaults_in_the_table_of_keys_are_the_defaults() {
    use crate::document::keys::{KEYS, Kind};
    let mut text = "host = 'a.test'\nto = 1\n".to_owned();
    for place in [Place::Limit, Place::Timeout] {
        text.push_str(&format!("{}\n", place.title()));
        for key in KEYS
            .iter()
            .filter(|key| key.place == place && key.kind != Kind::Anything)
            // Not a value but words: what it is depends on the daemon.
            .filter(|key| !key.default.starts_with(char::is_alphabetic))
        {
            text.push_str(&format!("{} = {}\n", key.name, key.default));
        }
    }
    let site = site(&text);
    assert_eq!((site.limits, site.timeouts), Default::default());
}

#[test]
fn a_file_outside_the_sites_directory_is_not_quoted() {
    let mut outside = document("root = 'x'\nhost = 'se cret'");
    outside.real = "/etc/shadow".into();
    let problems = read(&outside, &Rules::default()).expect_err("errors");
    for problem in problems {
        let drawn = problem.render(&outside.text, false);
        assert!(
            !drawn.contains("se cret") && !drawn.contains("root"),
            "{drawn}"
        );
    }
}

proptest! {
    #[test]
    fn any_lines_are_a_site_or_errors_that_can_be_drawn(
        lines in prop::collection::vec(
            prop_oneof![
                Just("host = 'a.test'"), Just("to = 5000"), Just("[[path]]"), Just("match = '/a'"), Just("[limit]"),
                Just("[headers.request]"), Just("set = { A = 'b' }"), Just("[headers]"), Just("path = 5"),
                Just("redirect = { to = 'https://b.test' }"), Just("to = ["), Just("]"), Just("note = \"\"\""),
                Just("tls = { mode = 'x'"), Just("respond.status = 5"), Just("host = '\u{e9}.x'"), Just("drain.edit = '1s'"),
            ],
            0..8,
        ),
        noise in "\\PC{0,12}",
    ) {
        let text = format!("{}\n{noise}", lines.join("\n"));
        if let Err(problems) = read(&document(&text), &Rules::default()) {
            prop_assert!(problems.iter().any(Problem::is_error));
            for problem in problems {
                prop_assert!(!problem.render(&text, false).is_empty());
                prop_assert!(!problem.to_string().contains('\n'));
            }
        }
    }
}

/// The corpus of the fuzz target `site_file`, and what the target asks of it.
#[test]
fn the_fuzz_corpus_is_read_or_refused_with_places() {
    for bytes in crate::corpus::inputs_of("site_file") {
        let Ok(text) = crate::site::directory::decode(bytes) else {
            continue;
        };
        if let Err(problems) = read(&document(&text), &Rules::default()) {
            assert!(problems.iter().any(Problem::is_error));
            assert!(
                problems
                    .iter()
                    .all(|problem| !problem.render(&text, true).is_empty())
            );
        }
    }
}

fn health(text: &str) -> Health {
    site(&format!("host = 'a.test'\nto = 5000\n{text}")).health
}

#[test]
fn without_a_word_about_health_nobody_is_asked_and_refused_connects_count() {
    let health = health("");
    assert_eq!(health.check, None);
    assert_eq!(health.passive.connect, Some(Passive::CONNECTS));
    assert_eq!(
        (health.passive.reset, health.passive.server_error),
        (None, None)
    );
    assert_eq!(health.when_none, WhenNone::Try);
}

#[test]
fn an_empty_table_is_a_connect_every_two_seconds() {
    let check = health("[health]").check.expect("a check");
    assert_eq!(*check, Check::default());
    assert_eq!(check.ask, Ask::Connect);
}

#[test]
fn every_key_of_health_has_its_effect() {
    let health = health(
        "[health]\npath = '/healthz?deep=1'\nexpect = [204, '300-302']\ncontains = 'ready'\nsend_host = 'Inner.Test:81'\n\
         every = '5s'\ntimeout = '1s'\nrise = 1\nfall = 4\npassive = ['reset', '5xx']\nwhen_none = 'refuse'\n",
    );
    let check = health.check.expect("a check");
    let Ask::Get(get) = &check.ask else {
        panic!("{check:?}")
    };
    assert_eq!(&*get.path, "/healthz?deep=1");
    assert_eq!(get.expect.to_string(), "204, 300-302");
    for (status, good) in [(200, false), (204, true), (302, true), (303, false)] {
        assert_eq!(get.expect.contain(status), good, "{status}");
    }
    assert_eq!(get.contains.as_deref(), Some("ready"));
    assert_eq!(get.send_host.as_deref(), Some("inner.test:81"));
    let times = (check.every, check.timeout, check.rise, check.fall);
    let seconds = Duration::from_secs;
    assert_eq!(times, (seconds(5), seconds(1), 1, 4));
    assert_eq!(health.passive.connect, None);
    assert_eq!(health.passive.reset, Some(Passive::RESETS));
    assert_eq!(health.passive.server_error, Some(Passive::SERVER_ERRORS));
    assert_eq!(health.when_none, WhenNone::Refuse);
}

#[test]
fn what_counts_of_requests_may_have_thresholds_of_its_own() {
    let passive = health("[health]\npassive = { connect = 1, 5xx = 20 }").passive;
    let numbers = [passive.connect, passive.reset, passive.server_error];
    assert_eq!(
        numbers.map(|n| n.map(|n| n.get())),
        [Some(1), None, Some(20)]
    );
    assert_eq!(
        health("[health]\npassive = 'off'").passive,
        Passive::NOTHING
    );
    let only = health("[health]\nevery = 'off'\npassive = 'reset'");
    assert_eq!(only.check, None);
    assert_eq!(only.passive.reset, Some(Passive::RESETS));
}

#[test]
fn a_wrong_check_is_an_error_at_its_place() {
    for (text, wanted) in [
        (
            "path = 'healthz'",
            ":4:8: \"healthz\": a path begins with \"/\"",
        ),
        (
            "path = '/a b'",
            ":4:8: \"/a b\": ' ' must be percent-encoded in a path",
        ),
        ("path = '/'\nexpect = 99", ":5:10: a status is 100 to 999"),
        (
            "path = '/'\nexpect = '399-200'",
            ":5:10: a status is 100 to 999",
        ),
        (
            "path = '/'\nexpect = '+20'",
            ":5:10: a status is 100 to 999",
        ),
        (
            "path = '/'\nexpect = []",
            ":5:10: \"expect\" is an empty list",
        ),
        (
            "path = '/'\nexpect = true",
            ":5:10: \"expect\" is a status, a range such as",
        ),
        ("path = '/'\ncontains = ''", ":5:12: \"contains\" is empty"),
        ("path = '/'\nsend_host = 'a b'", ":5:13: \"a b\" is no name"),
        (
            "expect = 200",
            ":4:10: \"expect\" has no effect without a \"path\"",
        ),
        (
            "every = 'off'\npath = '/'",
            ":5:8: \"path\" has no effect every = \"off\"",
        ),
        ("every = '0s'", ":4:9: \"every\" must be longer than 0"),
        ("every = 5", ":4:9: \"every\" is a duration"),
        ("rise = 0", ":4:8: \"rise\" is 1 to 100"),
        ("fall = 101", ":4:8: \"fall\" is 1 to 100"),
        (
            "passive = ['conect']",
            ":4:12: \"conect\" is none of \"connect\", \"reset\", \"5xx\"",
        ),
        ("passive = ['off', 'reset']", ":4:12: \"off\" is none of"),
        ("passive = { reset = 0 }", ":4:21: \"reset\" is 1 to 1000"),
        (
            "passive = { resets = 1 }",
            ":4:13: unknown key \"resets\", did you mean \"reset\"?",
        ),
        ("when_none = 'fail'", ":4:13: \"fail\" is neither \"try\""),
        (
            "interval = '5s'",
            ":4:1: unknown key \"interval\", did you mean \"every\"?",
        ),
        (
            "max_fails = 3",
            ":4:1: unknown key \"max_fails\", did you mean \"fall\"?",
        ),
    ] {
        let found = error(&format!("[health]\n{text}\n"));
        assert!(found.starts_with(wanted), "{text}: {found}");
    }
    assert_eq!(
        error("health_check = 1"),
        ":3:1: unknown key \"health_check\", did you mean [health]?"
    );
}

#[test]
fn a_check_that_nobody_could_answer_is_refused() {
    let errors = |text: &str| errors_with(text, &Rules::default());
    let found = errors("host = 'a.test'\nrespond = 'x'\n[health]\n");
    assert!(found[0].contains("[health] has nobody to ask"), "{found:?}");
    let found = errors("host = 'a.test'\nto = 1\ntls = 'passthrough'\n[health]\npath = '/'\n");
    assert!(
        found[0].starts_with(":5:8: \"path\" cannot be asked for"),
        "{found:?}"
    );
}

#[test]
fn what_the_daemon_file_says_about_health_holds_for_sites_that_say_nothing() {
    let rules = Rules {
        defaults: Defaults {
            health: health("[health]\npath = '/up'\nfall = 5\nwhen_none = 'refuse'"),
            ..Defaults::default()
        },
        ..Rules::default()
    };
    let read = |text: &str| {
        let text = format!("host = 'a.test'\nto = 5000\n{text}");
        read(&document(&text), &rules).expect("fine").site.health
    };
    assert_eq!(read(""), rules.defaults.health);
    let own = read("[health]\nfall = 1");
    assert_eq!(own.when_none, WhenNone::Refuse);
    let check = own.check.expect("a check");
    assert_eq!(check.fall, 1);
    assert!(matches!(&check.ask, Ask::Get(get) if &*get.path == "/up"));
    let passed = read("tls = 'passthrough'").check.expect("a check");
    assert_eq!((&passed.ask, passed.fall), (&Ask::Connect, 5));
}

#[test]
fn an_entry_has_its_share() {
    let site = site(
        "host = 'a.test'\nto = [5001, { at = 5002, weight = 0 }, { at = 'unix:/x', weight = 65535, backup = true, max = 7 }]",
    );
    let Some(Action::Proxy(backends)) = &site.action else {
        panic!("{:?}", site.action);
    };
    let shares: Vec<_> = backends
        .list
        .iter()
        .map(|member| {
            (
                member.weight,
                member.backup,
                member.max.map(|max| max.get()),
            )
        })
        .collect();
    assert_eq!(
        shares,
        [(1, false, None), (0, false, None), (65_535, true, Some(7))]
    );
}

#[test]
fn what_is_wrong_with_backends_has_its_place() {
    for (to, place, message) in [
        ("[]", "2:6", "\"to\" is an empty list"),
        ("[5000, 5000]", "2:13", "localhost:5000 is listed twice"),
        (
            "[5000, { at = ':5000', weight = 3 }]",
            "2:13",
            "localhost:5000 is listed twice",
        ),
        (
            "{ at = 5000, weight = -1 }",
            "2:28",
            "\"weight\" is 0 to 65535",
        ),
        (
            "{ at = 5000, weight = 99999999999999999999 }",
            "2:28",
            "\"weight\" is 0 to 65535",
        ),
        (
            "{ at = 5000, max = 0 }",
            "2:25",
            "\"max\" is 1 to 4294967295",
        ),
        (
            "{ at = 5000, backup = 1 }",
            "2:28",
            "\"backup\" is true or false",
        ),
        ("0", "2:6", "a port is a number from 1 to 65535"),
        ("'ftp://x:1'", "2:6", "unknown scheme"),
        ("{ weight = 1 }", "2:6", "the entry has no \"at\""),
    ] {
        let text = format!("host = 'a.test'\nto = {to}");
        let errors = errors_with(&text, &Rules::default());
        let found = errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            found.len() == 1
                && found[0].contains(&format!(":{place}: "))
                && found[0].contains(message),
            "{to}: {found:#?}"
        );
    }
}

#[test]
fn the_words_of_other_programs_for_balance_are_understood_and_corrected() {
    for (word, ours) in [
        ("leastconn", "least-requests"),
        ("least_conn", "least-requests"),
        ("roundrobin", "round-robin"),
        ("ip_hash", "hash:ip"),
        ("source", "hash:ip"),
    ] {
        let text = format!("host = 'a.test'\nto = 5000\nbalance = '{word}'");
        let document = document(&text);
        let problems = read(&document, &Rules::default()).expect_err("not ours");
        let help = problems[0].help.as_deref().unwrap_or_default();
        assert!(help.contains(&format!("\"{ours}\"")), "{word}: {help}");
    }
}

#[test]
fn balancing_is_read_over_the_defaults() {
    let mut rules = Rules::default();
    rules.defaults.balancing.hold = Duration::from_secs(9);
    rules.defaults.retry.times = 3;
    let read_with = |text: &str| {
        let text = format!("host = 'a.test'\nto = 5000\n{text}");
        read(&document(&text), &rules).expect("fine").site
    };
    let site = read_with(
        "balance = 'hash:header:X-User'\nsticky = { cookie = 'at' }\nslow_start = 'off'\n[retry]\non = ['connect', '503']\nbudget = '5%'",
    );
    assert_eq!(site.balancing.hold, Duration::from_secs(9));
    assert_eq!(site.balancing.slow_start, Duration::ZERO);
    assert_eq!(
        site.balancing.sticky.map(|sticky| sticky.cookie),
        Some("at".into())
    );
    assert_eq!((site.retry.times, site.retry.budget), (3, 5));
    assert!(site.retry.on.connect && site.retry.on.unavailable && !site.retry.on.reset);
    assert_eq!(read_with("hold = '0s'").balancing.hold, Duration::ZERO);
    assert_eq!(read_with("sticky = false").balancing.sticky, None);
}
