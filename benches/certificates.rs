//! What a certificate costs when there are very many: memory of each, and the time until it is known which one is shown.
//!
//! All chains go through one intermediate, as those of a public authority do, and lie as certbot lays them. The base is
//! the smallest number of the same run.

#![allow(
    clippy::unwrap_used,
    reason = "a bench stops at the first thing that is not as it says"
)]

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use onedoor::site::file::{self, Rules};
use onedoor::site::{Site, SiteDocument, SiteName};
use onedoor::tls::{Keyring, Offer, Removals};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

const SIZES: [usize; 2] = [10, 100_000];

fn certificates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find the certificate of a name");
    let site = site();
    for size in SIZES {
        let folder = Folder::with_pairs(size);
        let before = resident();
        let keyring = Keyring::new(vec![folder.0.clone()], folder.0.join("state")).unwrap();
        assert!(keyring.search(Removals::Doubted).is_news);
        let each = resident().saturating_sub(before) / size;
        println!("{size} certificates: {each} bytes of memory each");
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let names: Vec<String> = (0..size).map(name).collect();
        let mut turn = 0;
        group.bench_function(
            BenchmarkId::new("exact", format!("among {size}")),
            |bencher| {
                bencher.iter(|| {
                    // 7919 is prime to every size: all names, in no order that helps.
                    turn = (turn + 7919) % names.len();
                    let offer = keyring.offer(&site, black_box(&names[turn]), client);
                    assert!(matches!(black_box(offer), Offer::Show { .. }));
                });
            },
        );
    }
    group.finish();
}

fn name(number: usize) -> String {
    format!("shop-{number}.example.com")
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A folder with a pair for each name, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn with_pairs(size: usize) -> Folder {
        let path =
            std::env::temp_dir().join(format!("onedoor-bench-{}-{size}", std::process::id()));
        let folder = Folder(path);
        let root = issuer("root", None);
        let (intermediate, pem) = issuer("intermediate", Some(&root));
        // One key for all of them: it is read and held for each all the same.
        let key = KeyPair::generate().unwrap();
        let text = key.serialize_pem();
        for number in 0..size {
            let mut params = CertificateParams::new(vec![name(number)]).unwrap();
            params
                .distinguished_name
                .push(DnType::CommonName, name(number));
            let leaf = params.signed_by(&key, &intermediate).unwrap().pem();
            let live = folder
                .0
                .join((number / 1000).to_string())
                .join(name(number));
            write(&live, "fullchain.pem", &(leaf + &pem));
            write(&live, "privkey.pem", &text);
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), text).unwrap();
}

fn issuer(
    name: &str,
    by: Option<&(Issuer<'static, KeyPair>, String)>,
) -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some((issuer, _)) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let pem = certificate.unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn site() -> Site {
    let document = SiteDocument {
        name: SiteName::new("all"),
        text: "host = '*.example.com'\nto = 5000\n".into(),
        origin: "all.toml".into(),
        real: "all.toml".into(),
    };
    file::read(&document, &Rules::default()).unwrap().site
}

criterion_group!(benches, certificates);
criterion_main!(benches);
