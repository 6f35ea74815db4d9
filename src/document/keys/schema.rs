//! The JSON schema of both files, for editors: completion, the words of the reference, and most errors while typing.
//!
//! Draft 7, which editors' TOML extensions read. What only `check` can know (names claimed twice, files that are not
//! there) is not in it.

use serde_json::{Map, Value, json};

use super::{KEYS, Key, Kind, Place, Status};

/// Which file a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Site,
    Daemon,
}

/// The schema of a site file or of onedoor.toml.
pub fn schema(file: File) -> Value {
    let (title, top, places) = match file {
        File::Site => ("A site file of onedoor", Place::Site, &Place::SITE[..]),
        File::Daemon => ("onedoor.toml", Place::Daemon, &Place::DAEMON[..]),
    };
    let mut definitions = Map::new();
    // [defaults] has tables of site files.
    let all = places.iter().chain(&Place::SITE);
    for &place in all.filter(|place| **place != top) {
        definitions.insert(name_of(place), table(place));
    }
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
    });
    if let (Some(schema), Value::Object(table)) = (schema.as_object_mut(), table(top)) {
        schema.extend(table);
        schema.insert("definitions".to_owned(), definitions.into());
    }
    schema
}

fn table(place: Place) -> Value {
    let keys = KEYS
        .iter()
        .filter(|key| key.place == place && key.status == Status::Built);
    let properties: Map<String, Value> = keys
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut text = key.about.replace('`', "");
    if !key.default.is_empty() {
        text.push_str(&format!(" (default: {})", key.default.replace('`', "")));
    }
    if !key.reason.is_empty() {
        text.push_str(&format!("; {}", key.reason));
    }
    let mut property = value_of(key.kind);
    if let Some(property) = property.as_object_mut() {
        property.insert("description".to_owned(), text.into());
    }
    property
}

fn value_of(kind: Kind) -> Value {
    let text = || json!({ "type": "string" });
    let port = || json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let texts = || json!({ "type": "array", "items": text() });
    let table = |place: Place| json!({ "$ref": format!("#/definitions/{}", name_of(place)) });
    let duration = r"^\s*[0-9]+ *([mM][sS]|[sS]|[mM]|[mM][iI][nN]|[hH]|[dD])\s*$";
    let size = r"^\s*[0-9]+ *([bB]|[kKmMgGtT]([iI]?[bB])?)\s*$";
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let or_off = |pattern: &str| json!({ "type": "string", "pattern": format!("{pattern}|^off$") });
    match kind {
        Kind::Text => text(),
        Kind::Texts => json!({ "anyOf": [text(), texts()] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Address => json!({ "anyOf": [port(), text()] }),
        Kind::Statuses => {
            let one = json!([{ "type": "integer", "minimum": 100, "maximum": 599 }, text()]);
            json!({ "anyOf": [one[0], one[1], { "type": "array", "items": { "anyOf": one } }] })
        }
        Kind::Count => json!({ "type": "integer", "minimum": 0 }),
        Kind::Duration => pattern(duration),
        Kind::DurationOrOff => or_off(duration),
        Kind::Size => pattern(size),
        Kind::SizeOrOff => or_off(size),
        Kind::RateOrOff => json!({ "type": "string", "pattern": "/s *$|^off$" }),
        // A reference beside other words counts alone in draft 7.
        Kind::Table(place) => json!({ "allOf": [table(place)] }),
        Kind::Tables(place) => json!({ "type": "array", "items": table(place) }),
        Kind::FlagOrTable(place) => json!({
            "anyOf": [{ "type": "boolean" }, text(), table(place)]
        }),
        Kind::TextOrTable(place) => json!({ "anyOf": [text(), table(place)] }),
        Kind::TextsOrTable(place) => json!({ "anyOf": [text(), texts(), table(place)] }),
        Kind::TextNumberOrTable(place) => json!({
            "anyOf": [text(), { "type": "integer" }, table(place)]
        }),
        Kind::Backends => {
            let one = json!([port(), text(), table(Place::Backend)]);
            json!({ "anyOf": [port(), text(), table(Place::Backend), { "type": "array", "items": { "anyOf": one } }] })
        }
        Kind::Listeners => {
            let one = json!([{ "type": "integer", "minimum": 0, "maximum": 65535 }, text()]);
            json!({ "anyOf": [one[0], one[1], { "type": "array", "items": { "anyOf": one } }] })
        }
        Kind::Fields => {
            let file = json!({
                "type": "object",
                "properties": { "file": text() },
                "required": ["file"],
                "additionalProperties": false,
            });
            let one = json!([text(), file]);
            json!({
                "type": "object",
                "additionalProperties": { "anyOf": [one[0], one[1], { "type": "array", "items": { "anyOf": one } }] },
            })
        }
        Kind::Anything => json!({}),
    }
}

fn name_of(place: Place) -> String {
    format!("{place:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_is_built_is_described_and_no_other() {
        for file in [File::Site, File::Daemon] {
            let schema = schema(file);
            let top = match file {
                File::Site => Place::Site,
                File::Daemon => Place::Daemon,
            };
            for key in KEYS.iter().filter(|key| key.place == top) {
                let property = &schema["properties"][key.name];
                assert_eq!(property.is_object(), key.status == Status::Built, "{key:?}");
            }
        }
    }

    /// A reference that leads nowhere makes editors give up.
    #[test]
    fn every_reference_leads_somewhere() {
        for file in [File::Site, File::Daemon] {
            let schema = schema(file);
            let text = schema.to_string();
            for part in text.split("#/definitions/").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                assert!(schema["definitions"][name].is_object(), "{name}");
            }
        }
    }
}
