//! The names a site file claims: `host`, `redirect_from`, or the name of the file itself.

use std::collections::HashMap;

use super::SiteFile;
use crate::document::{Span, Table};
use crate::limits::SITE_HOSTS;
use crate::site::hostname::{HostPattern, Hostname};
use crate::site::{Claim, ClaimRole};

impl<'t> SiteFile<'_, 't> {
    pub(super) fn claims(&mut self, table: &Table<'t>) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut lines = HashMap::new();
        match self.reader.texts(table, "host") {
            Some(hosts) => {
                if hosts.is_empty()
                    && let Some(value) = table.get("host")
                {
                    self.reader.error(
                        value.span(),
                        "\"host\" is an empty list, so nobody could ask for this site",
                    );
                }
                let hosts = self.at_most_hosts(hosts, 0);
                for (text, span) in hosts {
                    self.claim(&mut claims, &mut lines, text, span, ClaimRole::Serve);
                }
            }
            // Of the wrong shape, and said so.
            None if table.contains_key("host") => {}
            None => {
                claims.extend(self.claim_by_file_name());
                lines.extend(
                    claims
                        .iter()
                        .map(|claim: &Claim| (claim.pattern.clone(), claim.line)),
                );
            }
        }
        let from = self
            .reader
            .texts(table, "redirect_from")
            .unwrap_or_default();
        if let Some((_, span)) = from.first()
            && let Some(first) = claims.first()
            && !matches!(first.pattern, HostPattern::Exact(_))
        {
            let first = first.pattern.to_string();
            self.reader.error(
                span.clone(),
                format!("\"redirect_from\" sends clients to the first host, and {first:?} is not one name"),
            );
        }
        let from = self.at_most_hosts(from, claims.len());
        for (text, span) in from {
            self.claim(
                &mut claims,
                &mut lines,
                text,
                span,
                ClaimRole::RedirectToFirst,
            );
        }
        claims
    }

    fn at_most_hosts<'a>(
        &mut self,
        hosts: Vec<(&'a str, Span)>,
        before: usize,
    ) -> Vec<(&'a str, Span)> {
        (self.reader).at_most(hosts, before, (SITE_HOSTS, "hosts"), |(_, span)| {
            span.clone()
        })
    }

    fn claim_by_file_name(&mut self) -> Option<Claim> {
        let stem = self.name.as_str().rsplit('/').next().unwrap_or_default();
        // A name without a dot ("shop") is more likely no host at all than one of the local network.
        let named = Hostname::parse(stem).ok().filter(|_| stem.contains('.'));
        if named.is_none() {
            let help = "write host = \"shop.example.com\", or give the file that name with .toml behind it";
            self.reader.missing(0..0, "the site has no \"host\"", help);
        }
        named.map(|name| Claim {
            pattern: HostPattern::Exact(name),
            role: ClaimRole::Serve,
            line: 1,
            column: 1,
        })
    }

    /// `lines` has the line in which each pattern was claimed first.
    fn claim(
        &mut self,
        claims: &mut Vec<Claim>,
        lines: &mut HashMap<HostPattern, u32>,
        text: &str,
        span: Span,
        role: ClaimRole,
    ) {
        let pattern = match HostPattern::parse(text) {
            Ok(pattern) => pattern,
            Err(error) => {
                let message = format!("{text:?}: {error}");
                let help = HostPattern::meant_by(text).map(|name| format!("write \"{name}\""));
                return self.reader.error_with_help(span, message, help);
            }
        };
        if pattern == HostPattern::Any && !self.may_claim_any(&span, role) {
            return;
        }
        let (line, column) = self.reader.place_of(span.start);
        if let Some(first) = lines.get(&pattern) {
            let message = format!("\"{pattern}\" is claimed twice, first in line {first}");
            return self.reader.error(span, message);
        }
        lines.insert(pattern.clone(), line);
        claims.push(Claim {
            pattern,
            role,
            line,
            column,
        });
    }

    fn may_claim_any(&mut self, span: &Span, role: ClaimRole) -> bool {
        let message = match &self.rules.catch_all {
            _ if role == ClaimRole::RedirectToFirst => {
                "\"*\" cannot stand in redirect_from".to_owned()
            }
            Some(named) if named == self.name => return true,
            Some(named) => format!(
                "\"*\" may only be claimed by the site \"{named}\", as catch_all in onedoor.toml says"
            ),
            None => format!("\"*\" needs catch_all = \"{}\" in onedoor.toml", self.name),
        };
        self.reader.error(span.clone(), message);
        false
    }
}
