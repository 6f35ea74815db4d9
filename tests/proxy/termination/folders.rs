//! The daemon's folders of certificates: half of a renewal and a folder that is away are no outage, and what is wrong in them
//! is said.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use super::with_folder;
use crate::harness::{Agreed, Authority, Pair, Proxy, Tls, is_same, put, until};

fn answers(host: &str) -> String {
    format!("host = '{host}'\nrespond = 'here'\n")
}

/// Whether `pair` is what `host` shows.
fn is_shown(proxy: &Proxy, host: &str, pair: &Pair) -> bool {
    let line = Tls::to(host).shake(proxy.address());
    line.is_ok_and(|line| is_same(&pair.cert, &line.shown()))
}

#[test]
fn half_a_renewal_in_a_folder_of_many_is_no_outage_and_is_said() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live");
    let old = authority.pair(&["shop.example.com"]);
    old.write(&live, "shop");
    authority.pair(&["blog.example.com"]).write(&live, "blog");
    let proxy = plan
        .site("shop.toml", answers("shop.example.com"))
        .site("blog.toml", answers("blog.example.com"))
        .start();
    assert!(is_shown(&proxy, "shop.example.com", &old));
    let renewed = authority.pair(&["shop.example.com"]);
    put(&live, "shop.pem", &renewed.cert);
    proxy.command(["reload"]);
    proxy.until_logged("shop.key are no pair; the certificate that they were goes on being shown");
    assert!(is_shown(&proxy, "shop.example.com", &old));
    assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    let ls = proxy.status("shop").unwrap()["problems"].to_string();
    assert!(!ls.contains("clear text only"), "{ls}");
    put(&live, "shop.key", &renewed.key);
    proxy.command(["reload"]);
    assert!(is_shown(&proxy, "shop.example.com", &renewed));
}

/// Whoever looks in the middle looks again soon, and not when everything is looked at.
#[test]
fn a_renewal_that_was_looked_at_in_the_middle_is_shown_as_soon_as_it_is_whole() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let live = plan.folder().join("live/shop");
    fs::create_dir(&live).unwrap();
    let link = |round: usize, names: &[&str], pair: &Pair| {
        let leaf = pair.cert.find("-----END").map(|end| &pair.cert[..end + 25]);
        for name in names {
            let text = match *name {
                "privkey" => &pair.key,
                "cert" => leaf.unwrap(),
                _ => &pair.cert,
            };
            let kept = format!("{name}{round}");
            put(&live, &kept, text);
            let link = live.join(format!("{name}.pem"));
            fs::remove_file(&link).ok();
            symlink(&kept, &link).unwrap();
        }
    };
    let (old, new) = (
        authority.whole_pair(&["shop.example.com"]),
        authority.whole_pair(&["shop.example.com"]),
    );
    link(1, &["cert", "privkey", "fullchain"], &old);
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    assert!(is_shown(&proxy, "shop.example.com", &old));
    link(2, &["cert", "privkey"], &new);
    proxy.command(["reload"]);
    // The new one is there already, without what clients need to check it.
    assert!(is_shown(&proxy, "shop.example.com", &old));
    let whole = Instant::now();
    link(2, &["fullchain"], &new);
    until("the new one is shown", || {
        is_shown(&proxy, "shop.example.com", &new)
    });
    let taken = whole.elapsed();
    assert!(taken < Duration::from_secs(25), "{taken:?}");
}

#[test]
fn a_folder_that_is_away_keeps_what_was_found_in_it() {
    let authority = Authority::new("test");
    let plan = with_folder("");
    let (live, away) = (plan.folder().join("live"), plan.folder().join("away"));
    let pair = authority.pair(&["shop.example.com"]);
    pair.write(&live, "shop");
    let proxy = plan.site("shop.toml", answers("shop.example.com")).start();
    fs::rename(&live, &away).unwrap();
    for _ in 0..2 {
        proxy.command(["reload"]);
        assert!(is_shown(&proxy, "shop.example.com", &pair));
        assert_eq!(proxy.get("shop.example.com", "/").status, 308);
    }
    let said = "what was found in it goes on being shown";
    proxy.until_logged(said);
    assert_eq!(proxy.log().matches(said).count(), 1, "{}", proxy.log());
    let renewed = authority.pair(&["shop.example.com"]);
    renewed.write(&away, "shop");
    let back = Instant::now();
    fs::rename(&away, &live).unwrap();
    until("it is found again", || {
        is_shown(&proxy, "shop.example.com", &renewed)
    });
    let taken = back.elapsed();
    assert!(taken < Duration::from_secs(25), "{taken:?}");
}
