//! Exact before wildcard before nothing; the longest path; ties.

use crate::harness::{Backend, Proxy};

#[test]
fn an_exact_name_wins_over_a_wildcard_and_a_wildcard_over_the_catch_all() {
    let (exact, wild, rest) = (
        Backend::saying("exact"),
        Backend::saying("wild"),
        Backend::saying("rest"),
    );
    // File names in an order that would give the opposite.
    let proxy = Proxy::plan()
        .daemon_file("catch_all = 'a-rest'\n")
        .site("a-rest.toml", format!("host = '*'\nto = {}", rest.port))
        .site(
            "b-wild.toml",
            format!("host = '*.shop.test'\nto = {}", wild.port),
        )
        .site(
            "c-exact.toml",
            format!("host = 'www.shop.test'\nto = {}", exact.port),
        )
        .start();
    assert_eq!(proxy.get("www.shop.test", "/").text(), "exact");
    assert_eq!(proxy.get("api.shop.test", "/").text(), "wild");
    assert_eq!(proxy.get("other.test", "/").text(), "rest");
    assert_eq!(proxy.get("a.b.shop.test", "/").text(), "rest");
}

#[test]
fn a_wildcard_covers_exactly_one_label() {
    let wild = Backend::saying("wild");
    let proxy = Proxy::plan()
        .site(
            "wild.toml",
            format!("host = '*.shop.test'\nto = {}", wild.port),
        )
        .start();
    assert_eq!(proxy.get("a.shop.test", "/").text(), "wild");
    for host in ["shop.test", "a.b.shop.test", ".shop.test", "*.shop.test"] {
        assert!(matches!(proxy.get(host, "/").status, 400 | 421), "{host}");
    }
}

#[test]
fn the_catch_all_is_only_for_the_site_that_the_daemon_file_names() {
    let rest = Backend::saying("rest");
    let proxy = Proxy::plan()
        .site("rest.toml", format!("host = '*'\nto = {}", rest.port))
        .start();
    proxy.until_state("rest", "down");
    assert_eq!(proxy.get("any.test", "/").said(), "421 no-site-for-host");
    proxy.until_logged("catch_all");
}

#[test]
fn a_removed_exact_name_falls_back_to_the_wildcard() {
    let (exact, wild) = (Backend::saying("exact"), Backend::saying("wild"));
    let proxy = Proxy::plan()
        .site(
            "exact.toml",
            format!("host = 'www.shop.test'\nto = {}", exact.port),
        )
        .site(
            "wild.toml",
            format!("host = '*.shop.test'\nto = {}", wild.port),
        )
        .start();
    assert_eq!(proxy.get("www.shop.test", "/").text(), "exact");
    proxy.sites().remove("exact.toml");
    proxy.wait_gone("exact");
    assert_eq!(proxy.get("www.shop.test", "/").text(), "wild");
}

#[test]
fn the_exact_path_wins_then_the_longest_prefix_then_the_site() {
    let apps: Vec<Backend> = ["site", "api", "v2", "exact"]
        .into_iter()
        .map(Backend::saying)
        .collect();
    let text = format!(
        "host = 'shop.test'\nto = {}\n\n[[path]]\nmatch = '/api'\nto = {}\n\n[[path]]\nmatch = '/api/v2/'\nto = {}\n\n\
         [[path]]\nmatch = '=/api/v2/health'\nto = {}\n",
        apps[0].port, apps[1].port, apps[2].port, apps[3].port
    );
    let proxy = Proxy::plan().site("shop.toml", text).start();
    for (path, app) in [
        ("/", "site"),
        ("/apix", "site"),
        ("/API", "site"),
        ("/api", "api"),
        ("/api?x=/api/v2", "api"),
        ("/api/", "api"),
        ("/api/v1/x", "api"),
        ("/api/v2", "v2"),
        ("/api/v2/x", "v2"),
        ("/api/v2/health", "exact"),
        ("/api/v2/health?x=1", "exact"),
        ("/api/v2/health/x", "v2"),
        ("/%61pi/v2/h%65alth", "exact"),
        ("/api%2fv2", "site"),
    ] {
        assert_eq!(proxy.get("shop.test", path).text(), app, "{path}");
    }
}

