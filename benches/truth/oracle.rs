//! The oracle writes rows through the node, as an application does that has no pool: each
//! row by MariaDB's own client, on a new connection.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::faults::NODE_ADDRESS;
use crate::score::{Millis, SLOW_COMMIT, Write, truth};
use crate::{Clock, Log, PASSWORD, text};

/// The time between the beginnings of two writes. They do not wait for each other.
const INTERVAL: Duration = Duration::from_millis(SLOW_COMMIT);

/// A row that is not committed within this time counts as failed.
const DEADLINE: Duration = Duration::from_secs(1);

pub struct Oracle {
    writes: Log<Write>,
    clock: Clock,
}

impl Oracle {
    pub fn start(clock: Clock) -> Self {
        let writes = Log::default();
        let log = writes.clone();
        tokio::spawn(async move {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            for row in 1.. {
                ticks.tick().await;
                tokio::spawn(write(row, clock, log.clone()));
            }
        });
        Self { writes, clock }
    }

    /// All writes in the order of their beginning, and their errors.
    pub fn writes(&self) -> Vec<(Write, String)> {
        let mut writes = self.writes.all();
        writes.sort_by_key(|(write, _)| write.begun);
        writes
    }

    /// Whether the node has served for at least four of the last five seconds, and does now.
    pub fn writes_succeed(&self) -> bool {
        const RECENT: Millis = 5000;
        let since = self.clock.now().saturating_sub(RECENT);
        let mut recent: Vec<_> = self.writes().into_iter().map(|(write, _)| write).collect();
        recent.retain(|write| write.begun >= since);
        match truth(&recent).last() {
            Some(span) => span.serves && span.time.end - span.time.start >= RECENT * 4 / 5,
            None => false,
        }
    }
}

/// Writes a row with a number of its own, so that no write waits for the lock of another.
async fn write(row: u64, clock: Clock, log: Log<Write>) {
    let begun = clock.now();
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--host", NODE_ADDRESS, "--port=3306", "--user=oracle"]);
    command.args(["--connect-timeout=1", "--execute"]);
    command.arg(format!("INSERT INTO truth.written VALUES ({row})"));
    command.env("MYSQL_PWD", PASSWORD).stdin(Stdio::null()).kill_on_drop(true);
    let (committed, word) = match timeout(DEADLINE, command.output()).await {
        Ok(Ok(output)) => (output.status.success(), short(&text(&output.stderr))),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, "deadline".to_owned()),
    };
    log.add(Write { begun, ended: clock.now(), committed }, word);
}

/// The number of the client's error: it prints `ERROR 1047 (08S01) at line 1: ...`, sometimes
/// after the statement.
fn short(error: &str) -> String {
    let line = error.lines().find(|line| line.starts_with("ERROR")).unwrap_or(error);
    line.split(" (").next().unwrap_or_default().to_owned()
}
