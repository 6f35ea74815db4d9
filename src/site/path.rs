//! Which part of a site answers for a path: exact, then the longest prefix, then the site itself.
//!
//! A path is compared as RFC 3986 6.2.2 calls equivalent: percent-encoded unreserved characters are decoded and
//! hex digits have no case; nothing else changes, and what is forwarded never does (but for `strip`).

use std::cmp::Ordering;
use std::fmt;

use super::{Action, Allow, ClaimRole, HostPattern, Site};

/// What `match` says, in the form that paths are compared in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathPattern {
    Exact(Box<str>),
    /// Ends at a segment boundary: `/api` covers `/api` and `/api/x`, not `/apix`. Never ends in `/` except as `/`.
    Prefix(Box<str>),
}

impl PathPattern {
    /// Reads `/api`, `/api/` (the same) or `=/health`.
    ///
    /// # Errors
    /// What no path can ever match, or what other programs' patterns would mean by it.
    pub fn parse(text: &str) -> Result<PathPattern, PatternError> {
        let (exact, path) = match text.strip_prefix('=') {
            Some(path) => (true, path),
            None => (false, text),
        };
        if !path.starts_with('/') {
            return Err(PatternError::NoSlash);
        }
        if let Some(wanted) = path.strip_suffix("/*") {
            return Err(PatternError::Star(if wanted.is_empty() {
                "/".into()
            } else {
                wanted.into()
            }));
        }
        if path.contains(['?', '#']) {
            return Err(PatternError::Query);
        }
        if path.contains(|c: char| c.is_control()) {
            return Err(PatternError::Control);
        }
        if is_ambiguous(path.as_bytes()) {
            return Err(PatternError::Dots);
        }
        let mut normal: String = Normal::of(path.as_bytes())
            .map(|(byte, _)| char::from(byte))
            .collect();
        if exact {
            return Ok(PathPattern::Exact(normal.into()));
        }
        while normal.len() > 1 && normal.ends_with('/') {
            normal.pop();
        }
        Ok(PathPattern::Prefix(normal.into()))
    }

    /// The order in which patterns are tried: exact ones first, then prefixes, longest first. Equal means a tie.
    pub fn order(&self, other: &PathPattern) -> Ordering {
        let rank = |p: &PathPattern| match p {
            PathPattern::Exact(_) => 0,
            PathPattern::Prefix(_) => 1,
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| other.as_str().len().cmp(&self.as_str().len()))
            .then_with(|| self.as_str().cmp(other.as_str()))
    }

    fn as_str(&self) -> &str {
        match self {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
        }
    }

    /// How many bytes of `path`, as it was sent, this pattern covers; `None` when it does not match.
    fn covers(&self, path: &[u8]) -> Option<usize> {
        let pattern = self.as_str().as_bytes();
        let mut rest = Normal::of(path);
        // "/" covers every path and takes nothing away from it.
        if let (PathPattern::Prefix(_), b"/") = (self, pattern) {
            return (path.first() == Some(&b'/')).then_some(0);
        }
        let mut covered = 0;
        for &wanted in pattern {
            let (byte, end) = rest.next()?;
            if byte != wanted {
                return None;
            }
            covered = end;
        }
        match (self, rest.next()) {
            (_, None) => Some(covered),
            (PathPattern::Prefix(_), Some((b'/', _))) => Some(covered),
            _ => None,
        }
    }
}

impl PathPattern {
    /// Whether it would answer for `path`, as it was sent, if no other pattern went before it.
    pub fn is_for(&self, path: &[u8]) -> bool {
        self.covers(path).is_some()
    }

    /// The path it was written with, normalised.
    pub fn path(&self) -> &str {
        match self {
            PathPattern::Exact(path) | PathPattern::Prefix(path) => path,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathPattern::Exact(path) => write!(f, "={path}"),
            PathPattern::Prefix(path) => f.write_str(path),
        }
    }
}

/// What answers for a path.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub action: &'a Action,
    /// Who may ask here: the path's own, else the site's.
    pub allow: Option<&'a Allow>,
    /// Index into `Site::paths`, or `None` for the site itself.
    pub rule: Option<usize>,
    /// How many bytes of the path, as it was sent, `strip` takes away. 0: none.
    pub strip: usize,
}

/// Why no part of the site answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathRefusal {
    /// No rule matches and the site itself has no action: 404.
    NoPath,
    /// Dot segments (also encoded) or `%5c` on a site with path rules: 400.
    Ambiguous,
}