#[test]
fn a_path_is_forwarded_as_it_was_sent() {
    let shop = Backend::recording();
    let text = format!(
        "host = 'shop.test'\nto = {}\n[[path]]\nmatch = '/api'\n",
        shop.port
    );
    let proxy = Proxy::plan().site("shop.toml", text).start();
    for path in [
        "/%61pi/x",
        "/api//x;v=1?a=%20&b",
        "/x%2Fy",
        "/%7euser",
        "/?",
        "/a?b?c",
    ] {
        shop.forget();
        assert_eq!(proxy.get("shop.test", path).status, 200, "{path}");
        assert_eq!(shop.only_request().target(), path);
    }
}

#[test]
fn strip_removes_the_prefix_and_says_so() {
    let shop = Backend::recording();
    let text = format!(
        "host = 'shop.test'\nto = {}\n[[path]]\nmatch = '/api'\nstrip = true\n",
        shop.port
    );
    let proxy = Proxy::plan().site("shop.toml", text).start();
    for (asked, target) in [
        ("/api/x?y=1", "/x?y=1"),
        ("/api", "/"),
        ("/api?y=1", "/?y=1"),
        ("/api/", "/"),
        ("/%61pi/x", "/x"),
    ] {
        shop.forget();
        assert_eq!(proxy.get("shop.test", asked).status, 200, "{asked}");
        let request = shop.only_request();
        assert_eq!(request.target(), target, "{asked}");
        // As it is written in the file or as it was sent: both lead back here.
        let prefix = request.value("x-forwarded-prefix");
        assert!(asked.starts_with(&prefix) || prefix == "/api", "{prefix}");
    }
    shop.forget();
    proxy.get("shop.test", "/other");
    assert!(!shop.only_request().has("x-forwarded-prefix"));
}

#[test]
fn a_site_without_a_place_for_a_path_says_404() {
    let api = Backend::saying("api");
    let text = format!(
        "host = 'shop.test'\n[[path]]\nmatch = '/api'\nto = {}\n",
        api.port
    );
    let proxy = Proxy::plan().site("shop.toml", text).start();
    assert_eq!(proxy.get("shop.test", "/api/x").text(), "api");
    assert_eq!(proxy.get("shop.test", "/other").said(), "404 no-path");
}

#[test]
fn dot_segments_and_encoded_backslashes_are_refused_where_paths_decide() {
    let shop = Backend::recording();
    let ruled = format!(
        "host = 'ruled.test'\nto = {}\n[[path]]\nmatch = '/admin'\nrespond = 'no'\n",
        shop.port
    );
    let plain = format!("host = 'plain.test'\nto = {}\n", shop.port);
    let proxy = Proxy::plan()
        .site("ruled.toml", ruled)
        .site("plain.toml", plain)
        .start();
    for path in [
        "/x/../admin",
        "/./admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/x/..",
        "/x%5c..%5cadmin",
        "/%2e",
    ] {
        assert_eq!(
            proxy.get("ruled.test", path).said(),
            "400 ambiguous-path",
            "{path}"
        );
    }
    assert!(shop.requests().is_empty());
    for path in ["/x/../admin", "/x/%2e%2e/admin", "/a%5cb"] {
        shop.forget();
        assert_eq!(proxy.get("plain.test", path).status, 200, "{path}");
        assert_eq!(shop.only_request().target(), path);
    }
    for path in ["/...", "/a..b/.well-known/x", "/x?a=../b"] {
        assert_eq!(proxy.get("ruled.test", path).status, 200, "{path}");
    }
}

#[test]
fn a_tie_inside_a_file_is_an_error() {
    let proxy = Proxy::start();
    let text =
        "host = 'shop.test'\nto = 5000\n[[path]]\nmatch = '/api'\n[[path]]\nmatch = '/api/'\n";
    proxy.sites().write("shop.toml", text);
    proxy.until_state("shop", "down");
    proxy.until_logged("shop.toml:6:9");
}
