//! A thousand checks are spread over time.

use super::*;

#[test]
fn a_thousand_checks_are_asked_over_their_whole_interval_and_not_in_bursts() {
    let times: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let all = times.clone();
    let app = Backend::doing(move |conversation| {
        if conversation.request().is_some() {
            all.lock().unwrap().push(Instant::now());
            conversation.answer("fine");
        }
    });
    let mut plan = Proxy::plan().flag("--workers=1");
    for number in 0..1000 {
        let site = format!(
            "host = 's{number}.test'\nto = {}\n[health]\npath = '/{number}'\nevery = '4s'\ntimeout = '4s'\n",
            app.port
        );
        plan = plan.site(&format!("s{number}.toml"), site);
    }
    let proxy = plan.start();
    until("two rounds are over", || times.lock().unwrap().len() > 2100);
    let times = times.lock().unwrap();
    let since = |n: usize| times[n] - times[0];
    // A round takes as long as the interval: a burst would be over long before.
    assert!(since(999) > Duration::from_millis(2500), "{:?}", since(999));
    assert!(
        since(1999) > Duration::from_millis(5500),
        "{:?}",
        since(1999)
    );
    // Of 250 in a second. A busy machine holds some back, and then many come at once; bursts would be the rule.
    let second = Duration::from_secs(1);
    let in_a_second = |from: usize| {
        times[from..]
            .iter()
            .take_while(|at| **at < times[from] + second)
            .count()
    };
    let mut counts: Vec<usize> = (0..2000).map(in_a_second).collect();
    counts.sort_unstable();
    assert!(counts[1000] < 450, "{} within a second", counts[1000]);
    assert_eq!(super::times(&proxy, "backend out"), 0);
}
