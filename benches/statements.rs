//! What the server pays for a probe, by what it is asked: processor time of mariadbd for
//! a dialogue, with no other connections and with 2,000 idle ones.
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

/// Dialogues in a batch: with 0.6 ms each, a tick of the server's clock (10 ms) is
/// about 3 %, and less in a median.
const BATCH: u32 = 500;

/// Batches of each kind, one kind after the other, so that a machine that slows down
/// slows all of them.
const ROUNDS: usize = 7;

const STATUS: &str = STATEMENTS[1];
const VARIABLES: &str = STATEMENTS[2];
const GLOBAL_STATUS: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_cluster_status',\
    'wsrep_connected','wsrep_local_index','wsrep_local_state','wsrep_ready')";
const STATUS_TABLE: &str = "SELECT * FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME IN \
    ('wsrep_cluster_status','wsrep_connected','wsrep_local_index','wsrep_local_state',\
    'wsrep_ready')";
const ONE_STATUS: &str = "SHOW SESSION STATUS LIKE 'wsrep_ready'";
const NO_STATUS: &str = "SHOW SESSION STATUS LIKE 'no such'";
const ONE_VARIABLE: &str = "SHOW SESSION VARIABLES LIKE 'wsrep_on'";
const SELECT: &str = "SELECT 'read_only',@@read_only,'wsrep_desync',@@wsrep_desync,'wsrep_on',\
    @@wsrep_on,'wsrep_reject_queries',@@wsrep_reject_queries,'wsrep_sst_donor_rejects_queries',\
    @@wsrep_sst_donor_rejects_queries";
const SET: &str = STATEMENTS[0];

/// What is asked in one dialogue, after the login.
const KINDS: [(&str, &[&str]); 13] = [
    ("login and COM_QUIT alone", &[]),
    ("SET", &[SET]),
    ("the probe's own", &STATEMENTS),
    ("SHOW GLOBAL STATUS", &[SET, GLOBAL_STATUS, VARIABLES]),
    ("SELECT", &[SET, STATUS, SELECT]),
    ("without SET", &[STATUS, VARIABLES]),
    ("status only", &[STATUS]),
    ("variables only", &[VARIABLES]),
    ("select only", &[SELECT]),
    ("status table", &[STATUS_TABLE]),
    ("one status like", &[ONE_STATUS]),
    ("no status like", &[NO_STATUS]),
    ("one variable like", &[ONE_VARIABLE]),
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
    for ((name, _), (alone, crowded)) in KINDS.iter().zip(alone.iter().zip(crowded)) {
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
    /// The median for each kind, in microseconds of processor time a dialogue.
    fn measure(&self) -> Outcome<Vec<f64>> {
        let mut taken = KINDS.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            for ((_, statements), taken) in KINDS.iter().zip(&mut taken) {
                let before = self.ticks()?;
                for _ in 0..BATCH {
                    self.ask(statements)?;
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

    /// A whole dialogue.
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
