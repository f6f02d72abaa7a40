//! The faults. Each is a list of subcommands of `tests/galera/cluster`.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::sleep;

use crate::{CLUSTER, Outcome, cluster};

/// The node that gets the faults. Its addresses as in `tests/galera/cluster`.
pub const NODE: &str = "3";
pub const NODE_ADDRESS: &str = "10.77.0.3";

pub struct Fault {
    pub name: &'static str,
    /// Whether a prober may refuse on purpose while the fault lasts, although writes succeed.
    pub is_policy: bool,
    steps: &'static [Step],
}

enum Step {
    /// Runs a subcommand of the script.
    Run(&'static [&'static str]),
    /// Starts a subcommand, and does not wait for its end.
    Start(&'static [&'static str]),
    /// Waits for this many milliseconds.
    Wait(u64),
}

use Step::{Run, Start, Wait};

const fn fault(name: &'static str, steps: &'static [Step]) -> Fault {
    Fault { name, is_policy: false, steps }
}

const fn policy(name: &'static str, steps: &'static [Step]) -> Fault {
    Fault { name, is_policy: true, steps }
}

const FAULTS: &[Fault] = &[
    // The network.
    fault("partition", &[Run(&["partition", NODE]), Wait(10_000), Run(&["heal", NODE])]),
    fault(
        "blackhole of port 3306",
        &[Run(&["blackhole", NODE]), Wait(8_000), Run(&["unblackhole", NODE])],
    ),
    fault(
        "blackhole of the node",
        &[
            Run(&["exec", NODE, "bash", "-c", DROP_ALL]),
            Wait(8_000),
            Run(&["exec", NODE, "bash", "-c", DROP_NONE]),
        ],
    ),
    // As by a firewall that fails over: what the probers have open then never answers, and new
    // connections work. The node serves all the time.
    fault(
        "connections lost",
        &[
            Run(&["exec", NODE, "bash", "-c", DROP_REPLIES_TO_PROBERS]),
            Wait(2_500),
            Run(&["exec", NODE, "bash", "-c", DROP_ESTABLISHED]),
            Wait(20_000),
            Run(&["exec", NODE, "bash", "-c", DROP_NONE]),
        ],
    ),
    // The process.
    fault("freeze of 4 s", &[Run(&["freeze", NODE]), Wait(4_000), Run(&["thaw", NODE])]),
    fault("freeze of 12 s", &[Run(&["freeze", NODE]), Wait(12_000), Run(&["thaw", NODE])]),
    fault("SIGKILL", &[Run(&["kill", NODE]), Wait(4_000), Run(&["start-node", NODE])]),
    fault("SIGTERM", &[Run(&["shutdown", NODE]), Wait(4_000), Run(&["start-node", NODE])]),
    // State transfers.
    fault(
        "slow IST",
        &[
            Run(&["shutdown", NODE]),
            Run(&["join-held", NODE, "ist"]),
            Wait(6_000),
            Run(&["join-release", NODE]),
        ],
    ),
    fault(
        "slow SST",
        &[
            Run(&["shutdown", NODE]),
            Run(&["join-held", NODE, "sst"]),
            Wait(6_000),
            Run(&["join-release", NODE]),
        ],
    ),
    // Locks and limits.
    fault(
        "max_connections used up",
        &[
            Run(&["hold", NODE, "10", "holder", crate::PASSWORD]),
            Run(&["sql", NODE, "SET GLOBAL max_connections=10"]),
            Wait(8_000),
            Run(&["admin", NODE, "SET GLOBAL max_connections=DEFAULT"]),
            Run(&["background-end", NODE]),
        ],
    ),
    fault(
        "FTWRL",
        &[
            Run(&["background", NODE, "FLUSH TABLES WITH READ LOCK"]),
            Wait(8_000),
            Run(&["background-end", NODE]),
        ],
    ),
    // Takes exactly as long as the locks on its table are held: all nodes wait for it.
    fault(
        "DDL under TOI",
        &[
            Run(&["background", "1", "BACKUP LOCK truth.altered"]),
            Run(&["background", "2", "BACKUP LOCK truth.altered"]),
            Run(&["background", "3", "BACKUP LOCK truth.altered"]),
            Start(&["sql", "1", "ALTER TABLE truth.altered FORCE"]),
            Wait(8_000),
            Run(&["background-end", "1"]),
            Run(&["background-end", "2"]),
            Run(&["background-end", "3"]),
        ],
    ),
    // What operators set.
    fault(
        "wsrep_reject_queries",
        &[Run(&["reject", NODE, "ALL"]), Wait(6_000), Run(&["reject", NODE, "NONE"])],
    ),
    fault(
        "read_only",
        &[Run(&["read-only", NODE, "on"]), Wait(6_000), Run(&["read-only", NODE, "off"])],
    ),
    policy(
        "wsrep_desync",
        &[Run(&["desync", NODE, "on"]), Wait(8_000), Run(&["desync", NODE, "off"])],
    ),
    policy(
        "wsrep_on=OFF",
        &[
            Run(&["sql", NODE, "SET GLOBAL wsrep_on=OFF"]),
            Wait(8_000),
            Run(&["sql", NODE, "SET GLOBAL wsrep_on=ON"]),
        ],
    ),
    policy(
        "accounts locked",
        &[
            Run(&["sql", "1", "ALTER USER prober@'10.77.0.1_', haproxy@'10.77.0.1_' ACCOUNT LOCK"]),
            Wait(8_000),
            Run(&[
                "sql",
                "1",
                "ALTER USER prober@'10.77.0.1_', haproxy@'10.77.0.1_' ACCOUNT UNLOCK",
            ]),
        ],
    ),
];

/// Drops every packet of the node, in its own namespace.
const DROP_ALL: &str =
    "iptables -w -A INPUT -i eth0 -j DROP; iptables -w -A OUTPUT -o eth0 -j DROP";
const DROP_NONE: &str = "iptables -w -F INPUT; iptables -w -F OUTPUT";

/// Drops what the server sends to the probers, but not the packets that open a connection.
const DROP_REPLIES_TO_PROBERS: &str = "iptables -w -A OUTPUT -o eth0 -p tcp --sport 3306 \
    ! -d 10.77.0.254 --tcp-flags PSH PSH -j DROP";

/// Drops the packets of the connections that the probers have now, and no others.
const DROP_ESTABLISHED: &str = "
    ss -Htn state established '( sport = :3306 )' | while read -r _ _ _ peer; do
        [[ $peer == 10.77.0.1?:* ]] || continue
        iptables -w -A INPUT -p tcp -s ${peer%:*} --sport ${peer#*:} -j DROP
        iptables -w -A OUTPUT -p tcp -d ${peer%:*} --dport ${peer#*:} -j DROP
    done
    iptables -w -D OUTPUT 1";

/// The faults whose names contain one of these words; without words, all faults.
pub fn chosen(words: &str) -> Vec<&'static Fault> {
    let is_chosen = |fault: &&Fault| {
        words.trim().is_empty() || words.split_whitespace().any(|word| fault.name.contains(word))
    };
    FAULTS.iter().filter(is_chosen).collect()
}

impl Fault {
    pub async fn perform(&self) -> Outcome<()> {
        for step in self.steps {
            match step {
                Run(arguments) => cluster(arguments).await?,
                Start(arguments) => {
                    let mut command = Command::new(CLUSTER);
                    command.args(*arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
                }
                Wait(millis) => sleep(Duration::from_millis(*millis)).await,
            }
        }
        Ok(())
    }
}
