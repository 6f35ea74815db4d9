//! Which site answers for a name: all patterns of all sites, built once and then only read.
//!
//! Sharded so that one changed site costs the rebuilding of a shard or two, however many sites there are. Who
//! owns a name is decided by `reload`; this only remembers it.

pub mod current;

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;

pub use current::{Current, Published, SiteChange, Snapshot};

use crate::site::{HostPattern, Hostname, Site};

/// All patterns of all sites. Never changes; [`RouteTable::with`] makes the next one.
#[derive(Clone, Debug)]
pub struct RouteTable {
    generation: u64,
    seed: Seed,
    /// Always [`SHARDS`] of them; the same `Arc` as in the table before wherever nothing changed.
    shards: Box<[Arc<Shard>]>,
    any: Option<Arc<Site>>,
    exact: usize,
    wildcards: usize,
}

/// One pattern that changes hands between two tables.
#[derive(Clone, Debug)]
pub enum TableEdit {
    /// From now on `site` answers for `pattern`, whoever did before.
    Own {
        pattern: HostPattern,
        site: Arc<Site>,
    },
    /// Nobody answers for `pattern` any more.
    Release { pattern: HostPattern },
}

/// 100,000 names make shards of a hundred: small enough to copy for one edit, few enough to copy their pointers.
const SHARDS: usize = 1024;

impl RouteTable {
    /// No patterns, generation 0.
    pub fn empty() -> RouteTable {
        let shard = Arc::new(Shard::default());
        RouteTable {
            generation: 0,
            seed: Seed::random(),
            shards: vec![shard; SHARDS].into(),
            any: None,
            exact: 0,
            wildcards: 0,
        }
    }

    /// The site that answers for `host`, a normalised name: the exact name, then the wildcard that covers its first
    /// label, then `*`.
    pub fn find(&self, host: &str) -> Option<&Arc<Site>> {
        self.find_exact(host)
            .or_else(|| self.find_wildcard(host))
            .or(self.any.as_ref())
    }

    fn find_exact(&self, host: &str) -> Option<&Arc<Site>> {
        let hash = self.seed.hash(host);
        self.shards[shard_of(hash)].exact.find(hash, host)
    }

    fn find_wildcard(&self, host: &str) -> Option<&Arc<Site>> {
        if self.wildcards == 0 {
            return None;
        }
        let (label, suffix) = host.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        let hash = self.seed.hash(suffix);
        self.shards[shard_of(hash)].wildcards.find(hash, suffix)
    }

