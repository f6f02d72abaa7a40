//! The task that owns a node, on a clock that only the test moves: callers share
//! one probe run, nobody waits for a silent node, and a node that woke is not
//! trusted at once.

mod support;

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::{Health, Reason, Role, Time, Verdict};
use galera_probe::monitor::{Activity, Handle, Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Step};
use galera_probe::node::transport::TransportFuture;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

use support::node::{Fault, Node, PASSWORD, Script, USER};
use support::wire;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const WHOLE: Duration = Duration::from_secs(2);

const TIMING: Timing = Timing {
    max_age: SECOND,
    settle: Duration::from_secs(10),
    grace: Duration::ZERO,
    keep_connection: Duration::ZERO,
};

fn start(node: impl Connect + 'static, timing: Timing) -> Handle {
    start_as(node, CredentialSource::fixed(credentials(PASSWORD)), timing)
}

fn credentials(password: &str) -> Credentials {
    Credentials::new(USER, Password::new(password)).unwrap()
}

fn start_as(node: impl Connect + 'static, login: CredentialSource, timing: Timing) -> Handle {
    let settings = Settings {
        credentials: login,
        deadlines: Deadlines { step: SECOND, whole: WHOLE },
        policy: Policy::default(),
        timing,
    };
    let (monitor, handle) = Monitor::new(node, settings);
    tokio::spawn(monitor.run());
    handle
}

/// Asks; the word and how long the answer took.
async fn ask(handle: &Handle) -> (&'static str, Duration) {
    let (health, took) = ask_health(handle).await;
    (health.verdict.as_str(), took)
}

async fn ask_health(handle: &Handle) -> (Health, Duration) {
    let began = Instant::now();
    let health = handle.health(Role::ReadWrite).await;
    (health, began.elapsed())
}

/// Lets the other tasks come to rest without moving the clock by more than
/// tokio's own grain.
async fn settle_down() {
    sleep(MILLISECOND).await;
}

const AT_ONCE: Duration = Duration::ZERO;

fn connections(node: &Node) -> usize {
    node.seen.connections.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_askers_at_once_cost_one_connection() {
    let node = Node::new(Script::fault(Fault::DripAfter(0, 5 * MILLISECOND)));
    let handle = start(node.clone(), TIMING);
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let handle = handle.clone();
        callers.spawn(async move { ask(&handle).await });
    }
    for (word, took) in callers.join_all().await {
        assert_eq!(word, "stalled-query");
        assert!(took <= WHOLE);
    }
    assert_eq!(connections(&node), 1);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_is_given_again_until_it_is_a_second_old() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), TIMING);
    assert_eq!(ask(&handle).await.0, "serve");
    node.set_script(Script::donor());
    advance(SECOND - MILLISECOND).await;
    assert_eq!(ask(&handle).await.0, "serve");
    assert_eq!(connections(&node), 1);
    advance(MILLISECOND).await;
    assert_eq!(ask(&handle).await.0, "donor");
    assert_eq!(connections(&node), 2);
}

