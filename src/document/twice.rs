//! A key that a file has as a value and as a table, `tls = "local"` above `[tls]`: TOML says that it is there twice, and not
//! where the value belongs.

use toml::de::{DeTable, DeValue};

use super::Span;
use super::keys::{KEYS, Kind, Place};

/// A longer value is not said again.
const LONGEST: usize = 80;

/// What to write instead, where the key at `span` of `text` is there once more.
pub(super) fn instead(text: &str, span: &Span) -> Option<String> {
    let name = text.get(span.clone())?;
    let place = tables_of(name)?;
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let own = text.get(start..)?.lines().next()?;
    let header = text.get(start..span.end)?.trim_start().strip_prefix('[');
    let lines = text.get(..start)?.lines().enumerate();
    let lines: Vec<(usize, &str)> = lines.map(|(at, line)| (at + 1, line)).collect();
    let above = lines.iter().rev().copied();
    let of_this_table = (above.clone()).take_while(|(_, line)| !line.trim_start().starts_with('['));
    let find = |(at, line)| Some((at, value_in(line, name)?));
    let (line, (value, parsed)) = match (header, value_in(own, name)) {
        (Some(_), _) => above.clone().find_map(find)?,
        (None, None) => of_this_table.clone().find_map(find)?,
        // The table came first, one dotted key at a time.
        (None, Some(value)) => {
            let is_dotted = |(_, line): (usize, &str)| {
                let rest = line.trim_start().strip_prefix(name);
                rest.is_some_and(|rest| rest.trim_start().starts_with('.'))
            };
            of_this_table.clone().any(is_dotted).then_some(())?;
            (lines.len() + 1, value)
        }
    };
    let key = long_form(place, &parsed)?;
    let long = match header {
        Some(header) => format!("{key} = {value} in [{header}]"),
        None => format!("{name}.{key} = {value}"),
    };
    (value.len() <= LONGEST)
        .then(|| format!("write {long}, instead of {name} = {value} in line {line}"))
}

/// Whose keys a table of this name has, where a value may stand for the table.
fn tables_of(name: &str) -> Option<Place> {
    let mut keys = KEYS.iter().filter(|key| key.name == name);
    keys.find_map(|key| match key.kind {
        Kind::TextOrTable(place) | Kind::TextsOrTable(place) | Kind::TextNumberOrTable(place) => {
            Some(place)
        }
        _ => None,
    })
}

/// What `name` is set to in a line, as it is written there and as it is read.
fn value_in<'l>(line: &'l str, name: &str) -> Option<(&'l str, DeValue<'l>)> {
    let rest = line.trim_start().strip_prefix(name)?;
    rest.trim_start().strip_prefix('=')?;
    let value = DeTable::parse(line).ok()?.into_inner().remove(name)?;
    Some((line.get(value.span())?, value.into_inner()))
}

/// The key of the table that says the same as the value.
fn long_form(place: Place, value: &DeValue<'_>) -> Option<&'static str> {
    match (place, value) {
        (Place::Tls, DeValue::String(_)) => Some("mode"),
        (Place::Redirect, DeValue::String(_)) => Some("to"),
        (Place::Respond, DeValue::String(_)) => Some("body"),
        (Place::Respond, DeValue::Integer(_)) => Some("status"),
        (Place::Drain, DeValue::String(_)) => Some("remove"),
        (Place::ProxyProtocol, DeValue::String(_) | DeValue::Array(_)) => Some("from"),
        _ => None,
    }
}
