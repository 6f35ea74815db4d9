//! What the README and SECURITY.md show is so: site files are good, the reference is the table of keys, decisions are
//! those of the cases.

use std::collections::BTreeSet;
use std::fs;

use crate::harness::{Folder, Proxy, Sites, onedoor};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

#[test]
fn the_reference_is_what_the_table_of_keys_says() {
    let text = fs::read_to_string(README).unwrap();
    let (before, rest) = text.split_once("<!-- keys").unwrap();
    let (mark, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of keys -->").unwrap();
    let keys = onedoor::document::keys::reference();
    let wanted = format!(
        "{before}<!-- keys{mark}-->\n{}\n<!-- end of keys -->{after}",
        keys.trim_end()
    );
    if std::env::var_os("WRITE_README").is_some() {
        return fs::write(README, &wanted).unwrap();
    }
    assert!(
        text == wanted,
        "the keys have changed: WRITE_README=1 cargo test readme"
    );
}

#[test]
fn the_files_that_are_shown_are_good() {
    let text = fs::read_to_string(README).unwrap();
    let folder = Folder::new();
    let sites = Sites::at(folder.join("sites.d"));
    sites.write("shop.token", "Bearer x\n");
    let mut seen = 0;
    for block in text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
    {
        // The rest is the daemon file, which is shown once.
        let words: &[&str] = if block.contains("listen =") {
            fs::write(folder.join("onedoor.toml"), block).unwrap();
            &[
                "check",
                "--sites",
                "sites.d",
                "--state",
                "state",
                "--config",
                "onedoor.toml",
            ]
        } else {
            sites.write("shop.toml", block);
            &["check", "--state", "state"]
        };
        let output = onedoor(&folder, words.iter().copied());
        drop(fs::remove_file(folder.join("onedoor.toml")));
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{block}\n{said}");
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn every_reason_that_is_answered_or_counted_is_explained() {
    let readme = fs::read_to_string(README).unwrap();
    for reason in onedoor::observe::Reason::ALL {
        assert!(
            readme.contains(&format!("`{}`", reason.code())),
            "{}",
            reason.code()
        );
    }
}

#[test]
fn every_metric_is_explained_and_none_that_is_not_there() {
    let readme = fs::read_to_string(README).unwrap();
    let (_, table) = readme.split_once("| metric | |").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let told: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let proxy = Proxy::plan()
        .site(
            "shop.toml",
            "host = 'shop.test'\nto = [5000, 5001]\n[health]\n",
        )
        .start();
    let scraped = proxy.admin("GET", "/metrics").1;
    let there: BTreeSet<&str> = scraped
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert_eq!(told, there);
}

/// SECURITY.md says what is decided where the standards leave a choice: of every such case, and of none that is gone.
#[test]
fn every_decision_of_the_lists_of_cases_is_written_down() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/SECURITY.md")).unwrap();
    let (_, table) = text.split_once("| case | decision |").unwrap();
    let cases: Vec<serde_json::Value> = [
        include_str!("../h1_cases.jsonl"),
        include_str!("../h1_cases_ours.jsonl"),
    ]
    .into_iter()
    .flat_map(str::lines)
    .map(|line| serde_json::from_str(line).unwrap())
    .collect();
    assert!(
        text.contains(&format!("{} requests byte by byte", cases.len())),
        "there are {} cases",
        cases.len()
    );
    let ids: Vec<&str> = cases
        .iter()
        .map(|case| case["id"].as_str().unwrap())
        .collect();
    let named: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .flat_map(|names| names.split(['`', ' ']))
        .filter(|name| !name.is_empty())
        .collect();
    let fits = |name: &str, id: &str| match name.strip_suffix('*') {
        Some(start) => id.starts_with(start),
        None => id == name,
    };
    for name in &named {
        assert!(
            ids.iter().any(|id| fits(name, id)),
            "no case is called {name}"
        );
    }
    for case in cases.iter().filter(|case| case["level"] == "policy") {
        let id = case["id"].as_str().unwrap();
        assert!(
            named.iter().any(|name| fits(name, id)),
            "{id} is not in SECURITY.md"
        );
    }
}
