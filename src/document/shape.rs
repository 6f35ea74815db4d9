//! Whether a value has the shape that its key asks for, and what was meant where it has not.

use toml::de::DeValue;

use super::keys::{self, Kind, Place};
use super::{Table, Value};

/// The value itself, or what is in the list.
pub fn one_or_more<'a, 't>(value: &'a Value<'t>) -> impl Iterator<Item = &'a Value<'t>> {
    let list = value.get_ref().as_array().map(|list| list.iter());
    let alone = list.is_none().then_some(value);
    list.into_iter().flatten().chain(alone)
}

/// An integer of any radix.
pub fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    // What does not fit is out of every range we have.
    Some(i64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i64::MAX))
}

pub(super) fn fits(kind: Kind, value: &DeValue<'_>) -> bool {
    let all = |fits: fn(&DeValue<'_>) -> bool| match value.as_array() {
        Some(list) => list.iter().all(|value| fits(value.get_ref())),
        None => fits(value),
    };
    match kind {
        Kind::Text
        | Kind::Duration
        | Kind::DurationOrOff
        | Kind::Size
        | Kind::SizeOrOff
        | Kind::RateOrOff => value.is_str(),
        Kind::Texts => all(|value| value.is_str()),
        Kind::Flag => value.is_bool(),
        Kind::Count => value.is_integer(),
        Kind::Table(_) | Kind::Fields => value.is_table(),
        Kind::Tables(_) => value
            .as_array()
            .is_some_and(|list| list.iter().all(|value| value.get_ref().is_table())),
        Kind::TextOrTable(_) => value.is_str() || value.is_table(),
        Kind::FlagOrTable(_) => value.is_bool() || value.is_str() || value.is_table(),
        Kind::TextsOrTable(_) => value.is_table() || all(|value| value.is_str()),
        Kind::TextNumberOrTable(_) => value.is_str() || value.is_integer() || value.is_table(),
        Kind::Address => value.is_integer() || value.is_str(),
        Kind::Backends => all(|value| value.is_integer() || value.is_str() || value.is_table()),
        Kind::Listeners | Kind::Statuses => all(|value| value.is_integer() || value.is_str()),
        Kind::Anything => true,
    }
}

/// The tables inside a value, each with the place whose keys it has.
pub(super) fn tables_in<'a, 't>(kind: Kind, value: &'a DeValue<'t>) -> Vec<(&'a Table<'t>, Place)> {
    let place = match kind {
        Kind::Table(place)
        | Kind::Tables(place)
        | Kind::TextOrTable(place)
        | Kind::FlagOrTable(place)
        | Kind::TextsOrTable(place)
        | Kind::TextNumberOrTable(place) => place,
        Kind::Backends => Place::Backend,
        _ => return Vec::new(),
    };
    match value {
        DeValue::Table(table) => vec![(table, place)],
        DeValue::Array(list) => list
            .iter()
            .filter_map(|value| Some((value.get_ref().as_table()?, place)))
            .collect(),
        _ => Vec::new(),
    }
}

pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(list) if list.iter().any(|value| value.get_ref().is_array()) => {
            "a list of lists"
        }
        DeValue::Array(_) => "a list of something else",
        DeValue::Table(_) => "a table",
    }
}

/// What the operator probably meant by a value of the wrong kind.
pub(super) fn kind_help(key: &keys::Key, value: &DeValue<'_>) -> Option<String> {
    let number = integer(value);
    match (key.kind, number) {
        (Kind::Duration | Kind::DurationOrOff, Some(number)) => {
            Some(format!("write {} = \"{number}s\"", key.name))
        }
        (Kind::Size | Kind::SizeOrOff, Some(number)) => {
            Some(format!("write {} = \"{number}b\"", key.name))
        }
        (Kind::RateOrOff, Some(number)) => Some(format!("write {} = \"{number}b/s\"", key.name)),
        // Whoever writes a flag there knows another program.
        (Kind::Text, _) if key.name == "verify" => {
            Some("write verify = \"off\", or leave it out".to_owned())
        }
        (Kind::Text, Some(number)) if key.default.ends_with("%\"") => {
            Some(format!("write {} = \"{number}%\"", key.name))
        }
        (Kind::Text | Kind::Texts, Some(number)) => {
            Some(format!("write {} = \"{number}\"", key.name))
        }
        (Kind::Tables(_), _) => Some(format!("write [[{}]]", key.name)),
        _ => None,
    }
}
