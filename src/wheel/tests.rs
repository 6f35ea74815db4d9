use std::task::{Context, Waker};

use super::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

fn fired(timer: &Timer) -> bool {
    timer
        .poll_fired(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

fn timer(wheel: &Rc<Wheel>) -> Timer {
    wheel.timer()
}

fn serve(timer: &Timer, site: u32) {
    timer.serving(Some(Serving {
        site,
        version: 1,
        rule: None,
        asker: Some(Ipv4Addr::LOCALHOST.into()),
        tls: None,
    }));
}

#[test]
fn a_deadline_fires_when_it_has_passed_and_not_before() {
    let wheel = Wheel::new();
    let timer = timer(&wheel);
    timer.set(Duration::from_millis(250));
    wheel.turn_to(3);
    assert!(!fired(&timer));
    wheel.turn_to(4);
    assert!(fired(&timer));
}

#[test]
fn a_deadline_that_moves_on_is_filed_anew_and_one_that_moves_closer_is_met() {
    let wheel = Wheel::new();
    let timer = timer(&wheel);
    timer.set_at(10);
    wheel.turn_to(9);
    timer.set_at(900);
    wheel.turn_to(899);
    assert!(!fired(&timer));
    timer.set_at(901);
    wheel.turn_to(900);
    assert!(!fired(&timer));
    wheel.turn_to(901);
    assert!(fired(&timer));
    timer.set_at(2000);
    timer.set_at(905);
    assert!(!fired(&timer));
    wheel.turn_to(905);
    assert!(fired(&timer));
}

#[test]
fn a_long_pause_of_the_thread_loses_nobody() {
    let wheel = Wheel::new();
    let timers: Vec<Timer> = (0..100).map(|_| timer(&wheel)).collect();
    for (n, timer) in timers.iter().enumerate() {
        timer.set_at(5 + 7 * n as u32);
    }
    wheel.turn_to(5000);
    assert!(timers.iter().all(fired));
}

#[test]
fn those_whose_time_is_over_at_once_are_woken_in_groups() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let wheel = Wheel::new();
    let timers: Vec<Timer> = (0..10).map(|_| timer(&wheel)).collect();
    for timer in &timers {
        timer.set_at(5);
        assert!(
            timer
                .poll_fired(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    wheel.turn_to(5);
    assert!(timers.iter().all(fired), "who looks sees it at once");
    timers[9].set_at(20);
    for (more, count) in [(true, 3), (true, 7), (false, 9)] {
        assert_eq!(wheel.wake(4), more);
        assert_eq!(woken.0.load(Ordering::Relaxed), count);
    }
    assert!(!wheel.wake(4));
}

#[test]
fn a_dropped_timer_leaves_its_slot_to_the_others() {
    let wheel = Wheel::new();
    let (a, b, c) = (timer(&wheel), timer(&wheel), timer(&wheel));
    for timer in [&a, &b, &c] {
        timer.set_at(7);
    }
    drop(a);
    wheel.turn_to(7);
    assert!(fired(&b) && fired(&c));
    assert_eq!(wheel.filing.borrow().free.len(), 1);
}

#[test]
fn who_has_rested_longest_makes_room_and_who_is_busy_does_not() {
    let wheel = Wheel::new();
    let (busy, first, second) = (timer(&wheel), timer(&wheel), timer(&wheel));
    busy.set(Duration::from_secs(60));
    first.rest(Duration::from_secs(60));
    wheel.turn_to(5);
    second.rest(Duration::from_secs(60));
    drop({
        let gone = timer(&wheel);
        gone.rest(Duration::from_secs(60));
        gone
    });
    let rested = Duration::from_millis(300);
    assert_eq!(wheel.make_room(rested), 1);
    assert!(fired(&first) && first.fired_for_room());
    assert_eq!(
        wheel.make_room(rested),
        0,
        "the other has not rested so long"
    );
    wheel.turn_to(9);
    assert_eq!(wheel.make_room(rested), 1);
    assert!(fired(&second) && !fired(&busy));
    wheel.turn_to(20);
    second.set(Duration::from_secs(1));
    assert!(!fired(&second), "a request came in time");
    assert_eq!(wheel.make_room(rested), 0);
}

#[test]
fn room_at_a_site_is_made_by_its_own() {
    let wheel = Wheel::new();
    let (here, there) = (timer(&wheel), timer(&wheel));
    for (timer, site) in [(&here, 7), (&there, 8)] {
        timer.at_site(site);
        timer.rest(Duration::from_secs(60));
    }
    wheel.turn_to(20);
    let rested = Duration::from_secs(1);
    assert!(wheel.make_room_at_site(7, rested));
    assert!(fired(&here) && !fired(&there));
    // A site without anybody to make room takes nothing from the others.
    assert!(!wheel.make_room_at_site(7, rested));
    assert!(!wheel.make_room_at_site(9, rested));
    assert_eq!(wheel.make_some_room_at_site(8, rested), 1);
    assert!(fired(&there));
}

#[test]
fn who_was_asked_something_in_this_tick_makes_no_room() {
    let wheel = Wheel::new();
    let timers: Vec<Timer> = (0..3).map(|_| timer(&wheel)).collect();
    for (n, timer) in timers.iter().enumerate() {
        wheel.turn_to(n as u32);
        timer.at_site(7);
        timer.rest(Duration::from_secs(60));
    }
    wheel.turn_to(40);
    let rested = Duration::from_secs(1);
    assert!(wheel.make_room_at_site(7, rested));
    assert!(fired(&timers[0]), "the one that has waited longest");
    timers[1].set(Duration::from_secs(60));
    assert!(wheel.make_room_at_site(7, rested));
    assert!(!fired(&timers[1]) && fired(&timers[2]));
    assert!(!wheel.make_room_at_site(7, rested));
}

#[test]
fn a_cut_is_for_those_who_serve_the_site_and_only_as_long_as_they_do() {
    let wheel = Wheel::new();
    let (a, b) = (timer(&wheel), timer(&wheel));
    serve(&a, 7);
    serve(&b, 8);
    wheel.cut(|serving| (serving.site == 7).then_some(Duration::ZERO));
    assert!(fired(&a));
    assert_eq!(a.cut(), Some(Cut::Edited));
    assert!(!fired(&b));
    assert_eq!(b.cut(), None);
    a.set(Duration::from_secs(1));
    assert!(fired(&a), "a new deadline does not undo a cut");
    serve(&a, 9);
    a.set(Duration::from_secs(1));
    assert!(!fired(&a));
    wheel.cut(|serving| {
        serving.site = GONE;
        Some(Duration::ZERO)
    });
    assert_eq!(a.cut(), Some(Cut::Gone));
}
