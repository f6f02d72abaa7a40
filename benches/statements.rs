//! What the server pays for a probe, by what it is asked: processor time of mariadbd for
//! a probe run, with no other connections and with 2,000 idle ones.
//!
//! `benches/statements` starts a real node and runs this before it.
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

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

/// Idle connections, as a busy node has them.
const IDLE: usize = 2000;

/// Probe runs in a batch: with 0.6 ms each, a tick of the server's clock (10 ms) is
/// under 2 %.
const BATCH: u32 = 1000;

/// Batches of each kind, one kind after the other, so that a machine that slows down
/// slows all of them.
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
/// As MariaDB is asked on a kept connection (`galera::repeated_statements`).
const SELECT: &str = "SELECT 'read_only',@@read_only,'wsrep_desync',@@wsrep_desync,'wsrep_on',\
    @@wsrep_on,'wsrep_reject_queries',@@wsrep_reject_queries,'wsrep_sst_donor_rejects_queries',\
    @@wsrep_sst_donor_rejects_queries";

/// What is asked, and whether on a connection that is kept.
const KINDS: [(&str, bool, &[&str]); 14] = [
    ("login, COM_QUIT and nothing else", false, &[]),
    ("the probe's own: SET, SHOW SESSION STATUS, SHOW SESSION VARIABLES", false, &STATEMENTS),
    ("without SET", false, &[STATUS, VARIABLES]),
    ("SHOW GLOBAL STATUS for SHOW SESSION STATUS", false, &[SET, GLOBAL_STATUS, VARIABLES]),
    ("SELECT @@… for SHOW SESSION VARIABLES", false, &[SET, STATUS, SELECT]),
    ("on a kept connection: the same", true, &STATEMENTS),
    ("kept: without SET", true, &[STATUS, VARIABLES]),
    ("kept: the probe's own, SHOW SESSION STATUS and SELECT @@…", true, &[STATUS, SELECT]),
    ("kept: SHOW SESSION STATUS alone", true, &[STATUS]),
    ("kept: SHOW SESSION STATUS LIKE 'nothing'", true, &[NO_STATUS]),
    ("kept: the same from information_schema.SESSION_STATUS", true, &[STATUS_TABLE]),
    ("kept: SHOW SESSION VARIABLES alone", true, &[VARIABLES]),
    ("kept: SHOW SESSION VARIABLES LIKE 'nothing'", true, &[NO_VARIABLE]),
    ("kept: SELECT @@… alone", true, &[SELECT]),
];

fn main() -> Outcome<()> {
    let (Ok(address), Ok(pid)) = (env::var("NODE"), env::var("NODE_PID")) else {
        println!("left out: benches/statements starts the server that this needs");
        return Ok(());
    };
    let password = env::var("GALERA_PROBE_PASSWORD").unwrap_or_default();
    let server = Server {
        address,
        credentials: Arc::new(Credentials::new("galera_probe", Password::new(password))?),
        stat: format!("/proc/{pid}/stat"),
    };
    println!("| what is asked | no other connections, µs | {IDLE} idle ones, µs |\n|---|---|---|");
    let alone = server.measure()?;
    let idle: Outcome<Vec<_>> = (0..IDLE).map(|_| server.log_in()).collect();
    let crowded = server.measure()?;
    drop(idle?);
    for ((name, ..), (alone, crowded)) in KINDS.iter().zip(alone.iter().zip(crowded)) {
        println!("| {name} | {alone:.0} | {crowded:.0} |");
    }
    Ok(())
}

struct Server {
    address: String,
    credentials: Arc<Credentials>,
    stat: String,
}

impl Server {
    /// The median for each kind, in microseconds of processor time a probe run.
    fn measure(&self) -> Outcome<Vec<f64>> {
        let mut taken = KINDS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for ((_, kept, statements), taken) in KINDS.iter().zip(&mut taken) {
                let before = self.ticks()?;
                match kept {
                    false => (0..BATCH).try_for_each(|_| self.ask(statements))?,
                    true => self.repeat(statements)?,
                }
                let ticks = self.ticks()? - before;
                taken.push(f64::from(ticks) * 10_000.0 / f64::from(BATCH));
            }
        }
        Ok(taken.map(median).into())
    }

    /// utime and stime, in hundredths of a second.
    fn ticks(&self) -> Outcome<u32> {
        let stat = fs::read_to_string(&self.stat)?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no stat line")?;
        let times: Vec<u32> =
            fields.split(' ').skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(times.iter().sum())
    }

    /// A whole probe run.
    fn ask(&self, statements: &[&str]) -> Outcome<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let mut session = Session::new(self.credentials.clone(), statements)?;
        loop {
            let (progress, output) = turn(&mut stream, &mut session)?;
            stream.write_all(&output)?;
            if let Progress::Done(_) = progress {
                // Until the server has closed its end, it has something left to do.
                stream.read_exact(&mut [0]).unwrap_err();
                return Ok(());
            }
        }
    }

    /// A batch on one connection.
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

    /// A connection that is logged in and says nothing.
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
