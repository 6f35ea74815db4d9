//! What is wrong with a backend, or may be, in one line: found by its check, by whoever looks its name up, and by requests.

use std::time::SystemTime;

use super::status::minute;
use crate::site::Member;
use crate::site::fitness::{Against, Fitness};
use crate::site::trouble::Found;

/// As `ls`, `wait`, `explain` and the page have it. `None`: nothing is, as far as is known.
pub(crate) fn wrong_with(member: &Member) -> Option<String> {
    let state = &member.state;
    let found = state.finding().map(String::from);
    let connects = state.endpoint.trouble.read();
    // Its check may have found the same.
    let connects = connects.filter(|trouble| {
        let is_same = |found: &String| found.contains(&*trouble.why);
        !found.as_ref().is_some_and(is_same)
    });
    let has_failed = |fitness: &Fitness| fitness.has(Against::Failures);
    // Where nobody accepts, or that took it out, what it did with requests before is the lesser news.
    let unanswered = state.unanswered.read();
    let unanswered = unanswered.filter(|_| connects.is_none() && !has_failed(&state.fitness));
    let requests = connects.or(unanswered).map(|trouble| {
        let (since, last) = times(&trouble);
        format!("{} (since {since}, tried last at {last})", trouble.why)
    });
    let all: Vec<String> = requests.into_iter().chain(found).collect();
    if !all.is_empty() {
        return Some(all.join("; "));
    }
    match state.trouble.read() {
        Some(trouble) if has_failed(&state.fitness) => {
            let (since, _) = times(&trouble);
            Some(format!(
                "out since {since}: {}; it is tried again soon",
                trouble.why
            ))
        }
        _ => [&state.fitness, &state.endpoint.fitness]
            .into_iter()
            .any(has_failed)
            .then(|| "requests failed there, it is tried again soon".to_owned()),
    }
}

/// In minutes: what changes each second is read by nobody, and the page draws anew what has changed.
fn times(trouble: &Found) -> (String, String) {
    let now = SystemTime::now();
    (minute(trouble.since, now), minute(trouble.last, now))
}
