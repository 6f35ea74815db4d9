//! How long until it is known which site answers for a name, and does it matter how many there are?
//!
//! The base is the smallest table of the same run.

#![allow(
    clippy::unwrap_used,
    reason = "a bench stops at the first thing that is not as it says"
)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use onedoor::route::{RouteTable, TableEdit};
use onedoor::site::file::{self, Rules};
use onedoor::site::{HostPattern, Site, SiteDocument, SiteName};

const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find the site of a name");
    for size in SIZES {
        let table = table(size);
        // Many names in turn, as many clients ask, so that a large table does not sit in the cache as a small one does.
        let exact: Vec<String> = (0..size)
            .map(|number| format!("shop-{number}.test"))
            .collect();
        let wildcard: Vec<String> = (0..size)
            .map(|number| format!("www.blog-{number}.test"))
            .collect();
        let miss: Vec<String> = (0..size)
            .map(|number| format!("nobody-{number}.test"))
            .collect();
        for (what, names, found) in [
            ("exact", &exact, true),
            ("wildcard", &wildcard, true),
            ("miss", &miss, false),
        ] {
            assert!(names.iter().all(|name| table.find(name).is_some() == found));
            let mut turn = 0;
            group.bench_function(BenchmarkId::new(what, format!("among {size}")), |bencher| {
                bencher.iter(|| {
                    // 7919 is prime to every size: all names, in no order that helps.
                    turn = (turn + 7919) % names.len();
                    black_box(table.find(black_box(&names[turn]))).is_some()
                });
            });
        }
    }
    group.finish();
}

/// Half of the patterns are names, half are wildcards.
fn table(size: usize) -> RouteTable {
    let site = site();
    let edits = (0..size).flat_map(|number| {
        [
            format!("shop-{number}.test"),
            format!("*.blog-{number}.test"),
        ]
        .map(|pattern| TableEdit::Own {
            pattern: HostPattern::parse(&pattern).unwrap(),
            site: Arc::clone(&site),
        })
    });
    RouteTable::empty().with(edits)
}

fn site() -> Arc<Site> {
    let document = SiteDocument {
        name: SiteName::new("shop"),
        text: "host = 'shop.test'\nto = 5000\n".into(),
        origin: "shop.toml".into(),
        real: "shop.toml".into(),
    };
    Arc::new(file::read(&document, &Rules::default()).unwrap().site)
}

criterion_group!(benches, lookup);
criterion_main!(benches);
