//! One site file changes among 10, 1,000 or 10,000: how long until the new version serves?
//!
//! The base is the smallest folder of the same run. "serves" is the whole way: written beside, renamed, noticed, read,
//! built, published. "parse and build" is what of it is ours alone, without the disk and without waiting for events.

#![allow(
    clippy::unwrap_used,
    reason = "a bench stops at the first thing that is not as it says"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use onedoor::reload::{self, Waited};
use onedoor::route::{Current, RouteTable, TableEdit};
use onedoor::settings::{self, Overrides};
use onedoor::site::file::{self, Rules};
use onedoor::site::{SiteDocument, SiteName};

const SIZES: [usize; 3] = [10, 1_000, 10_000];
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two edits: publishes are at least 20 ms apart, and what is asked is how long one edit takes.
const PAUSE: Duration = Duration::from_millis(50);

fn text(number: usize, port: usize) -> String {
    format!("host = ['shop-{number}.test', '*.shop-{number}.test']\nto = {port}\n")
}

fn parse_and_build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one changed file, parse and build");
    for size in SIZES {
        let edits = (0..size).flat_map(|number| read(number, 5000));
        let table = RouteTable::empty().with(edits);
        let mut port = 5000;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                port = 5000 + (port + 1) % 1000;
                table.with(read(7, port))
            });
        });
    }
    group.finish();
}

/// What a site file asks the next table for.
fn read(number: usize, port: usize) -> Vec<TableEdit> {
    let path = PathBuf::from(format!("shop-{number}.toml"));
    let document = SiteDocument {
        name: SiteName::new(format!("shop-{number}")),
        text: text(number, port),
        origin: path.clone(),
        real: path,
    };
    let site = Arc::new(file::read(&document, &Rules::default()).unwrap().site);
    let patterns = site.claims.iter().map(|claim| claim.pattern.clone());
    patterns
        .map(|pattern| TableEdit::Own {
            pattern,
            site: Arc::clone(&site),
        })
        .collect()
}

fn serves(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one changed file, written until it serves");
    group.sample_size(20);
    for size in SIZES {
        let folder = Folder::with(size);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let settings = settings::load(None, folder.overrides()).unwrap();
        let started = reload::start(
            &settings,
            settings.rules(),
            Arc::new(Current::new()),
            Arc::new(
                onedoor::tls::Keyring::new(Vec::new(), settings.state.clone()).expect("keyring"),
            ),
            Arc::new(onedoor::upstream::States::new(1, b"key")),
            tokio::sync::mpsc::unbounded_channel().0,
        );
        let (reload, summary) = runtime.block_on(started);
        assert_eq!(summary.live, size);
        // The first start keeps every site in the state directory; that is not an edit's work.
        runtime.block_on(reload.flush());
        let mut port = 5000;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_batched(
                || runtime.block_on(tokio::time::sleep(PAUSE)),
                |()| {
                    port = 5000 + (port + 1) % 1000;
                    folder.write(7, port);
                    let waited = reload.wait(
                        Some("shop-7".into()),
                        onedoor::reload::Until::Serving,
                        PATIENCE,
                    );
                    assert_eq!(runtime.block_on(waited), Waited::Serving);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A `sites.d` and a state directory, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with(size: usize) -> Folder {
        let name = format!("onedoor-bench-{}-{size}", std::process::id());
        let folder = Folder(std::env::temp_dir().join(name));
        fs::create_dir_all(folder.sites()).unwrap();
        for number in 0..size {
            let path = folder.sites().join(format!("shop-{number}.toml"));
            fs::write(path, text(number, 5000)).unwrap();
        }
        folder
    }

    fn sites(&self) -> PathBuf {
        self.0.join("sites.d")
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            sites: Some(self.sites()),
            state: Some(self.0.join("state")),
            ..Overrides::default()
        }
    }

    /// Beside, then renamed, as deploy scripts do.
    fn write(&self, number: usize, port: usize) {
        let beside: &Path = &self.sites().join(".beside");
        fs::write(beside, text(number, port)).unwrap();
        fs::rename(beside, self.sites().join(format!("shop-{number}.toml"))).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

criterion_group!(benches, parse_and_build, serves);
criterion_main!(benches);
