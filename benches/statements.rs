//! Measures the server's processor time for a probe run, depending on the statements.
//!
//! Each kind of probe run is measured with no other connections and with 2,000 idle ones.
//! The script `benches/statements` starts a real node and runs this program against it.
#![allow(clippy::print_stdout, reason = "prints its figures")]

use std::env;
use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::STATEMENTS;
use galera_probe::mysql::{Credentials, Password, Session};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Idle connections, the number that a busy node may have.
const IDLE: usize = 2000;

/// Probe runs per batch. At 0.6 ms each, one tick of the server's clock (10 ms) is under
/// 2 % of a batch.
const BATCH: u32 = 1000;

/// Batches of each kind. The kinds take turns, so that a machine that slows down slows
/// all of them.
const ROUNDS: usize = 5;

const SET: &str = STATEMENTS[0];
const STATUS: &str = STATEMENTS[1];
const VARIABLES: &str = STATEMENTS[2];
const GLOBAL_STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_status',\
    'wsrep_connected','wsrep_local_index','wsrep_local_state','wsrep_ready')";
const STATUS_TABLE: &str = "SELECT * FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN \
    ('wsrep_cluster_status','wsrep_connected','wsrep_local_index','wsrep_local_state',\
    'wsrep_ready')";
const NO_STATUS: &str = "SHOW SESSION STATUS LIKE 'nothing'";
const NO_VARIABLE: &str = "SHOW SESSION VARIABLES LIKE 'nothing'";
/// The SELECT of a MariaDB node's known variables (`galera::KnownVariables`).
const SELECT: &str = "SELECT 'wsrep_on',@@GLOBAL.wsrep_on,'wsrep_desync',@@GLOBAL.wsrep_desync,\
    'wsrep_reject_queries',@@GLOBAL.wsrep_reject_queries,'wsrep_sst_donor_rejects_queries',\
    @@GLOBAL.wsrep_sst_donor_rejects_queries,'read_only',@@GLOBAL.read_only,'version',\
    @@GLOBAL.version";
/// The queries of prototype/main.go.
const PROTOTYPE: [&str; 2] =
    ["SHOW STATUS LIKE 'wsrep_local_state'", "SHOW VARIABLES LIKE 'read_only'"];
const MORE_STATUS: &str = "SHOW SESSION STATUS WHERE Variable_name IN ('wsrep_cluster_size',\
    'wsrep_cluster_status','wsrep_connected','wsrep_desync_count','wsrep_evs_state',\
    'wsrep_flow_control_active','wsrep_flow_control_paused','wsrep_flow_control_requested',\
    'wsrep_last_committed','wsrep_local_index','wsrep_local_recv_queue','wsrep_local_state',\
    'wsrep_local_state_comment','wsrep_provider_version','wsrep_ready')";

/// Name, whether the connection is kept, and statements.
const KINDS: [(&str, bool, &[&str]); 16] = [
    ("login, COM_QUIT and nothing else", false, &[]),
    ("the probe's own: SET, SHOW SESSION STATUS, SELECT @@…", false, &[SET, STATUS, SELECT]),
    ("its first: SET, SHOW SESSION STATUS, SHOW SESSION VARIABLES", false, &STATEMENTS),
    ("the prototype's: SHOW STATUS LIKE, SHOW VARIABLES LIKE", false, &PROTOTYPE),
    ("the probe's own without SET", false, &[STATUS, SELECT]),
    ("SHOW GLOBAL STATUS for SHOW SESSION STATUS", false, &[SET, GLOBAL_STATUS, SELECT]),
    ("the probe's own with 15 names of SHOW SESSION STATUS", false, &[SET, MORE_STATUS, SELECT]),
    (
        "kept connection: the probe's own, SHOW SESSION STATUS and SELECT @@…",
        true,
        &[STATUS, SELECT],
    ),
    ("kept connection: SHOW SESSION STATUS and SHOW SESSION VARIABLES", true, &[STATUS, VARIABLES]),
    ("kept connection: SHOW SESSION STATUS alone", true, &[STATUS]),
    ("kept connection: SHOW SESSION STATUS alone, 15 names", true, &[MORE_STATUS]),
    ("kept connection: SHOW SESSION STATUS LIKE 'nothing'", true, &[NO_STATUS]),
    ("kept connection: the same from information_schema.SESSION_STATUS", true, &[STATUS_TABLE]),
    ("kept connection: SHOW SESSION VARIABLES alone", true, &[VARIABLES]),
    ("kept connection: SHOW SESSION VARIABLES LIKE 'nothing'", true, &[NO_VARIABLE]),
    ("kept connection: SELECT @@… alone", true, &[SELECT]),
];