impl Site {
    /// What answers for `path`: the path of an origin-form target as it was sent, without its query.
    ///
    /// # Errors
    /// `NoPath` and, only on a site with path rules, `Ambiguous`: a backend might see another path than we matched.
    #[inline]
    pub fn place(&self, path: &[u8]) -> Result<Place<'_>, PathRefusal> {
        if self.paths.is_empty() {
            return self.own_place();
        }
        self.place_by_rules(path)
    }

    fn own_place(&self) -> Result<Place<'_>, PathRefusal> {
        let action = self.action.as_ref().ok_or(PathRefusal::NoPath)?;
        Ok(Place {
            action,
            allow: self.allow.as_ref(),
            rule: None,
            strip: 0,
        })
    }

    fn place_by_rules(&self, path: &[u8]) -> Result<Place<'_>, PathRefusal> {
        // OPTIONS of all there is: whoever may not ask for "/" may not ask that either, and there is nothing to strip.
        if path == b"*" {
            return self
                .place_by_rules(b"/")
                .map(|place| Place { strip: 0, ..place });
        }
        if is_ambiguous(path) {
            return Err(PathRefusal::Ambiguous);
        }
        let found = self
            .paths
            .iter()
            .enumerate()
            .find_map(|(at, rule)| Some((at, rule, rule.pattern.covers(path)?)));
        let Some((at, rule, covered)) = found else {
            return self.own_place();
        };
        let action = rule
            .action
            .as_ref()
            .or(self.action.as_ref())
            .ok_or(PathRefusal::NoPath)?;
        Ok(Place {
            action,
            allow: rule.allow.as_ref().or(self.allow.as_ref()),
            rule: Some(at),
            strip: if rule.strip { covered } else { 0 },
        })
    }

    /// Whether requests for `host`, which this site owns, are sent to its first host.
    #[inline]
    pub fn redirects(&self, host: &str) -> bool {
        self.has_redirects() && self.role_of(host) == Some(ClaimRole::RedirectToFirst)
    }

    /// Whether any claim is one of `redirect_from`. Hosts come first in `claims`, so the last one tells.
    #[inline]
    pub fn has_redirects(&self) -> bool {
        let last = self.claims.last();
        last.is_some_and(|claim| claim.role == ClaimRole::RedirectToFirst)
    }

    /// The role of the most exact claim that covers `host`, as between sites: exact, wildcard, any.
    fn role_of(&self, host: &str) -> Option<ClaimRole> {
        let rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => 0,
            HostPattern::Wildcard(_) => 1,
            HostPattern::Any => 2,
        };
        let covering = self
            .claims
            .iter()
            .filter(|claim| claim.pattern.matches(host));
        covering
            .min_by_key(|claim| rank(&claim.pattern))
            .map(|claim| claim.role)
    }
}

/// Whether a backend could resolve `path` to another one than we compare: dot segments, also encoded or with path
/// parameters (`/..;x/`, which servlet containers resolve), and backslashes, which some take for slashes.
fn is_ambiguous(path: &[u8]) -> bool {
    // Almost every path has none of the bytes that could make it so.
    let suspicious = |at: usize, b: u8| match b {
        b'%' | b'\\' => true,
        b'.' => at == 0 || path[at - 1] == b'/',
        _ => false,
    };
    if !path.iter().enumerate().any(|(at, &b)| suspicious(at, b)) {
        return false;
    }
    let has_backslash = memchr::memchr(b'\\', path).is_some()
        || path
            .windows(3)
            .any(|w| w[0] == b'%' && w[1] == b'5' && w[2].eq_ignore_ascii_case(&b'c'));
    has_backslash || path.split(|&b| b == b'/').any(is_dot_segment)
}

fn is_dot_segment(segment: &[u8]) -> bool {
    let mut dots = 0;
    for (byte, _) in Normal::of(segment) {
        match byte {
            b'.' => dots += 1,
            b';' => break,
            _ => return false,
        }
    }
    dots == 1 || dots == 2
}

/// The bytes of a path in the form they are compared in, each with the end of what it was read from.
struct Normal<'a> {
    path: &'a [u8],
    at: usize,
    /// Up to two hex digits still to give, the next one last.
    pending: [u8; 2],
    count: usize,
}

impl<'a> Normal<'a> {
    fn of(path: &'a [u8]) -> Normal<'a> {
        Normal {
            path,
            at: 0,
            pending: [0; 2],
            count: 0,
        }
    }

    fn encoded(&mut self, byte: u8, end: usize) -> (u8, usize) {
        let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
        self.pending = [digit(byte & 0xf), digit(byte >> 4)];
        self.count = 2;
        self.at = end;
        (b'%', end)
    }
}

impl Iterator for Normal<'_> {
    type Item = (u8, usize);

