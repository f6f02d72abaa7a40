//! The monitor with a scripted node, on tokio's paused clock: shared probe runs, held
//! connections, back-off, settling and grace.

mod support;

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::{Health, Reason, Role, Time, Verdict};
use galera_probe::monitor::{Activity, CausalityCheck, Handle, Monitor, Settings, Timing};
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
    causality_check: CausalityCheck::Never,
    max_age: SECOND,
    settle: Duration::from_secs(10),
    grace: Duration::ZERO,
    keep_connection: Duration::ZERO,
};

fn start(node: impl Connect + 'static, timing: Timing) -> Handle {
    start_with(node, CredentialSource::fixed(credentials(PASSWORD)), timing)
}

fn credentials(password: &str) -> Credentials {
    Credentials::new(USER, Password::new(password)).unwrap()
}

fn start_with(
    node: impl Connect + 'static,
    credentials: CredentialSource,
    timing: Timing,
) -> Handle {
    let (monitor, handle) = Monitor::new(node, settings(credentials, timing));
    tokio::spawn(monitor.run());
    handle
}

fn settings(credentials: CredentialSource, timing: Timing) -> Settings {
    let deadlines = Deadlines { step: SECOND, whole: WHOLE };
    Settings { credentials, deadlines, policy: Policy::default(), timing }
}

/// The verdict's word for one caller, and how long the caller waited.
async fn query(handle: &Handle) -> (&'static str, Duration) {
    let (health, took) = query_health(handle).await;
    (health.verdict.as_str(), took)
}

async fn query_health(handle: &Handle) -> (Health, Duration) {
    let began = Instant::now();
    let health = handle.health(Role::ReadWrite).await;
    (health, began.elapsed())
}

/// Lets the other tasks run until they are idle. Moves the clock by 1 ms, tokio's
/// resolution.
async fn run_other_tasks() {
    sleep(MILLISECOND).await;
}

const AT_ONCE: Duration = Duration::ZERO;

fn connections(node: &Node) -> usize {
    node.seen.connections.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_connection() {
    let node = Node::new(Script::fault(Fault::DripAfter(0, 5 * MILLISECOND)));
    let handle = start(node.clone(), TIMING);
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let handle = handle.clone();
        callers.spawn(async move { query(&handle).await });
    }
    for (word, took) in callers.join_all().await {
        assert_eq!(word, "stalled-query");
        assert!(took <= WHOLE);
    }
    assert_eq!(connections(&node), 1);
}

#[tokio::test(start_paused = true)]
async fn caches_a_verdict_for_max_age() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), TIMING);
    assert_eq!(query(&handle).await.0, "serve");
    node.set_script(Script::donor());
    advance(SECOND - MILLISECOND).await;
    assert_eq!(query(&handle).await.0, "serve");
    assert_eq!(connections(&node), 1);
    advance(MILLISECOND).await;
    assert_eq!(query(&handle).await.0, "donor");
    assert_eq!(connections(&node), 2);
}

