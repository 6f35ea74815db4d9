//! Several backends behind one site: which one a request goes to, and what happens while none takes it.

mod balance;
mod edits;
mod faults;
mod hold;
mod max;
mod processes;
mod retry;
mod sticky;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Backend, Plan, Proxy, until};

/// One worker, and this site for `app.test`.
fn plan(text: impl AsRef<str>) -> Plan {
    let text = format!("host = 'app.test'\n{}", text.as_ref());
    Proxy::plan().flag("--workers=1").site("app.toml", text)
}

/// How often each of `texts` was the answer to `count` requests.
fn answers<const N: usize>(proxy: &Proxy, count: usize, texts: [&str; N]) -> [usize; N] {
    let mut counts = [0; N];
    let mut client = proxy.client();
    for _ in 0..count {
        let answer = client.get("app.test", "/");
        let text = answer.text();
        let at = texts.iter().position(|known| *known == text);
        counts[at.unwrap_or_else(|| panic!("{} {text:?}", answer.said()))] += 1;
    }
    counts
}

/// An app that answers only when it is told to, and how many requests it has at once at most.
struct Gate {
    app: Backend,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gate {
    fn new(text: &str) -> Gate {
        let text = text.to_owned();
        let open = Arc::new(AtomicUsize::new(0));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (allowed, seen) = (open.clone(), most.clone());
        let app = Backend::doing(move |conversation| {
            while conversation.request().is_some() {
                let busy = now.fetch_add(1, Ordering::SeqCst) + 1;
                seen.fetch_max(busy, Ordering::SeqCst);
                until("the app may answer", || {
                    let free = |open: usize| open.checked_sub(1);
                    let order = Ordering::SeqCst;
                    allowed.fetch_update(order, order, free).is_ok()
                });
                now.fetch_sub(1, Ordering::SeqCst);
                conversation.answer(&text);
            }
        });
        Gate { app, open, most }
    }

    /// So many more requests are answered.
    fn let_answer(&self, count: usize) {
        self.open.fetch_add(count, Ordering::SeqCst);
    }
}

/// GETs that are on their way, each from a client of its own; joined for what they were told.
fn under_way(proxy: &Proxy, count: usize) -> Vec<thread::JoinHandle<String>> {
    let address = proxy.address();
    let get = move |number: usize| {
        let mut client = crate::harness::Client::connect(address);
        let answer = client.get("app.test", &format!("/{number}"));
        match answer.status {
            200 => answer.text(),
            _ => answer.said(),
        }
    };
    let each = (0..count).map(|number| thread::spawn(move || get(number)));
    each.collect()
}
