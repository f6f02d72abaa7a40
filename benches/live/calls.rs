//! Counts the system calls of an exchange and of a probe run with strace.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::process::{NodeAccess, Process, exchange};

/// Exchanges per count. With a hundred, calls that only some exchanges make show too.
const EXCHANGES: usize = 100;

/// The pause between two exchanges. strace slows the program down: without a pause, the
/// next client would already be waiting, and the program would make fewer calls.
const PAUSE: Duration = Duration::from_millis(5);

/// The time that strace gets to attach.
const ATTACH: Duration = Duration::from_secs(1);

pub fn count() -> Outcome {
    let node = NodeAccess::stand_in()?;
    for (name, max_age) in
        [("responses from the cached verdict", "1h"), ("probe runs, each with a login", "0s")]
    {
        let (probe, _) = Process::probe(&node, &["--max-age", max_age])?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-c", "-U", "calls,errors,name", "-o", "/dev/stdout", "-p"]);
        let strace = strace.arg(probe.id().to_string()).stdout(Stdio::piped()).spawn()?;
        thread::sleep(ATTACH);
        for _ in 0..EXCHANGES {
            exchange(probe.http)?;
            thread::sleep(PAUSE);
        }
        Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
        let counted = strace.wait_with_output()?;
        println!("{EXCHANGES} {name}\n{}", String::from_utf8_lossy(&counted.stdout));
    }
    Ok(())
}
