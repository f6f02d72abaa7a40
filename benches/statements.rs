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
use galera_probe::mysql::{Credentials, Password, Progress, Session, Stage};

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
/// The probe's query to MariaDB on a kept connection (`galera::repeated_statements`).
const SELECT: &str = "SELECT 'read_only',@@read_only,'wsrep_desync',@@wsrep_desync,'wsrep_on',\
    @@wsrep_on,'wsrep_reject_queries',@@wsrep_reject_queries,'wsrep_sst_donor_rejects_queries',\
    @@wsrep_sst_donor_rejects_queries";

/// Name, whether the connection is kept, and statements.
const KINDS: [(&str, bool, &[&str]); 14] = [
    ("login, COM_QUIT and nothing else", false, &[]),
    ("the probe's own: SET, SHOW SESSION STATUS, SHOW SESSION VARIABLES", false, &STATEMENTS),
    ("without SET", false, &[STATUS, VARIABLES]),
    ("SHOW GLOBAL STATUS for SHOW SESSION STATUS", false, &[SET, GLOBAL_STATUS, VARIABLES]),
    ("SELECT @@… for SHOW SESSION VARIABLES", false, &[SET, STATUS, SELECT]),
    ("on a kept connection: the same", true, &STATEMENTS),
    ("kept connection: without SET", true, &[STATUS, VARIABLES]),
    (
        "kept connection: the probe's own, SHOW SESSION STATUS and SELECT @@…",
        true,
        &[STATUS, SELECT],
    ),
    ("kept connection: SHOW SESSION STATUS alone", true, &[STATUS]),
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
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let mut session = Session::new(self.credentials.clone(), statements)?;
        loop {
            let (progress, output) = turn(&mut stream, &mut session)?;
            stream.write_all(&output)?;
            if let Progress::Done(_) = progress {
                // After COM_QUIT, the server works until it closes the connection.
                stream.read_exact(&mut [0]).unwrap_err();
                return Ok(());
            }
        }
    }

    /// Makes a batch of queries on one connection.
    fn repeat(&self, statements: &[&str]) -> Outcome<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let mut session = Session::new(self.credentials.clone(), &[])?.kept();
        for _ in 0..=BATCH {
            loop {
                let (progress, output) = turn(&mut stream, &mut session)?;
                stream.write_all(&output)?;
                if let Progress::Done(_) = progress {
                    break;
                }
            }
            let mut output = BytesMut::new();
            session.query(statements, &mut output)?;
            stream.write_all(&output)?;
        }
        Ok(())
    }

    /// Opens a connection, logs in, and leaves it idle.
    fn log_in(&self) -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(&self.address)?;
        let mut session = Session::new(self.credentials.clone(), &STATEMENTS)?;
        while let (Progress::Wait(Stage::Greeting | Stage::Login), output) =
            turn(&mut stream, &mut session)?
        {
            stream.write_all(&output)?;
        }
        Ok(stream)
    }
}

/// Reads once and passes the bytes to the session. Returns its progress and output.
fn turn(stream: &mut TcpStream, session: &mut Session) -> Outcome<(Progress, BytesMut)> {
    let mut input = [0; 4096];
    let mut output = BytesMut::new();
    let length = stream.read(&mut input)?;
    if length == 0 {
        return Err("the server closed the connection".into());
    }
    Ok((session.receive(&input[..length], &mut output)?, output))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