#[tokio::test(start_paused = true)]
async fn with_max_age_zero_callers_start_probes_one_at_a_time() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: Duration::ZERO, ..TIMING });
    for expected in 1..=5 {
        assert_eq!(query(&handle).await.0, "serve");
        run_other_tasks().await;
        assert_eq!(connections(&node), expected);
    }
    let callers: JoinSet<_> = (0..100)
        .map(|_| {
            let handle = handle.clone();
            async move { query(&handle).await.0 }
        })
        .collect();
    assert!(callers.join_all().await.iter().all(|word| *word == "serve"));
    assert_eq!(connections(&node), 6);
    assert_eq!(node.seen.most_open.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_cancel_the_shared_probe() {
    let node = Node::new(Script::fault(Fault::DripAfter(0, MILLISECOND)));
    let handle = start(node.clone(), TIMING);
    let (gone, stays) = (handle.clone(), handle.clone());
    let gone = tokio::spawn(async move { query(&gone).await });
    let stays = tokio::spawn(async move { query(&stays).await.0 });
    sleep(10 * MILLISECOND).await;
    gone.abort();
    assert_eq!(stays.await.unwrap(), "serve");
    assert_eq!(connections(&node), 1);
}

#[tokio::test(start_paused = true)]
async fn holds_a_stalled_probe_and_answers_later_callers_at_once() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), TIMING);
    assert_eq!(query(&handle).await, ("stalled-greeting", SECOND));
    for seconds in 2..=5 {
        advance(SECOND).await;
        let (health, took) = query_health(&handle).await;
        assert_eq!(health.verdict.as_str(), "stalled-greeting");
        assert_eq!(health.time, Some(Time::For(seconds * SECOND)));
        assert_eq!(took, AT_ONCE);
    }
    assert_eq!((connections(&node), node.seen.unfinished()), (1, 0));
    // When the node wakes, the monitor completes the login and sends COM_QUIT without a
    // caller.
    node.set_script(Script::synced());
    run_other_tasks().await;
    assert_eq!((connections(&node), node.seen.unfinished()), (1, 0));
    assert_eq!(node.seen.quits.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn holds_a_stall_in_any_step_after_connect_and_finishes_it_when_the_node_wakes() {
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
        assert_eq!(query(&handle).await, (word, SECOND), "{byte}");
        advance(WHOLE).await;
        assert_eq!(query(&handle).await, (word, AT_ONCE), "{byte}");
        node.set_script(Script::synced());
        run_other_tasks().await;
        assert_eq!(query(&handle).await.0, "settling", "{byte}");
        assert_eq!(node.seen.unfinished(), 0, "{byte}");
    }
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "prints the schedule")]
async fn a_stall_of_24_hours_costs_under_100_connections_and_no_caller_waits() {
    for script in [Script::frozen(), Script::fault(Fault::StallAfter(150))] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        assert_eq!(query(&handle).await.1, SECOND);
        let began = Instant::now();
        let mut seen = 1;
        while began.elapsed() < Duration::from_secs(24 * 3600) {
            sleep(SECOND).await;
            let (word, took) = query(&handle).await;
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
async fn failures_that_the_server_counts_are_rationed_and_others_retried_soon() {
    let free = [5; 14];
    let counted = [5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60];
    let instead_of_login = |bytes| Script { instead_of_login: Some(bytes), ..Script::synced() };
    let instead_of_greeting =
        |bytes| Script { instead_of_greeting: Some(bytes), ..Script::synced() };
    let plugin = wire::switch(2, "auth_gssapi_client", &[7; 32]);
    for (script, word, expected) in [
        (instead_of_greeting(b"SSH-2.0-OpenSSH\r\n".to_vec()), "protocol-error", free),
        (instead_of_greeting(wire::packet(0, b"\x09old")), "unsupported-server", counted),
        (instead_of_greeting(wire::err(0, 1129, "blocked")), "host-blocked", free),
        (instead_of_greeting(wire::err(0, 1130, "no host")), "host-denied", free),
        (instead_of_login(wire::err(2, 1045, "denied")), "access-denied", free),
        (instead_of_login(wire::err(2, 4151, "locked")), "account-locked", free),
        (instead_of_login(plugin), "unsupported-plugin", counted),
    ] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        let mut gaps = Vec::new();
        let mut last = Instant::now();
        assert_eq!(query(&handle).await.0, word);
        while gaps.len() < expected.len() {
            sleep(SECOND).await;
            let before = connections(&node);
            assert_eq!(query(&handle).await, (word, AT_ONCE));
            if connections(&node) > before {
                gaps.push(last.elapsed().as_secs());
                last = Instant::now();
            }
        }
        assert_eq!(gaps, expected, "{word}");
    }
}

/// How long after a correction a caller that asks every second gets 200.
async fn time_to_serve(broken: Script, minutes: u64) -> Duration {
    let node = Node::new(broken);
    let handle = start(node.clone(), TIMING);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(minutes * 60) {
        assert_ne!(query(&handle).await.0, "serve");
        sleep(SECOND).await;
    }
    node.set_script(Script::synced());
    let corrected = Instant::now();
    while query(&handle).await.0 != "serve" {
        sleep(SECOND).await;
    }
    corrected.elapsed()
}

/// Law 7.
#[tokio::test(start_paused = true)]
async fn no_refusal_outlives_its_fault() {
    let login =
        |code| Script { instead_of_login: Some(wire::err(2, code, "no")), ..Script::synced() };
    let counted = Script {
        instead_of_login: Some(wire::switch(2, "auth_gssapi_client", &[7; 32])),
        ..Script::synced()
    };
    for code in [1045, 4151, 1820] {
        for (minutes, seconds) in [(1, 6), (9, 6), (11, 31), (600, 31)] {
            let waited = time_to_serve(login(code), minutes).await;
            assert!(waited <= seconds * SECOND, "{code} for {minutes} min: {waited:?}");
        }
    }
    for (minutes, seconds) in [(1, 61), (10, 61), (14, 61), (60, 20 * 60 + 1)] {
        let waited = time_to_serve(counted.clone(), minutes).await;
        assert!(waited <= seconds * SECOND, "counted, for {minutes} min: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_a_server_that_closes_before_its_greeting_every_5_s() {
    let closes = Script { instead_of_greeting: Some(Vec::new()), ..Script::synced() };
    let node = Node::new(closes);
    let handle = start(node.clone(), TIMING);
    for _ in 0..600 {
        assert_eq!(query(&handle).await, ("disconnected", AT_ONCE));
        sleep(SECOND).await;
    }
    assert_eq!(connections(&node), 120);
}

#[tokio::test(start_paused = true)]
async fn serves_within_6_s_after_the_servers_password_is_corrected() {
    let node = Node::new(Script { password: "other".to_owned(), ..Script::synced() });
    let handle = start(node.clone(), TIMING);
    assert_eq!(query(&handle).await.0, "access-denied");
    sleep(SECOND).await;
    node.set_script(Script::synced());
    let corrected = Instant::now();
    while query(&handle).await.0 != "serve" {
        sleep(SECOND).await;
    }
    assert!(corrected.elapsed() <= 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_completed_login_resets_the_back_off_schedule() {
    let denied = Script { password: "other".to_owned(), ..Script::synced() };
    let node = Node::new(denied.clone());
    let handle = start(node.clone(), TIMING);
    for _ in 0..3600 {
        query(&handle).await;
        sleep(SECOND).await;
    }
    node.set_script(Script::donor());
    while query(&handle).await.0 != "donor" {
        sleep(SECOND).await;
    }
    node.set_script(denied);
    sleep(SECOND).await;
    assert_eq!(query(&handle).await.0, "access-denied");
    let before = connections(&node);
    sleep(5 * SECOND).await;
    query(&handle).await;
    assert_eq!(connections(&node), before + 1);
}

#[tokio::test(start_paused = true)]
async fn does_not_back_off_if_no_handshake_is_left_unfinished() {
    let error =
        |code| Script { instead_of_login: Some(wire::err(2, code, "no")), ..Script::synced() };
    for script in [Script::donor(), error(1040), error(1053), error(1226)] {
        let node = Node::new(script);
        let handle = start(node.clone(), TIMING);
        for expected in 1..=20 {
            query(&handle).await;
            assert_eq!(connections(&node), expected);
            sleep(SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn drops_a_stall_in_connect_and_retries_once_per_max_age() {
    struct BlackHole(Arc<AtomicUsize>);
    impl Connect for BlackHole {
        fn connect(&self, _budget: Duration) -> TransportFuture {
            self.0.fetch_add(1, SeqCst);
            Box::pin(pending())
        }
    }
    let attempts = Arc::new(AtomicUsize::new(0));
    let handle = start(BlackHole(attempts.clone()), TIMING);
    assert_eq!(query(&handle).await, ("stalled-connect", SECOND));
    assert_eq!(query(&handle).await, ("stalled-connect", AT_ONCE));
    assert_eq!(attempts.load(SeqCst), 1);
    advance(SECOND).await;
    let (health, took) = query_health(&handle).await;
    assert_eq!((health.verdict.as_str(), took), ("stalled-connect", SECOND));
    assert_eq!(health.time, Some(Time::For(3 * SECOND)));
    assert_eq!(attempts.load(SeqCst), 2);
}

/// Freezes a healthy node for `stall` and queries the monitor every 10 ms until it serves
/// again. Returns the times from the freeze to the first `settling`, and from there to the
/// end.
async fn stall_for(stall: Duration, timing: Timing) -> (Duration, Duration) {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), timing);
    assert_eq!(query(&handle).await.0, "serve");
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
        let (word, _) = query(&handle).await;
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

fn is_near(time: Duration, expected: Duration) -> bool {
    time >= expected && time < expected + 50 * MILLISECOND
}

/// Caches nothing, so that times are exact.
const UNCACHED: Timing = Timing { max_age: Duration::ZERO, ..TIMING };

#[tokio::test(start_paused = true)]
async fn settles_for_4200_ms_after_a_stall_of_2100_ms() {
    let (stalled, settling) = stall_for(2100 * MILLISECOND, UNCACHED).await;
    assert!(is_near(stalled, 2100 * MILLISECOND), "{stalled:?}");
    assert!(is_near(settling, 4200 * MILLISECOND), "{settling:?}");
}

#[tokio::test(start_paused = true)]
async fn settles_for_at_most_10_s_after_a_freeze_of_30_s() {
    let (stalled, settling) = stall_for(30 * SECOND, UNCACHED).await;
    assert!(is_near(stalled, 30 * SECOND), "{stalled:?}");
    assert!(is_near(settling, 10 * SECOND), "{settling:?}");
}

#[tokio::test(start_paused = true)]
async fn settling_can_be_turned_off() {
    let (_, settling) = stall_for(30 * SECOND, Timing { settle: Duration::ZERO, ..UNCACHED }).await;
    assert_eq!(settling, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn does_not_settle_after_a_slow_probe_within_its_deadline() {
    let (_, settling) = stall_for(900 * MILLISECOND, UNCACHED).await;
    assert_eq!(settling, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn does_not_settle_at_the_start() {
    let handle = start(Node::new(Script::synced()), TIMING);
    assert_eq!(query(&handle).await.0, "serve");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_while_settling_restarts_it() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), UNCACHED);
    query(&handle).await;
    advance(29 * SECOND).await;
    node.set_script(Script::synced());
    run_other_tasks().await;
    // The node claims to be Primary for 6 s, then learns that it was voted out, then
    // rejoins.
    for (script, word, seconds) in
        [(Script::synced(), "settling", 6), (Script::non_primary(), "non-primary", 3)]
    {
        node.set_script(script);
        for _ in 0..seconds {
            assert_eq!(query(&handle).await.0, word);
            sleep(SECOND).await;
        }
    }
    node.set_script(Script::synced());
    let (health, _) = query_health(&handle).await;
    assert_eq!(health.verdict.as_str(), "settling");
    assert_eq!(health.time, Some(Time::Left(10 * SECOND)));
    advance(10 * SECOND).await;
    assert_eq!(query(&handle).await.0, "serve");
}

#[tokio::test(start_paused = true)]
async fn grace_serves_a_node_that_times_out_and_spares_it_settling() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { grace: 5 * SECOND, ..UNCACHED });
    assert_eq!(query(&handle).await.0, "serve");
    node.set_script(Script::frozen());
    assert_eq!(query(&handle).await, ("serve", SECOND));
    advance(3900 * MILLISECOND).await;
    assert_eq!(query(&handle).await, ("serve", AT_ONCE));
    node.set_script(Script::synced());
    run_other_tasks().await;
    assert_eq!(query(&handle).await.0, "serve");

    node.set_script(Script::frozen());
    assert_eq!(query(&handle).await.0, "serve");
    advance(4 * SECOND).await;
    assert_eq!(query(&handle).await, ("stalled-greeting", AT_ONCE));
    node.set_script(Script::synced());
    run_other_tasks().await;
    assert_eq!(query(&handle).await.0, "settling");
}

#[tokio::test(start_paused = true)]
async fn grace_does_not_apply_to_a_definite_refusal() {
    struct Refused(AtomicUsize, Node);
    impl Connect for Refused {
        fn connect(&self, budget: Duration) -> TransportFuture {
            match self.0.fetch_add(1, SeqCst) {
                0 => self.1.connect(budget),
                _ => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            }
        }
    }
    let timing = Timing { grace: 3600 * SECOND, ..UNCACHED };
    let handle = start(Refused(AtomicUsize::new(0), Node::new(Script::synced())), timing);
    assert_eq!(query(&handle).await.0, "serve");
    assert_eq!(query(&handle).await.0, "connection-refused");

    for (script, word) in [(Script::donor(), "donor"), (Script::non_primary(), "non-primary")] {
        let node = Node::new(Script::synced());
        let handle = start(node.clone(), timing);
        assert_eq!(query(&handle).await.0, "serve");
        node.set_script(script);
        assert_eq!(query(&handle).await.0, word);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_monitor_closes_its_connection_and_answers_its_callers() {
    for held in [false, true] {
        let node = Node::new(Script::fault(Fault::StallAfter(10)));
        let credentials = CredentialSource::fixed(credentials(PASSWORD));
        let (monitor, handle) = Monitor::new(node.clone(), settings(credentials, TIMING));
        let monitor = tokio::spawn(monitor.run());
        let caller = handle.clone();
        let caller = tokio::spawn(async move { query(&caller).await.0 });
        sleep(if held { WHOLE } else { 10 * MILLISECOND }).await;
        assert_eq!(node.seen.open.load(SeqCst), 1);
        monitor.abort();
        run_other_tasks().await;
        assert_eq!(node.seen.open.load(SeqCst), 0);
        assert_eq!(caller.await.unwrap(), if held { "stalled-greeting" } else { "stopping" });
        assert_eq!(query(&handle).await, ("stopping", AT_ONCE));
    }
}

#[tokio::test(start_paused = true)]
async fn three_roles_share_one_probe() {
    let script = Script::synced().with(&[("read_only", "ON")]);
    let node = Node::new(Script { fault: Fault::DripAfter(0, MILLISECOND), ..script });
    let handle = start(node.clone(), TIMING);
    let (read_write, reader, writer) = tokio::join!(
        handle.health(Role::ReadWrite),
        handle.health(Role::Reader),
        handle.health(Role::Writer),
    );
    let words = [read_write, reader, writer].map(|health| health.verdict.as_str());
    assert_eq!(words, ["read-only", "serve", "read-only"]);
    assert_eq!(connections(&node), 1);
    let callers = handle.report().await.counters.callers;
    assert_eq!((callers["dialogue"], callers["shared"]), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_operator_starts_no_probe_and_is_recorded_as_a_change() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: Duration::ZERO, ..TIMING });
    assert_eq!(query(&handle).await.0, "serve");
    for _ in 0..3 {
        let health = handle.refuse(Reason::Maintenance).await;
        assert_eq!(health.verdict, Verdict::Refuse(Reason::Maintenance));
    }
    assert_eq!(connections(&node), 1);
    assert_eq!(query(&handle).await.0, "serve");
    let report = handle.report().await;
    let words: Vec<_> = report.changes.iter().map(|change| change.verdicts[0].as_str()).collect();
    assert_eq!(words, ["serve", "maintenance", "serve"]);
    assert_eq!(report.counters.callers["operator"], 3);
}

#[tokio::test(start_paused = true)]
async fn the_handle_answers_from_the_cache_until_something_happens() {
    let node = Node::new(Script::synced());
    let handle = start(node.clone(), Timing { max_age: 10 * SECOND, ..TIMING });
    let callers = async || {
        let callers = handle.report().await.counters.callers;
        ["dialogue", "known", "operator"].map(|source| callers.get(source).copied().unwrap_or(0))
    };
    // Whether the handle answers without the monitor's task.
    let is_cached = async || {
        let mut health = std::pin::pin!(handle.health(Role::ReadWrite));
        std::future::poll_fn(|context| Poll::Ready(health.as_mut().poll(context).is_ready())).await
    };
    assert!(!is_cached().await);
    assert_eq!(query(&handle).await.0, "serve");
    run_other_tasks().await;
    assert!(is_cached().await && is_cached().await);
    assert_eq!(callers().await, [1, 2, 0]);

    handle.refuse(Reason::Maintenance).await;
    run_other_tasks().await;
    // The task itself answers a changed verdict, to record it.
    assert!(!is_cached().await);
    assert_eq!(query(&handle).await.0, "serve");
    run_other_tasks().await;
    assert!(is_cached().await);
    let report = handle.report().await;
    let verdicts = report.changes.iter().map(|change| change.verdicts[0].as_str());
    assert_eq!(verdicts.collect::<Vec<_>>(), ["serve", "maintenance", "serve"]);

    sleep(10 * SECOND).await;
    assert!(!is_cached().await);
    run_other_tasks().await;
    assert_eq!(connections(&node), 2);
}

/// The paused clock does not advance while this task is busy, so only the new password can
/// end the back-off.
#[tokio::test(start_paused = true)]
async fn a_change_of_the_password_file_ends_the_back_off() {
    let node = Node::new(Script::synced());
    let password = Arc::new(Mutex::new("old"));
    let read = Arc::clone(&password);
    let credentials = CredentialSource::reloaded(credentials("old"), move || {
        Ok(credentials(*read.lock().unwrap()))
    });
    let handle = start_with(node.clone(), credentials, TIMING);
    assert_eq!(query(&handle).await.0, "access-denied");
    assert!(handle.report().await.back_off.is_some());
    *password.lock().unwrap() = PASSWORD;
    assert_eq!(query(&handle).await.0, "access-denied");
    while handle.report().await.back_off.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(query(&handle).await.0, "serve");
    assert_eq!(connections(&node), 2);
}

#[tokio::test(start_paused = true)]
async fn the_report_contains_the_current_activity() {
    let node = Node::new(Script::frozen());
    let handle = start(node.clone(), TIMING);
    assert_eq!(handle.report().await.activity, Activity::Idle);
    let caller = handle.clone();
    let word = tokio::spawn(async move { query(&caller).await.0 });
    sleep(SECOND / 2).await;
    let activity = Activity::Probing { step: Step::Greeting, so_far: SECOND / 2 };
    assert_eq!(handle.report().await.activity, activity);
    assert_eq!(word.await.unwrap(), "stalled-greeting");
    advance(9 * SECOND).await;
    let report = handle.report().await;
    let Activity::Held { step: Step::Greeting, so_far, left } = report.activity else {
        panic!("{:?}", report.activity)
    };
    assert_eq!((so_far, left), (10 * SECOND, 70 * SECOND + SECOND));
    assert_eq!(report.counters.timeouts["greeting"], 1);
    node.set_script(Script::synced());
    run_other_tasks().await;
    assert_eq!(handle.report().await.activity, Activity::Idle);
    node.set_script(Script { password: "other".to_owned(), ..Script::synced() });
    advance(2 * SECOND).await;
    assert_eq!(query(&handle).await.0, "access-denied");
    assert_eq!(handle.report().await.back_off, Some(5 * SECOND));
    advance(SECOND).await;
    assert_eq!(handle.report().await.back_off, Some(4 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_caller_after_the_monitor_is_gone_gets_stopping() {
    let credentials = CredentialSource::fixed(credentials(PASSWORD));
    let node = Node::new(Script::synced());
    let (monitor, handle) = Monitor::new(node, settings(credentials, TIMING));
    let monitor = tokio::spawn(monitor.run());
    assert_eq!(query(&handle).await.0, "serve");
    monitor.abort();
    assert!(monitor.await.unwrap_err().is_cancelled());
    assert_eq!(query(&handle).await.0, "stopping");
}