    #[inline]
    fn next(&mut self) -> Option<(u8, usize)> {
        if self.count > 0 {
            self.count -= 1;
            return Some((self.pending[self.count], self.at));
        }
        let byte = *self.path.get(self.at)?;
        if byte == b'%'
            && let Some(decoded) = decode(&self.path[self.at..])
        {
            let end = self.at + 3;
            if is_unreserved(decoded) {
                self.at = end;
                return Some((decoded, end));
            }
            return Some(self.encoded(decoded, end));
        }
        // A space can only stand in a pattern. Above 7 bits is outside RFC 3986; its encoded form is what is meant.
        if byte == b' ' || byte >= 0x80 {
            return Some(self.encoded(byte, self.at + 1));
        }
        self.at += 1;
        Some((byte, self.at))
    }
}

/// The byte that `%xx` at the front stands for.
fn decode(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |b: u8| char::from(b).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// RFC 3986 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Why a text is no path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PatternError {
    NoSlash,
    /// With what to write instead.
    Star(Box<str>),
    Query,
    Control,
    Dots,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::NoSlash => f.write_str("a path starts with \"/\", or with \"=/\" to match exactly"),
            PatternError::Star(wanted) => write!(f, "a path covers what is below it, write {wanted:?}"),
            PatternError::Query => f.write_str("a path is matched without its query"),
            PatternError::Control => f.write_str("a path has no control characters"),
            PatternError::Dots => {
                f.write_str("dot segments and backslashes are refused on sites with [[path]], so this would never match")
            }
        }
    }
}

