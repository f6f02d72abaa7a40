//! The system calls of an exchange and of a probe, as strace counts them.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::process::{NodeAccess, Process, exchange};

/// The counts are for a hundred, so that a share of one can be seen.
const EXCHANGES: usize = 100;

/// strace makes the program slow: without a pause it would find the next client waiting.
const PAUSE: Duration = Duration::from_millis(5);

/// How long strace may take to begin.
const BEGIN: Duration = Duration::from_secs(1);

pub fn count() -> Outcome {
    let target = NodeAccess::stand_in()?;
    for (what, age) in [("answers from what is known", "1h"), ("probes, each with a login", "0s")] {
        let (probe, _) = Process::probe(&target, &["--max-age", age])?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-c", "-U", "calls,errors,name", "-o", "/dev/stdout", "-p"]);
        let strace = strace.arg(probe.id().to_string()).stdout(Stdio::piped()).spawn()?;
        thread::sleep(BEGIN);
        for _ in 0..EXCHANGES {
            exchange(probe.http)?;
            thread::sleep(PAUSE);
        }
        Command::new("kill").args(["-INT", &strace.id().to_string()]).status()?;
        let counted = strace.wait_with_output()?;
        println!("{EXCHANGES} {what}\n{}", String::from_utf8_lossy(&counted.stdout));
    }
    Ok(())
}
