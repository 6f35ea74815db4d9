//! `[[path]]`: the rules that refine a site, in matching order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::action::has_action;
use super::{SiteFile, read_allow};
use crate::document::{Span, Table, Value};
use crate::limits::SITE_PATHS;
use crate::site::path::PathPattern;
use crate::site::{Action, PathRule};

impl<'t> SiteFile<'_, 't> {
    /// In matching order.
    pub(super) fn paths(&mut self, table: &Table<'t>) -> Vec<PathRule> {
        let entries = table
            .get("path")
            .and_then(|value| value.get_ref().as_array());
        let mut rules: Vec<PathRule> = Vec::new();
        let mut lines = HashMap::new();
        let entries: Vec<&Value<'t>> = entries.into_iter().flatten().collect();
        let most = (SITE_PATHS, "[[path]]");
        let entries = (self.reader).at_most(entries, 0, most, |entry| entry.span());
        for entry in entries {
            let Some(path) = entry.get_ref().as_table() else {
                continue;
            };
            let Some((rule, span)) = self.path(path, entry.span()) else {
                continue;
            };
            let line = rule.line;
            match lines.entry(rule.pattern.clone()) {
                Entry::Occupied(first) => {
                    let message = format!(
                        "the path \"{}\" is already in line {}",
                        rule.pattern,
                        first.get()
                    );
                    self.reader.error(span, message);
                    continue;
                }
                Entry::Vacant(free) => free.insert(line),
            };
            if rule.action.is_none() && !has_action(path) && !has_action(table) {
                let message = format!(
                    "nothing answers for \"{}\": neither the path nor the site says what",
                    rule.pattern
                );
                self.reader.missing(
                    span.clone(),
                    message,
                    "write to, redirect or respond below it",
                );
            }
            rules.push(rule);
        }
        rules.sort_by(|a, b| a.pattern.order(&b.pattern));
        rules
    }

    /// A rule and the place of its `match`.
    fn path(&mut self, table: &Table<'t>, entry: Span) -> Option<(PathRule, Span)> {
        let action = self.action(table);
        let allow = read_allow(&mut self.reader, table);
        let Some((text, span)) = self.reader.text(table, "match") else {
            if !table.contains_key("match") {
                self.reader.missing(
                    entry,
                    "the [[path]] has no \"match\"",
                    "write match = \"/api\"",
                );
            }
            return None;
        };
        let pattern = PathPattern::parse(text);
        let pattern = pattern
            .map_err(|error| {
                self.reader
                    .error(span.clone(), format!("{text:?}: {error}"))
            })
            .ok()?;
        let strip = self.reader.flag(table, "strip").unwrap_or(false);
        if strip
            && let Some(value) = table.get("strip")
            && matches!(action, Some(Action::Redirect(_) | Action::Respond(_)))
        {
            let message = "\"strip\" has no effect where nothing is forwarded";
            self.reader.warning(value.span(), message);
        }
        Some((
            PathRule {
                line: self.reader.line_of(&span),
                pattern,
                strip,
                action,
                allow,
            },
            span,
        ))
    }
}
