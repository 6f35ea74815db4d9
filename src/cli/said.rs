//! What a command that does something says: lines for people as it goes, or one object for programs at its end.

use std::fmt::Display;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::print;

pub(super) struct Said {
    /// `None`: it is for people.
    object: Option<Map<String, Value>>,
}

impl Said {
    pub(super) fn to(json: bool) -> Said {
        Said {
            object: json.then(Map::new),
        }
    }

    pub(super) fn is_for_programs(&self) -> bool {
        self.object.is_some()
    }

    /// For people, at once.
    pub(super) fn line(&self, line: impl Display) {
        if !self.is_for_programs() {
            print(&format!("{line}\n"));
        }
    }

    /// For programs, at the end.
    pub(super) fn fact(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(object) = &mut self.object {
            object.insert(key.to_owned(), value.into());
        }
    }

    /// The same of everything that the daemon answered.
    pub(super) fn answer(&mut self, answer: &Value) {
        if let (Some(object), Some(answer)) = (&mut self.object, answer.as_object()) {
            object.extend(answer.clone());
        }
    }

    /// What there is to say is said.
    pub(super) fn end(self, code: ExitCode) -> ExitCode {
        if let Some(object) = self.object.filter(|object| !object.is_empty()) {
            print(&format!("{:#}\n", Value::from(object)));
        }
        code
    }
}