    /// The site that owns exactly this pattern.
    pub fn owner(&self, pattern: &HostPattern) -> Option<&Arc<Site>> {
        match pattern {
            HostPattern::Exact(name) => self.find_exact(name.as_str()),
            HostPattern::Wildcard(suffix) => {
                let hash = self.seed.hash(suffix.as_str());
                let shard = &self.shards[shard_of(hash)];
                shard.wildcards.find(hash, suffix.as_str())
            }
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// Counts tables: a table made from another by [`RouteTable::with`] is one higher.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many patterns are owned.
    pub fn len(&self) -> usize {
        self.exact + self.wildcards + usize::from(self.any.is_some())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A table of the same number without sites: what follows it is made from nothing.
    pub fn emptied(&self) -> RouteTable {
        RouteTable {
            generation: self.generation,
            ..RouteTable::default()
        }
    }

    /// The next table, with `edits` applied in their order. Copies only the shards they touch, each once.
    pub fn with(&self, edits: impl IntoIterator<Item = TableEdit>) -> RouteTable {
        let mut next = self.clone();
        next.generation += 1;
        for edit in edits {
            match edit {
                TableEdit::Own { pattern, site } => next.own(pattern, site),
                TableEdit::Release { pattern } => next.release(&pattern),
            }
        }
        next
    }

    fn own(&mut self, pattern: HostPattern, site: Arc<Site>) {
        match pattern {
            HostPattern::Exact(name) => {
                let (hash, shard) = self.shard_for(&name);
                self.exact += usize::from(shard.exact.put(hash, name, site));
            }
            HostPattern::Wildcard(suffix) => {
                let (hash, shard) = self.shard_for(&suffix);
                self.wildcards += usize::from(shard.wildcards.put(hash, suffix, site));
            }
            HostPattern::Any => self.any = Some(site),
        }
    }

    fn release(&mut self, pattern: &HostPattern) {
        match pattern {
            HostPattern::Exact(name) => {
                let (hash, shard) = self.shard_for(name);
                self.exact -= usize::from(shard.exact.take(hash, name.as_str()));
            }
            HostPattern::Wildcard(suffix) => {
                let (hash, shard) = self.shard_for(suffix);
                self.wildcards -= usize::from(shard.wildcards.take(hash, suffix.as_str()));
            }
            HostPattern::Any => self.any = None,
        }
    }

    fn shard_for(&mut self, name: &Hostname) -> (u64, &mut Shard) {
        let hash = self.seed.hash(name.as_str());
        (hash, Arc::make_mut(&mut self.shards[shard_of(hash)]))
    }
}

impl Default for RouteTable {
    fn default() -> RouteTable {
        RouteTable::empty()
    }
}

/// The bits between those that hashbrown takes: it finds the place by the low ones and compares the high ones.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

/// The patterns whose hash falls here: exact names by themselves, wildcards by their suffix.
#[derive(Clone, Default, Debug)]
struct Shard {
    exact: Names,
    wildcards: Names,
}

/// Names and their sites, looked up with a hash that is known already.
#[derive(Clone, Default, Debug)]
struct Names(HashTable<Named>);

/// The hash stands beside the name, so that a shard that grows does not hash its names again.
#[derive(Clone, Debug)]
struct Named {
    hash: u64,
    name: Hostname,
    site: Arc<Site>,
}

impl Names {
    fn find(&self, hash: u64, name: &str) -> Option<&Arc<Site>> {
        let found = self.0.find(hash, |named| named.name.as_str() == name)?;
        Some(&found.site)
    }

    /// Whether the name is a new one.
    fn put(&mut self, hash: u64, name: Hostname, site: Arc<Site>) -> bool {
        if let Some(named) = self.0.find_mut(hash, |named| named.name == name) {
            named.site = site;
            return false;
        }
        let named = Named { hash, name, site };
        self.0.insert_unique(hash, named, |named| named.hash);
        true
    }

    /// Whether the name was there.
    fn take(&mut self, hash: u64, name: &str) -> bool {
        match self.0.find_entry(hash, |named| named.name.as_str() == name) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }
}

/// The key of the hash. Host is chosen by clients, so it differs with every process.
#[derive(Clone, Copy, Debug)]
struct Seed {
    own: u64,
    shared: &'static SharedSeed,
}

impl Seed {
    fn random() -> Seed {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        Seed {
            own: random_u64(),
            shared: SHARED.get_or_init(|| SharedSeed::from_u64(random_u64())),
        }
    }

    fn hash(&self, name: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.own, self.shared);
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

/// From the kernel; the library's own (addresses and clock) where a sandbox forbids that.
fn random_u64() -> u64 {
    getrandom::u64().unwrap_or_else(|_| foldhash::quality::RandomState::default().hash_one(0))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::site::{HeaderEdits, SiteName};

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site {
            name: SiteName::new(name),
            number: 0,
            version: 0,
            slots: Default::default(),
            waiting: Default::default(),
            before: None,
            balancing: Default::default(),
            retry: Default::default(),
            claims: Box::default(),
            action: None,
            allow: None,
            paths: Box::default(),
            send_host: Default::default(),
            send_proxy: None,
            health: Default::default(),
            headers: HeaderEdits::default(),
            limits: Default::default(),
            timeouts: Default::default(),
            drain: Default::default(),
            tls: Default::default(),
            #[cfg(feature = "serve")]
            access_log: Default::default(),
            note: None,
        })
    }

    fn own(pattern: &str, name: &str) -> TableEdit {
        TableEdit::Own {
            pattern: HostPattern::parse(pattern).expect("pattern"),
            site: site(name),
        }
    }

    fn release(pattern: &str) -> TableEdit {
        TableEdit::Release {
            pattern: HostPattern::parse(pattern).expect("pattern"),
        }
    }

    fn answers(table: &RouteTable, host: &str) -> Option<String> {
        table.find(host).map(|site| site.name.to_string())
    }

    #[test]
    fn an_exact_name_goes_before_a_wildcard_and_a_wildcard_before_any() {
        let table = RouteTable::empty().with([
            own("a.w.test", "exact"),
            own("*.w.test", "wildcard"),
            own("*", "any"),
        ]);
        assert_eq!(answers(&table, "a.w.test").as_deref(), Some("exact"));
        assert_eq!(answers(&table, "b.w.test").as_deref(), Some("wildcard"));
        assert_eq!(answers(&table, "b.c.w.test").as_deref(), Some("any"));
        assert_eq!(answers(&table, "w.test").as_deref(), Some("any"));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn a_name_nobody_claims_finds_nothing() {
        let table = RouteTable::empty().with([own("a.test", "a"), own("*.w.test", "w")]);
        for host in ["b.test", "w.test", ".w.test", "x.y.w.test", "", "test"] {
            assert_eq!(answers(&table, host), None, "{host}");
        }
    }

    #[test]
    fn a_table_stays_as_it_was_when_the_next_one_is_made() {
        let first = RouteTable::empty().with([own("a.test", "old")]);
        let second = first.with([own("a.test", "new"), own("b.test", "b")]);
        assert_eq!(answers(&first, "a.test").as_deref(), Some("old"));
        assert_eq!(answers(&first, "b.test"), None);
        assert_eq!(answers(&second, "a.test").as_deref(), Some("new"));
        assert_eq!((first.len(), second.len()), (1, 2));
        assert_eq!(second.generation(), first.generation() + 1);
    }

    #[test]
    fn an_edit_copies_only_the_shards_it_touches() {
        let names: Vec<_> = (0..5000).map(|n| format!("s{n}.test")).collect();
        let first = RouteTable::empty().with(names.iter().map(|name| own(name, name)));
        let second = first.with([own("s17.test", "new")]);
        let pairs = first.shards.iter().zip(&second.shards);
        let copied = pairs.filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert_eq!(copied, 1);
    }

    fn naive(owned: &HashMap<String, String>, host: &str) -> Option<String> {
        let wildcard = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        owned
            .get(host)
            .or_else(|| owned.get(&wildcard?))
            .or_else(|| owned.get("*"))
            .cloned()
    }

    proptest! {
        #[test]
        fn a_table_built_edit_by_edit_equals_a_naive_one(
            edits in prop::collection::vec(("([*]|(([*]|[a-c])[.])?[a-c][.][a-c])", prop::option::of(0..9u8)), 0..80),
            batch in 1..9usize,
        ) {
            let mut table = RouteTable::empty();
            let mut owned = HashMap::new();
            for batch in edits.chunks(batch) {
                table = table.with(batch.iter().map(|(pattern, owner)| match owner {
                    Some(owner) => own(pattern, &owner.to_string()),
                    None => release(pattern),
                }));
                for (pattern, owner) in batch {
                    match owner {
                        Some(owner) => owned.insert(pattern.clone(), owner.to_string()),
                        None => owned.remove(pattern),
                    };
                }
                prop_assert_eq!(table.len(), owned.len());
                for x in ["a", "b", "c"] {
                    for y in ["a", "b", "c"] {
                        let short = format!("{x}.{y}");
                        prop_assert_eq!(answers(&table, &short), naive(&owned, &short));
                        for z in ["a", "b", "c", "d"] {
                            let long = format!("{z}.{short}");
                            prop_assert_eq!(answers(&table, &long), naive(&owned, &long));
                        }
                    }
                }
            }
        }
    }
}
