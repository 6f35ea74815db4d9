//! What is answered to each question.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::answer::{self, Answer};
use super::question::{Question, Refusal};
use super::{About, Again, Powers, metrics};
use crate::http::explain::{self, Scene};
use crate::reload::{Reload, Waited, history};
use crate::site::{SiteName, directory};

const PLAIN: &str = "text/plain; charset=utf-8";

/// What is answered to `question`.
pub(super) async fn reply(question: Question, powers: &Powers) -> Answer {
    let Powers { reload, about, .. } = powers;
    match question {
        Question::Status => answer::status(about),
        Question::Counters => answer::counters(about),
        Question::Metrics => {
            let (reload, about) = (reload.clone(), Arc::clone(about));
            let text = powers.lists.metrics.ask(|| async move {
                let gauges = reload.gauges().await;
                // Not on the thread that follows the files.
                let text = spawn_blocking(move || metrics::text(&about, gauges));
                text.await.unwrap_or_default().into_bytes()
            });
            answer::shared(metrics::CONTENT_TYPE, text.await)
        }
        Question::Page => answer::page(),
        Question::Events => answer::events(&about.events),
        Question::Health => answer::text(200, PLAIN, "ok\n".to_owned()),
        Question::Ready => match about.draining.load(Ordering::Relaxed) {
            false => answer::text(200, PLAIN, "ready\n".to_owned()),
            true => answer::text(503, PLAIN, "draining\n".to_owned()),
        },
        Question::Sites => {
            let reload = reload.clone();
            let list = powers.lists.sites.ask(|| async move {
                let overview = reload.list().await;
                let list = spawn_blocking(move || answer::sites(overview));
                list.await.unwrap_or_default()
            });
            answer::shared(answer::JSON, list.await)
        }
        Question::History { name, whole } => {
            // What has just gone live is written behind the publisher's back.
            reload.flush().await;
            history(name, whole, powers).await
        }
        Question::Gone { name, now } => match reload.gone(SiteName::new(name), now).await {
            true => answer::gone(),
            false => answer::refused(Refusal::NotDone("its file is still there".into())),
        },
        Question::Drain { wait: true } => {
            let mut ended = about.ended.subscribe();
            about.drain.notify_one();
            // Whoever would say so is there as long as we are.
            let cut = ended.wait_for(Option::is_some).await;
            answer::drained(cut.ok().and_then(|cut| *cut).unwrap_or_default())
        }
        Question::Drain { wait: false } => {
            about.drain.notify_one();
            answer::draining(about.shared().limits.drain_time, answer::open(about))
        }
        Question::Explain(question) => explain(&question, reload, about).await,
        Question::Reload { accept_removals } => {
            let (reply, reloaded) = oneshot::channel();
            let again = Again {
                accept_removals,
                reply,
            };
            // One that is about to end reads nothing any more.
            drop(powers.again.send(again));
            answer::reloaded(&reloaded.await.unwrap_or_default())
        }
        Question::Wait { name, until, time } => {
            let waited = reload.wait(name, until, time).await;
            // What serves for a few seconds more is no deployment.
            let is_draining = about.draining.load(Ordering::Relaxed);
            match waited {
                Waited::Serving if is_draining => answer::waited(&Waited::Draining),
                waited => answer::waited(&waited),
            }
        }
    }
}

async fn history(name: String, whole: bool, powers: &Powers) -> Answer {
    let about = &powers.about;
    let (state, site) = (about.state.clone(), SiteName::new(name.as_str()));
    // Given back when they have been read, also where whoever asked has gone meanwhile. It is never closed.
    let place = Arc::clone(&powers.lists.histories.0).acquire_owned().await;
    let read = spawn_blocking(move || {
        let versions = history::versions(&state, &site);
        drop(place);
        versions
    });
    let (versions, has_present) = read.await.unwrap_or_default();
    let file = directory::path_of(&about.sites, &SiteName::new(name.as_str()));
    answer::history((&name, &file), &versions, has_present, whole)
}

/// By the table in force, and the files that would like to be in it.
async fn explain(question: &explain::Question, reload: &Reload, about: &About) -> Answer {
    let host = match explain::host_of(question) {
        Ok(host) => host,
        Err(what) => return answer::refused(Refusal::BadParameter(what)),
    };
    let table = about.current.snapshot();
    let winner = table.find(&host).map(|site| site.name.clone());
    let contest = reload.contest(&host, winner).await;
    let scene = Scene {
        table: &table,
        shared: about.shared(),
        listening: &about.listening,
        offline: false,
    };
    match explain::explain(question, scene, &contest) {
        Ok(explanation) => answer::explained(&explanation),
        Err(what) => answer::refused(Refusal::BadParameter(what)),
    }
}