#[tokio::test(start_paused = true)]
async fn with_a_max_age_of_zero_every_asker_begins_a_probe_and_still_one_at_a_time() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: Duration::ZERO, ..TIMING });
    for expected in 1..=5 {
        assert_eq!(ask(&handle).await.0, "serve");
        settle_down().await;
        assert_eq!(connections(&node), expected);
    }
    let callers: JoinSet<_> = (0..100)
        .map(|_| {
            let handle = handle.clone();
            async move { ask(&handle).await.0 }
        })
        .collect();
    assert!(callers.join_all().await.iter().all(|word| *word == "serve"));
    assert_eq!(connections(&node), 6);
    assert_eq!(node.seen.most_open.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_asker_that_goes_away_cancels_nobody_else() {
    let node = Node::new(Script::fault(Fault::DripAfter(0, MILLISECOND)));
    let handle = start(node.clone(), TIMING);
    let (gone, stays) = (handle.clone(), handle.clone());
    let gone = tokio::spawn(async move { ask(&gone).await });
    let stays = tokio::spawn(async move { ask(&stays).await.0 });
    sleep(10 * MILLISECOND).await;
    gone.abort();
    assert_eq!(stays.await.unwrap(), "serve");
    assert_eq!(connections(&node), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_probe_is_held_and_new_askers_are_told_at_once_for_how_long() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), TIMING);
    assert_eq!(ask(&handle).await, ("stalled-greeting", SECOND));
    for seconds in 2..=5 {
        advance(SECOND).await;
        let (health, took) = ask_health(&handle).await;
        assert_eq!(health.verdict.as_str(), "stalled-greeting");
        assert_eq!(health.time, Some(Time::For(seconds * SECOND)));
        assert_eq!(took, AT_ONCE);
    }
    assert_eq!((connections(&node), node.seen.unfinished()), (1, 0));
    // It wakes: the login is completed and COM_QUIT sent, though nobody asks.
    node.set_script(Script::synced());
    settle_down().await;
    assert_eq!((connections(&node), node.seen.unfinished()), (1, 0));
    assert_eq!(node.seen.quits.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stall_at_any_step_after_the_connect_is_held_and_finished_when_the_node_wakes() {
    let greeting = wire::greeting().len();
    for (byte, word) in [
        (0, "stalled-greeting"),
        (greeting - 1, "stalled-greeting"),
        (greeting, "stalled-login"),
        (greeting + 11, "stalled-query"),
        (greeting + 200, "stalled-query"),
    ] {
        let node = Node::new(Script::fault(Fault::FreezeAfter(byte)));
        let handle = start(node.clone(), TIMING);
        assert_eq!(ask(&handle).await, (word, SECOND), "{byte}");
        advance(WHOLE).await;
        assert_eq!(ask(&handle).await, (word, AT_ONCE), "{byte}");
        node.set_script(Script::synced());
        settle_down().await;
        assert_eq!(ask(&handle).await.0, "settling", "{byte}");
        assert_eq!(node.seen.unfinished(), 0, "{byte}");
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the schedule is to be seen")]
async fn a_stall_of_24_hours_costs_under_100_connections_and_its_askers_never_wait() {
    for script in [Script::frozen(), Script::fault(Fault::StallAfter(150))] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        assert_eq!(ask(&handle).await.1, SECOND);
        let began = Instant::now();
        let mut seen = 1;
        while began.elapsed() < Duration::from_secs(24 * 3600) {
            sleep(SECOND).await;
            let (word, took) = ask(&handle).await;
            assert!(word.starts_with("stalled-") && took == AT_ONCE, "{word}, {took:?}");
            if connections(&node) > seen {
                seen = connections(&node);
                println!("connection {seen} after {:?}", began.elapsed());
            }
        }
        assert!((70..100).contains(&seen), "{seen} connections");
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_cannot_be_finished_back_off_from_5_s_doubling_to_20_minutes() {
    let instead_of_login = |bytes| Script { instead_of_login: Some(bytes), ..Script::synced() };
    let instead_of_greeting =
        |bytes| Script { instead_of_greeting: Some(bytes), ..Script::synced() };
    for (script, word) in [
        (instead_of_greeting(b"SSH-2.0-OpenSSH\r\n".to_vec()), "protocol-error"),
        (instead_of_greeting(wire::packet(0, b"\x09old")), "unsupported-server"),
        (instead_of_greeting(wire::err(0, 1129, "blocked")), "host-blocked"),
        (instead_of_login(wire::err(2, 1045, "denied")), "access-denied"),
        (instead_of_login(wire::switch(2, "auth_gssapi_client", &[7; 32])), "unsupported-plugin"),
    ] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        let mut gaps = Vec::new();
        let mut last = Instant::now();
        assert_eq!(ask(&handle).await.0, word);
        while gaps.len() < 10 {
            sleep(SECOND).await;
            let before = connections(&node);
            assert_eq!(ask(&handle).await, (word, AT_ONCE));
            if connections(&node) > before {
                gaps.push(last.elapsed().as_secs());
                last = Instant::now();
            }
        }
        assert_eq!(gaps, [5, 10, 20, 40, 80, 160, 320, 640, 1200, 1200], "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_before_it_says_a_word_is_tried_again_every_5_seconds() {
    let closes = Script { instead_of_greeting: Some(Vec::new()), ..Script::synced() };
    let node = Node::new(closes);
    let handle = start(node.clone(), TIMING);
    for _ in 0..600 {
        assert_eq!(ask(&handle).await, ("disconnected", AT_ONCE));
        sleep(SECOND).await;
    }
    assert_eq!(connections(&node), 120);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_mended_is_noticed_within_10_seconds() {
    let node = Node::new(Script { password: "other".to_owned(), ..Script::synced() });
    let handle = start(node.clone(), TIMING);
    assert_eq!(ask(&handle).await.0, "access-denied");
    sleep(SECOND).await;
    node.set_script(Script::synced());
    let mended = Instant::now();
    while ask(&handle).await.0 != "serve" {
        sleep(SECOND).await;
    }
    assert!(mended.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_completed_login_begins_the_schedule_anew() {
    let denied = Script { password: "other".to_owned(), ..Script::synced() };
    let node = Node::new(denied.clone());
    let handle = start(node.clone(), TIMING);
    for _ in 0..3600 {
        ask(&handle).await;
        sleep(SECOND).await;
    }
    node.set_script(Script::donor());
    while ask(&handle).await.0 != "donor" {
        sleep(SECOND).await;
    }
    node.set_script(denied);
    sleep(SECOND).await;
    assert_eq!(ask(&handle).await.0, "access-denied");
    let before = connections(&node);
    sleep(5 * SECOND).await;
    ask(&handle).await;
    assert_eq!(connections(&node), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_leaves_no_handshake_unfinished_does_not_back_off() {
    let error =
        |code| Script { instead_of_login: Some(wire::err(2, code, "no")), ..Script::synced() };
    for script in [Script::donor(), error(1040), error(4151), error(1226)] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        for expected in 1..=20 {
            ask(&handle).await;
            assert_eq!(connections(&node), expected);
            sleep(SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_in_the_connect_is_dropped_and_tried_again_once_in_max_age() {
    struct BlackHole(Arc<AtomicUsize>);
    impl Connect for BlackHole {
        fn connect(&self, _budget: Duration) -> TransportFuture {
            self.0.fetch_add(1, SeqCst);
            Box::pin(pending())
        }
    }
    let attempts = Arc::new(AtomicUsize::new(0));
    let handle = start(BlackHole(attempts.clone()), TIMING);
    assert_eq!(ask(&handle).await, ("stalled-connect", SECOND));
    assert_eq!(ask(&handle).await, ("stalled-connect", AT_ONCE));
    assert_eq!(attempts.load(SeqCst), 1);
    advance(SECOND).await;
    let (health, took) = ask_health(&handle).await;
    assert_eq!((health.verdict.as_str(), took), ("stalled-connect", SECOND));
    assert_eq!(health.time, Some(Time::For(3 * SECOND)));
    assert_eq!(attempts.load(SeqCst), 2);
}

/// Stalls a node that serves, asks each 10 ms, and says how long the node had
/// been stalled and how long it was settling.
async fn stall_for(stall: Duration, timing: Timing) -> (Duration, Duration) {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), timing);
    assert_eq!(ask(&handle).await.0, "serve");
    advance(timing.max_age).await;
    node.set_script(Script::frozen());
    let froze = Instant::now();
    let thaw = node.clone();
    tokio::spawn(async move {
        sleep(stall).await;
        thaw.set_script(Script::synced());
    });
    let mut woke = None;
    loop {
        let (word, _) = ask(&handle).await;
        match word {
            "serve" if woke.is_some() || froze.elapsed() > stall => break,
            "settling" => woke = woke.or(Some(Instant::now())),
            _ => assert!(woke.is_none(), "{word}"),
        }
        sleep(10 * MILLISECOND).await;
    }
    let woke = woke.unwrap_or(Instant::now());
    (woke - froze, woke.elapsed())
}

fn near(time: Duration, expected: Duration) -> bool {
    time >= expected && time < expected + 50 * MILLISECOND
}

/// Always asks, so that times are exact.
const EAGER: Timing = Timing { max_age: Duration::ZERO, ..TIMING };

#[tokio::test(start_paused = true)]
async fn one_slow_probe_of_2100_ms_costs_4200_ms_of_settling() {
    let (stalled, settling) = stall_for(2100 * MILLISECOND, EAGER).await;
    assert!(near(stalled, 2100 * MILLISECOND), "{stalled:?}");
    assert!(near(settling, 4200 * MILLISECOND), "{settling:?}");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_of_30_s_costs_10_s_of_settling() {
    let (stalled, settling) = stall_for(30 * SECOND, EAGER).await;
    assert!(near(stalled, 30 * SECOND), "{stalled:?}");
    assert!(near(settling, 10 * SECOND), "{settling:?}");
}

#[tokio::test(start_paused = true)]
async fn settling_can_be_turned_off() {
    let (_, settling) = stall_for(30 * SECOND, Timing { settle: Duration::ZERO, ..EAGER }).await;
    assert_eq!(settling, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_slow_probe_within_its_deadline_costs_no_settling() {
    let (_, settling) = stall_for(900 * MILLISECOND, EAGER).await;
    assert_eq!(settling, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_first_start_does_not_settle() {
    let handle = start(Node::new(Script::synced()), TIMING);
    assert_eq!(ask(&handle).await.0, "serve");
}

#[tokio::test(start_paused = true)]
async fn a_node_found_unfit_while_it_settles_begins_to_settle_anew() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), EAGER);
    ask(&handle).await;
    advance(29 * SECOND).await;
    node.set_script(Script::synced());
    settle_down().await;
    // Primary for 6 s, then it learns that it was voted out, then it is back.
    for (script, word, seconds) in
        [(Script::synced(), "settling", 6), (Script::non_primary(), "non-primary", 3)]
    {
        node.set_script(script);
        for _ in 0..seconds {
            assert_eq!(ask(&handle).await.0, word);
            sleep(SECOND).await;
        }
    }
    node.set_script(Script::synced());
    let (health, _) = ask_health(&handle).await;
    assert_eq!(health.verdict.as_str(), "settling");
    assert_eq!(health.time, Some(Time::Left(10 * SECOND)));
    advance(10 * SECOND).await;
    assert_eq!(ask(&handle).await.0, "serve");
}

#[tokio::test(start_paused = true)]
async fn grace_serves_on_a_node_that_times_out_for_a_while_and_needs_no_settling_after() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { grace: 5 * SECOND, ..EAGER });
    assert_eq!(ask(&handle).await.0, "serve");
    node.set_script(Script::frozen());
    assert_eq!(ask(&handle).await, ("serve", SECOND));
    advance(3900 * MILLISECOND).await;
    assert_eq!(ask(&handle).await, ("serve", AT_ONCE));
    node.set_script(Script::synced());
    settle_down().await;
    assert_eq!(ask(&handle).await.0, "serve");

    node.set_script(Script::frozen());
    assert_eq!(ask(&handle).await.0, "serve");
    advance(4 * SECOND).await;
    assert_eq!(ask(&handle).await, ("stalled-greeting", AT_ONCE));
    node.set_script(Script::synced());
    settle_down().await;
    assert_eq!(ask(&handle).await.0, "settling");
}

#[tokio::test(start_paused = true)]
async fn grace_never_softens_a_definite_refusal() {
    struct Refused(AtomicUsize, Node);
    impl Connect for Refused {
        fn connect(&self, budget: Duration) -> TransportFuture {
            match self.0.fetch_add(1, SeqCst) {
                0 => self.1.connect(budget),
                _ => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            }
        }
    }
    let timing = Timing { grace: 3600 * SECOND, ..EAGER };
    let handle = start(Refused(AtomicUsize::new(0), Node::new(Script::synced())), timing);
    assert_eq!(ask(&handle).await.0, "serve");
    assert_eq!(ask(&handle).await.0, "connection-refused");

    for (script, word) in [(Script::donor(), "donor"), (Script::non_primary(), "non-primary")] {
        let node = Node::new(Script::synced());
        let handle = start(node.clone(), timing);
        assert_eq!(ask(&handle).await.0, "serve");
        node.set_script(script);
        assert_eq!(ask(&handle).await.0, word);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_dropped_closes_its_connection_and_tells_its_askers() {
    for held in [false, true] {
        let node = Node::new(Script::fault(Fault::StallAfter(10)));
        let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
        let settings = Settings {
            credentials: CredentialSource::fixed(credentials),
            deadlines: Deadlines { step: SECOND, whole: WHOLE },
            policy: Policy::default(),
            timing: TIMING,
        };
        let (monitor, handle) = Monitor::new(node.clone(), settings);
        let target = tokio::spawn(monitor.run());
        let caller = handle.clone();
        let caller = tokio::spawn(async move { ask(&caller).await.0 });
        sleep(if held { WHOLE } else { 10 * MILLISECOND }).await;
        assert_eq!(node.seen.open.load(SeqCst), 1);
        target.abort();
        settle_down().await;
        assert_eq!(node.seen.open.load(SeqCst), 0);
        assert_eq!(caller.await.unwrap(), if held { "stalled-greeting" } else { "stopping" });
        assert_eq!(ask(&handle).await, ("stopping", AT_ONCE));
    }
}

#[tokio::test(start_paused = true)]
async fn three_roles_share_one_probe() {
    let script = Script::synced().with(&[("read_only", "ON")]);
    let node = Node::new(Script { fault: Fault::DripAfter(0, MILLISECOND), ..script });
    let handle = start(node.clone(), TIMING);
    let (any, reader, writer) = tokio::join!(
        handle.health(Role::ReadWrite),
        handle.health(Role::Reader),
        handle.health(Role::Writer),
    );
    let words = [any, reader, writer].map(|health| health.verdict.as_str());
    assert_eq!(words, ["read-only", "serve", "read-only"]);
    assert_eq!(connections(&node), 1);
    let callers = handle.report().await.counters.callers;
    assert_eq!((callers["dialogue"], callers["shared"]), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn whom_the_operator_keeps_away_asks_nothing_of_the_node_and_is_a_change() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: Duration::ZERO, ..TIMING });
    assert_eq!(ask(&handle).await.0, "serve");
    for _ in 0..3 {
        let health = handle.refuse(Reason::Maintenance).await;
        assert_eq!(health.verdict, Verdict::Refuse(Reason::Maintenance));
    }
    assert_eq!(connections(&node), 1);
    assert_eq!(ask(&handle).await.0, "serve");
    let report = handle.report().await;
    let words: Vec<_> = report.changes.iter().map(|change| change.verdicts[0].as_str()).collect();
    assert_eq!(words, ["serve", "maintenance", "serve"]);
    assert_eq!(report.counters.callers["operator"], 3);
}

/// The clock stands still, as long as this task has something to do: nothing else
/// ends the back-off.
#[tokio::test(start_paused = true)]
async fn serve_is_told_without_the_target_only_as_long_as_nothing_has_happened() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: 10 * SECOND, ..TIMING });
    let callers = async || {
        let callers = handle.report().await.counters.callers;
        ["dialogue", "known", "operator"].map(|source| callers.get(source).copied().unwrap_or(0))
    };
    // Ready without any other task having had a turn.
    let at_once = async || {
        let mut asked = std::pin::pin!(handle.health(Role::ReadWrite));
        std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_ready())).await
    };
    assert!(!at_once().await);
    assert_eq!(ask(&handle).await.0, "serve");
    settle_down().await;
    assert!(at_once().await && at_once().await);
    assert_eq!(callers().await, [1, 2, 0]);

    handle.refuse(Reason::Maintenance).await;
    settle_down().await;
    // That the node serves again is news, for the target to tell.
    assert!(!at_once().await);
    assert_eq!(ask(&handle).await.0, "serve");
    settle_down().await;
    assert!(at_once().await);
    let report = handle.report().await;
    let verdicts = report.changes.iter().map(|change| change.verdicts[0].as_str());
    assert_eq!(verdicts.collect::<Vec<_>>(), ["serve", "maintenance", "serve"]);

    sleep(10 * SECOND).await;
    assert!(!at_once().await);
    settle_down().await;
    assert_eq!(connections(&node), 2);
}

#[tokio::test(start_paused = true)]
async fn a_changed_password_ends_the_back_off() {
    let node = Node::new(Script::synced());
    let password = Arc::new(Mutex::new("old"));
    let read = Arc::clone(&password);
    let login = CredentialSource::reloaded(credentials("old"), move || {
        Ok(credentials(*read.lock().unwrap()))
    });
    let handle = start_as(node.clone(), login, TIMING);
    assert_eq!(ask(&handle).await.0, "access-denied");
    assert!(handle.report().await.back_off.is_some());
    *password.lock().unwrap() = PASSWORD;
    assert_eq!(ask(&handle).await.0, "access-denied");
    while handle.report().await.back_off.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&handle).await.0, "serve");
    assert_eq!(connections(&node), 2);
}

#[tokio::test(start_paused = true)]
async fn the_report_says_what_the_target_is_doing() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), TIMING);
    assert_eq!(handle.report().await.activity, Activity::Idle);
    let caller = handle.clone();
    let asked = tokio::spawn(async move { ask(&caller).await.0 });
    sleep(SECOND / 2).await;
    let activity = Activity::Probing { step: Step::Greeting, so_far: SECOND / 2 };
    assert_eq!(handle.report().await.activity, activity);
    assert_eq!(asked.await.unwrap(), "stalled-greeting");
    advance(9 * SECOND).await;
    let report = handle.report().await;
    let Activity::Held { step: Step::Greeting, so_far, left } = report.activity else {
        panic!("{:?}", report.activity)
    };
    assert_eq!((so_far, left), (10 * SECOND, 70 * SECOND + SECOND));
    assert_eq!(report.counters.timeouts["greeting"], 1);
    node.set_script(Script::synced());
    settle_down().await;
    assert_eq!(handle.report().await.activity, Activity::Idle);
    node.set_script(Script { password: "other".to_owned(), ..Script::synced() });
    advance(2 * SECOND).await;
    assert_eq!(ask(&handle).await.0, "access-denied");
    assert_eq!(handle.report().await.back_off, Some(5 * SECOND));
    advance(SECOND).await;
    assert_eq!(handle.report().await.back_off, Some(4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn who_asks_when_the_target_is_gone_is_told_that_it_stops() {
    let settings = Settings {
        credentials: CredentialSource::fixed(credentials(PASSWORD)),
        deadlines: Deadlines { step: SECOND, whole: WHOLE },
        policy: Policy::default(),
        timing: TIMING,
    };
    let (monitor, handle) = Monitor::new(Node::new(Script::synced()), settings);
    let target = tokio::spawn(monitor.run());
    assert_eq!(ask(&handle).await.0, "serve");
    target.abort();
    assert!(target.await.unwrap_err().is_cancelled());
    assert_eq!(ask(&handle).await.0, "stopping");
}
