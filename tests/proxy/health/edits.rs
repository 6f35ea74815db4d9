//! Edits touch the checks that they change, and no others.

use super::*;

#[test]
fn an_edit_keeps_what_is_known_of_a_backend_and_asks_on() {
    let ((app, is_good), spare) = (switched("app"), Backend::saying("spare"));
    let site = |keys: &str| {
        format!(
            "host = 'app.test'\nto = [{}, {}]\n{keys}{OFTEN}fall = 1\n",
            app.port, spare.port
        )
    };
    let proxy = Proxy::plan().site("app.toml", site("")).start();
    app.until_requests(2);
    is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "app", &app, false);
    proxy.site("app.toml", site("note = 'edited'\n"));
    assert!(!is_fit(&proxy, "app", &app), "still out");
    for _ in 0..8 {
        assert_eq!(proxy.get("app.test", "/").text(), "spare");
    }
    let more = app.requests().len() + 3;
    app.until_requests(more);
    is_told_once(&proxy, "backend out");
    // Asked more often: what was found out still holds.
    let faster = site("note = 'edited'\n").replace("50ms", "40ms");
    proxy.site("app.toml", faster);
    assert!(!is_fit(&proxy, "app", &app), "still out");
    is_good.store(true, Ordering::SeqCst);
    until_fit(&proxy, "app", &app, true);
    is_told_once(&proxy, "backend back");
}

#[test]
fn a_new_backend_that_is_out_is_called_so_until_its_check_passes() {
    let (old, (new, is_good)) = (Backend::saying("old"), switched("new"));
    is_good.store(false, Ordering::SeqCst);
    let site = |port: u16| format!("host = 'app.test'\nto = {port}\n{OFTEN}");
    let proxy = Proxy::plan().site("app.toml", site(old.port)).start();
    old.until_requests(2);
    proxy.sites().write("app.toml", site(new.port));
    let said = "; a new backend, sent no requests until its check passes";
    proxy.until_logged(said);
    assert_eq!(times(&proxy, "check not in force"), 0, "{}", proxy.log());
    let errors = || {
        let ls = proxy.command(["ls", "--errors"]);
        String::from_utf8_lossy(&ls.stdout).into_owned()
    };
    assert!(errors().contains(said), "{}", errors());
    assert_eq!(proxy.get("app.test", "/").text(), "old");
    is_good.store(true, Ordering::SeqCst);
    until("nothing is held against it any more", || {
        errors() == "nothing is wrong\n"
    });
    assert_eq!(proxy.get("app.test", "/").text(), "new");
    // Nor when it was out and is back.
    is_good.store(false, Ordering::SeqCst);
    proxy.until_logged("backend out");
    assert!(errors().contains("GET /health on "), "{}", errors());
    is_good.store(true, Ordering::SeqCst);
    until("it is back, and nothing is wrong", || {
        errors() == "nothing is wrong\n"
    });
}

#[test]
fn who_is_no_longer_named_is_no_longer_asked() {
    let (old, new, spare) = (
        Backend::recording(),
        Backend::recording(),
        Backend::saying("spare"),
    );
    let site = |port: u16| format!("host = 'app.test'\nto = [{port}, {}]\n{OFTEN}", spare.port);
    let proxy = Proxy::plan().site("app.toml", site(old.port)).start();
    old.until_requests(2);
    proxy.site("app.toml", site(new.port));
    new.until_requests(3);
    let before = old.requests().len();
    let more = new.requests().len() + 10;
    new.until_requests(more);
    let after = old.requests().len();
    assert!(after <= before + 1, "{before} and then {after}");
    proxy.sites().remove("app.toml");
    proxy.wait_gone("app.toml");
    let before = new.requests().len();
    let other = format!("host = 'other.test'\nto = {}\n{OFTEN}", old.port);
    proxy.site("other.toml", other);
    let more = old.requests().len() + 10;
    old.until_requests(more);
    let after = new.requests().len();
    assert!(after <= before + 1, "{before} and then {after}");
}

#[test]
fn a_check_that_is_taken_out_of_the_file_holds_nothing_against_anybody() {
    let ((app, is_good), spare) = (switched("app"), Backend::saying("spare"));
    let site = format!("host = 'app.test'\nto = [{}, {}]\n", app.port, spare.port);
    let checked = format!("{site}{OFTEN}fall = 1\n");
    let proxy = Proxy::plan().site("app.toml", checked).start();
    app.until_requests(2);
    is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "app", &app, false);
    proxy.site("app.toml", site);
    until_fit(&proxy, "app", &app, true);
    proxy.until_answer("app.test", "the app that nobody asks any more", |answer| {
        answer.text() == "app"
    });
}