impl std::error::Error for PatternError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::site::{Claim, PathRule, Respond, SiteName};

    fn respond(status: u16) -> Option<Action> {
        Some(Action::Respond(Respond {
            status,
            content_type: "text/plain".into(),
            body: Vec::new().into(),
        }))
    }

    /// A site whose rules answer with their place among `patterns`, from 200, and that itself answers 299.
    fn site(patterns: &[&str]) -> Site {
        let mut paths: Vec<PathRule> = patterns
            .iter()
            .zip(200..)
            .map(|(text, status)| PathRule {
                line: 1,
                pattern: PathPattern::parse(text).expect(text),
                strip: true,
                action: respond(status),
                allow: None,
            })
            .collect();
        paths.sort_by(|a, b| a.pattern.order(&b.pattern));
        Site {
            name: SiteName::new("a"),
            number: 0,
            version: 0,
            slots: Default::default(),
            waiting: Default::default(),
            before: None,
            balancing: Default::default(),
            retry: Default::default(),
            claims: Box::new([]),
            action: respond(299),
            allow: None,
            paths: paths.into(),
            send_host: Default::default(),
            send_proxy: None,
            health: Default::default(),
            headers: Default::default(),
            limits: Default::default(),
            timeouts: Default::default(),
            drain: Default::default(),
            tls: Default::default(),
            #[cfg(feature = "serve")]
            access_log: Default::default(),
            note: None,
        }
    }

    fn status(place: &Place<'_>) -> u16 {
        match place.action {
            Action::Respond(respond) => respond.status,
            other => panic!("{other:?}"),
        }
    }

    fn place(site: &Site, path: &str) -> Result<(u16, usize), PathRefusal> {
        site.place(path.as_bytes())
            .map(|place| (status(&place), place.strip))
    }

    #[test]
    fn exact_comes_before_the_longest_prefix_before_the_site() {
        let site = site(&["/api", "/api/v2/", "=/api/v2/health", "=/"]);
        assert_eq!(place(&site, "/api"), Ok((200, 4)));
        assert_eq!(place(&site, "/api/"), Ok((200, 4)));
        assert_eq!(place(&site, "/api/v2x"), Ok((200, 4)));
        assert_eq!(place(&site, "/api/v2/x"), Ok((201, 7)));
        assert_eq!(place(&site, "/api/v2/health"), Ok((202, 14)));
        assert_eq!(place(&site, "/api/v2/health/x"), Ok((201, 7)));
        assert_eq!(place(&site, "/"), Ok((203, 1)));
        assert_eq!(place(&site, "/apix"), Ok((299, 0)));
        assert_eq!(place(&site, "*"), Ok((203, 0)));
        assert_eq!(place(&site, "//api"), Ok((299, 0)));
    }

    #[test]
    fn only_encoded_unreserved_characters_are_decoded_and_strip_counts_what_was_sent() {
        let site = site(&["/%61pi", "/b%c3%bc", "/a%2Fb", "/ü x"]);
        assert_eq!(place(&site, "/api/x"), Ok((200, 4)));
        assert_eq!(place(&site, "/%61%70i/x"), Ok((200, 8)));
        assert_eq!(place(&site, "/b%C3%Bc/x"), Ok((201, 8)));
        assert_eq!(place(&site, "/a%2fb"), Ok((202, 6)));
        assert_eq!(place(&site, "/a/b"), Ok((299, 0)));
        assert_eq!(place(&site, "/api%2fx"), Ok((299, 0)));
        assert_eq!(place(&site, "/%C3%BC%20x"), Ok((203, 11)));
        assert_eq!(place(&site, "/%zz%6"), Ok((299, 0)));
    }

    #[test]
    fn dot_segments_and_backslashes_are_ambiguous_where_paths_decide() {
        let rules = site(&["/api"]);
        let plain = site(&[]);
        for path in [
            "/..",
            "/.",
            "/a/../b",
            "/a/./b",
            "/a/%2e%2E/b",
            "/a/.%2e",
            "/a\\b",
            "/a%5cb",
            "/a%5Cb",
            "/..;x/a",
            "..",
        ] {
            assert_eq!(place(&rules, path), Err(PathRefusal::Ambiguous), "{path}");
            assert_eq!(place(&plain, path), Ok((299, 0)), "{path}");
        }
        for path in [
            "/...",
            "/.well-known/x",
            "/a.b/",
            "/a..",
            "/..a",
            "//",
            "/a%2fb",
            "/a;b=..",
            "/%",
        ] {
            assert!(place(&rules, path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_inherits_action_and_allow_and_replaces_both() {
        let mut site = site(&["/admin", "/open"]);
        let net = |text: &str| Some(Allow(Box::new([text.parse().expect(text)])));
        site.allow = net("10.0.0.0/8");
        site.paths[0].action = None;
        site.paths[0].allow = net("10.1.0.0/16");
        let admin = site.place(b"/admin/x").expect("place");
        assert_eq!(
            (status(&admin), admin.allow),
            (299, net("10.1.0.0/16").as_ref())
        );
        assert_eq!(
            site.place(b"/open").expect("place").allow,
            site.allow.as_ref()
        );
        site.action = None;
        assert_eq!(site.place(b"/admin").map(|_| ()), Err(PathRefusal::NoPath));
        assert_eq!(site.place(b"/").map(|_| ()), Err(PathRefusal::NoPath));
    }

    #[test]
    fn patterns_that_could_never_match_are_refused() {
        use PatternError::*;
        for (text, error) in [
            ("", NoSlash),
            ("api", NoSlash),
            ("=api", NoSlash),
            ("/api/*", Star("/api".into())),
            ("/*", Star("/".into())),
            ("/a?b", Query),
            ("/a#b", Query),
            ("/a\nb", Control),
            ("/a/../b", Dots),
            ("/%2e", Dots),
            ("/a\\b", Dots),
        ] {
            assert_eq!(PathPattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(PathPattern::parse("/api//"), PathPattern::parse("/api"));
        assert_eq!(PathPattern::parse("/"), Ok(PathPattern::Prefix("/".into())));
        assert_eq!(
            PathPattern::parse("=/a/").map(|p| p.to_string()),
            Ok("=/a/".to_owned())
        );
    }

    #[test]
    fn names_of_redirect_from_are_redirected_and_hosts_are_not() {
        let claim = |text: &str, role| {
            let pattern = HostPattern::parse(text).expect(text);
            Claim {
                pattern,
                role,
                line: 1,
                column: 1,
            }
        };
        let mut site = site(&[]);
        site.claims = Box::new([claim("www.a.test", ClaimRole::Serve)]);
        assert!(!site.redirects("www.a.test"));
        site.claims = Box::new([
            claim("www.a.test", ClaimRole::Serve),
            claim("a.test", ClaimRole::RedirectToFirst),
            claim("*.a.test", ClaimRole::RedirectToFirst),
        ]);
        assert!(!site.redirects("www.a.test"));
        assert!(site.redirects("a.test"));
        assert!(site.redirects("b.a.test"));
    }

    proptest! {
        #[test]
        fn encoding_unreserved_characters_never_changes_the_place(
            path in "(/[a-z0-9._~-]{0,3}){1,4}", mask: u32,
        ) {
            let site = site(&["/a", "/a/b", "=/a/b/c", "/b.c"]);
            let encoded: String = path.chars().enumerate().map(|(at, c)| {
                if c != '/' && mask >> (at % 32) & 1 == 1 { format!("%{:02x}", c as u32) } else { c.to_string() }
            }).collect();
            prop_assert_eq!(place(&site, &path).map(|p| p.0), place(&site, &encoded).map(|p| p.0));
        }

        #[test]
        fn what_strip_leaves_is_empty_or_starts_at_a_segment(path in "(/[a%261.-]{0,4}){1,4}") {
            let site = site(&["/a", "/a/a", "/%2f"]);
            if let Ok((_, strip)) = place(&site, &path) {
                prop_assert!(path.len() == strip || path.as_bytes()[strip] == b'/');
            }
        }

        #[test]
        fn any_path_has_an_answer(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let _answered = site(&["/a", "=/"]).place(&path).is_ok();
        }
    }
}