fn main() -> Outcome<()> {
    let (Ok(address), Ok(pid)) = (env::var("NODE"), env::var("NODE_PID")) else {
        println!("skipped: run benches/statements, which starts the server");
        return Ok(());
    };
    let password = env::var("GALERA_PROBE_PASSWORD").unwrap_or_default();
    let server = Server {
        address,
        credentials: Arc::new(Credentials::new("galera_probe", Password::new(password))?),
        stat: format!("/proc/{pid}/stat"),
    };
    println!("| statements | no other connections, µs | {IDLE} idle ones, µs |\n|---|---|---|");
    let alone = server.measure()?;
    let idle: Outcome<Vec<_>> = (0..IDLE).map(|_| server.log_in()).collect();
    let with_idle = server.measure()?;
    drop(idle?);
    for ((name, ..), (alone, with_idle)) in KINDS.iter().zip(alone.iter().zip(with_idle)) {
        println!("| {name} | {alone:.0} | {with_idle:.0} |");
    }
    Ok(())
}

struct Server {
    address: String,
    credentials: Arc<Credentials>,
    /// Path of the process's /proc/PID/stat.
    stat: String,
}

impl Server {
    /// Returns the median for each kind: microseconds of processor time per probe run.
    fn measure(&self) -> Outcome<Vec<f64>> {
        let mut times = KINDS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for ((_, kept, statements), times) in KINDS.iter().zip(&mut times) {
                let before = self.ticks()?;
                match kept {
                    false => (0..BATCH).try_for_each(|_| self.probe(statements))?,
                    true => self.repeat(statements)?,
                }
                let ticks = self.ticks()? - before;
                times.push(f64::from(ticks) * 10_000.0 / f64::from(BATCH));
            }
        }
        Ok(times.map(median).into())
    }

    /// Reads utime plus stime, in hundredths of a second.
    fn ticks(&self) -> Outcome<u32> {
        let stat = fs::read_to_string(&self.stat)?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no stat line")?;
        let times: Vec<u32> =
            fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(times.iter().sum())
    }

    /// Makes a whole probe run.
    fn probe(&self, statements: &[&str]) -> Outcome<()> {
        let mut connection = self.log_in()?;
        connection.query(statements)?;
        connection.quit()
    }

    /// Makes a batch of queries on one connection.
    fn repeat(&self, statements: &[&str]) -> Outcome<()> {
        let mut connection = self.log_in()?;
        (0..BATCH).try_for_each(|_| connection.query(statements))?;
        connection.quit()
    }

    fn log_in(&self) -> Outcome<Connection> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let session = Session::new(self.credentials.clone());
        let mut connection = Connection { stream, session };
        connection.run()?;
        Ok(connection)
    }
}

/// A connection that is logged in.
struct Connection {
    stream: TcpStream,
    session: Session,
}

impl Connection {
    /// Sends the statements, each after the reply to the one before it.
    fn query(&mut self, statements: &[&str]) -> Outcome<()> {
        for statement in statements {
            let mut output = BytesMut::new();
            self.session.query(statement, &mut output)?;
            self.stream.write_all(&output)?;
            self.run()?;
        }
        Ok(())
    }

    /// Passes bytes between the server and the session until the session is idle.
    fn run(&mut self) -> Outcome<()> {
        let (mut input, mut output) = ([0; 4096], BytesMut::new());
        while !self.session.is_idle() {
            let length = self.stream.read(&mut input)?;
            if length == 0 {
                return Err("the server closed the connection".into());
            }
            self.session.receive(&input[..length], &mut output)?;
            self.stream.write_all(&output.split())?;
        }
        Ok(())
    }

    /// Sends COM_QUIT. The server works until it closes the connection.
    fn quit(mut self) -> Outcome<()> {
        let mut output = BytesMut::new();
        self.session.quit(&mut output)?;
        self.stream.write_all(&output)?;
        self.stream.read_exact(&mut [0]).unwrap_err();
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