#[test]
fn a_backend_that_comes_back_on_another_port_is_found_by_an_edit() {
    let old = Backend::saying("old");
    let old_port = old.port;
    let site = |port: u16| format!("host = 'app.test'\nto = {port}\n{OFTEN}fall = 1\n");
    let proxy = Proxy::plan().site("app.toml", site(old_port)).start();
    old.until_requests(2);
    drop(old);
    proxy.until_logged("backend out");
    let new = Backend::saying("new");
    proxy.site("app.toml", site(new.port));
    assert_eq!(proxy.get("app.test", "/").text(), "new");
}

#[test]
fn new_backends_take_requests_when_they_have_passed_and_the_old_ones_serve_until_then() {
    let old = Backend::saying("old");
    let (new, is_good) = switched("new");
    is_good.store(false, Ordering::SeqCst);
    let site = |port: u16| format!("host = 'app.test'\nto = {port}\n{OFTEN}");
    let proxy = Proxy::plan().site("app.toml", site(old.port)).start();
    old.until_requests(2);
    proxy.sites().write("app.toml", site(new.port));
    new.until_requests(5);
    proxy.until_state("app", "waiting");
    for _ in 0..8 {
        assert_eq!(proxy.get("app.test", "/").text(), "old");
    }
    let waiting = proxy.command(["wait", "app", "--timeout", "200ms"]);
    assert_eq!(waiting.status.code(), Some(3));
    is_good.store(true, Ordering::SeqCst);
    proxy.wait_for("app.toml");
    for _ in 0..8 {
        assert_eq!(proxy.get("app.test", "/").text(), "new");
    }
    assert_eq!(proxy.state_of("app"), "live");
}

#[test]
fn the_version_before_is_remembered_until_a_new_backend_has_passed() {
    let old = Backend::saying("old");
    let (new, is_good) = switched("new");
    is_good.store(false, Ordering::SeqCst);
    let site = |port: u16| format!("host = 'app.test'\nto = {port}\n{OFTEN}");
    let mut proxy = Proxy::plan().site("app.toml", site(old.port)).start();
    old.until_requests(2);
    proxy.sites().write("app.toml", site(new.port));
    proxy.until_state("app", "waiting");
    proxy.stop();
    proxy.start_again();
    proxy.until_state("app", "waiting");
    for _ in 0..8 {
        assert_eq!(proxy.get("app.test", "/").text(), "old");
    }
    is_good.store(true, Ordering::SeqCst);
    proxy.wait_for("app.toml");
    proxy.until_answer("app.test", "the new one", |answer| answer.text() == "new");
    drop(old);
    proxy.stop();
    proxy.start_again();
    assert_eq!(proxy.get("app.test", "/").text(), "new");
}

#[test]
fn wait_returns_when_a_first_backend_is_fit() {
    let (app, is_good) = switched("app");
    is_good.store(false, Ordering::SeqCst);
    let proxy = Proxy::start();
    let site = format!("host = 'app.test'\nto = {}\n{OFTEN}", app.port);
    proxy.sites().write("app.toml", site);
    proxy.until_state("app", "waiting");
    let waited = proxy.command(["wait", "app", "--timeout", "200ms"]);
    assert_eq!(waited.status.code(), Some(3), "{waited:?}");
    is_good.store(true, Ordering::SeqCst);
    proxy.wait_for("app.toml");
    assert_eq!(proxy.state_of("app"), "live");
}

#[test]
fn what_a_check_found_out_is_of_no_use_when_nobody_checks_any_more() {
    let (app, is_good) = switched("app");
    let spare = Backend::saying("spare");
    let both = format!("host = 'app.test'\nto = [{}, {}]\n", app.port, spare.port);
    let proxy = Proxy::plan()
        .site("app.toml", format!("{both}{OFTEN}fall = 1\n"))
        .start();
    until_fit(&proxy, "app", &app, true);
    until("it was asked", || !app.requests().is_empty());
    proxy.until_state("app", "live");
    is_good.store(false, Ordering::SeqCst);
    until_fit(&proxy, "app", &app, false);
    let without = format!("host = 'app.test'\nto = {}\n", spare.port);
    for text in [without, both] {
        proxy.site("app.toml", text);
    }
    assert!(is_fit(&proxy, "app", &app));
    assert_eq!(
        backend(&proxy, "app", app.port)["reason"],
        serde_json::Value::Null
    );
    proxy.until_answer("app.test", "the one that failed its check", |answer| {
        answer.text() == "app"
    });
}
