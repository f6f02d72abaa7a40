//! The probers: starts them, each in a namespace with an address of its own, and asks them.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::faults::NODE_ADDRESS;
use crate::score::Answer;
use crate::{CLUSTER, Clock, Log, Outcome, PASSWORD, text};

/// As a balancer asks.
const INTERVAL: Duration = Duration::from_secs(1);

/// A balancer's timeout, after which it counts a failure. The README recommends it for the
/// program's own deadline of 2 s.
const TIMEOUT: Duration = Duration::from_secs(3);

/// HAProxy asks the node once a second by itself. Its verdict is read more often, so that
/// reading it adds no delay.
const HAPROXY_INTERVAL: Duration = Duration::from_millis(100);

/// How long a prober may take to answer for the first time.
const START: Duration = Duration::from_secs(10);

pub struct Prober {
    pub name: &'static str,
    answers: Log<Answer>,
    /// Killed when this value is dropped.
    _process: Child,
}

impl Prober {
    /// Starts the process, waits for its first answer, and asks it from then on.
    async fn start(
        name: &'static str,
        question: Question,
        mut command: Command,
        log: File,
        clock: Clock,
    ) -> Outcome<Self> {
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let prober = Self { name, answers: Log::default(), _process: command.spawn()? };
        until_answered(&question).await.map_err(|error| format!("{name}: {error}"))?;
        tokio::spawn(ask(question, clock, prober.answers.clone()));
        Ok(prober)
    }

    pub fn answers(&self) -> Vec<(Answer, String)> {
        self.answers.all()
    }

    pub fn last(&self) -> Option<(Answer, String)> {
        self.answers.last()
    }
}

/// Starts the probers that this machine has.
pub async fn start(clock: Clock, directory: &Path) -> Outcome<Vec<Prober>> {
    let probe = env::var("PROBE").unwrap_or(env!("CARGO_BIN_EXE_galera-probe").to_owned());
    let mut all = Vec::new();
    for (number, (name, flags)) in (1..).zip(OURS) {
        if flags.contains(&"--causality-check") && !knows(&probe, "--causality-check").await? {
            println!("left out, because the program does not know the flag: {name}");
            continue;
        }
        all.push((name, Question::Http(number), ours(&probe, number, flags)));
    }
    match env::var("PROTOTYPE") {
        Ok(path) => all.push(("Go prototype", Question::Http(5), prototype(&path, 5))),
        Err(_) => println!("left out, because it is not built: Go prototype"),
    }
    let socket = directory.join("haproxy.socket");
    let haproxy = haproxy(directory, &socket, 6)?;
    all.push(("HAProxy mysql-check", Question::Haproxy(socket), haproxy));
    all.push(("clustercheck", Question::Http(7), clustercheck(7)?));

    let mut probers = Vec::new();
    for (name, question, command) in all {
        let log = File::create(directory.join(format!("{}.log", file_name(name))))?;
        probers.push(Prober::start(name, question, command, log, clock).await?);
    }
    Ok(probers)
}

/// The program with its defaults and its modes.
const OURS: [(&str, &[&str]); 4] = [
    ("galera-probe", &[]),
    ("galera-probe --max-age 0s", &["--max-age", "0s"]),
    ("galera-probe --keep-connection 60s", &["--keep-connection", "60s"]),
    ("galera-probe --causality-check always", &["--causality-check", "always"]),
];

async fn knows(probe: &str, flag: &str) -> Outcome<bool> {
    let output = Command::new(probe).args(["serve", "--help"]).output().await?;
    Ok(text(&output.stdout).contains(flag))
}

fn ours(probe: &str, number: u8, flags: &[&str]) -> Command {
    let mut command = within(number, probe);
    command.args(["serve", "--target", &format!("{NODE_ADDRESS}:3306"), "--user", "prober"]);
    command.args(["--ssl-mode", "disabled", "--listen", &listen(number)]).args(flags);
    command.env("GALERA_PROBE_PASSWORD", PASSWORD);
    command
}

fn prototype(path: &str, number: u8) -> Command {
    let mut command = within(number, path);
    command.env("PROTOTYPE_DSN", format!("prober:{PASSWORD}@tcp({NODE_ADDRESS}:3306)/"));
    command.env("PROTOTYPE_LISTEN", listen(number));
    command
}

/// Acts on the first failure and the first success, so as to be compared with the others.
fn haproxy(directory: &Path, socket: &Path, number: u8) -> io::Result<Command> {
    let path = directory.join("haproxy.cfg");
    let config = format!(
        "global\n  stats socket {}\n\
         defaults\n  mode tcp\n  timeout connect 1s\n  timeout check 1s\n  timeout client 30s\n  \
         timeout server 30s\n\
         listen db\n  bind 127.0.0.1:3306\n  option mysql-check user haproxy\n  \
         server node {NODE_ADDRESS}:3306 check inter 1s fall 1 rise 1\n",
        socket.display()
    );
    fs::write(&path, config)?;
    let mut command = within(number, "haproxy");
    command.arg("-f").arg(path);
    Ok(command)
}

/// The script `clustercheck`, behind this program as inetd.
fn clustercheck(number: u8) -> io::Result<Command> {
    let mut command = within(number, env::current_exe()?);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/truth/clustercheck");
    command.args(["inetd", &listen(number), script]);
    command.env("NODE", NODE_ADDRESS).env("NODE_USER", "prober").env("MYSQL_PWD", PASSWORD);
    Ok(command)
}

/// A command in the namespace of the prober of this number.
fn within(number: u8, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(CLUSTER);
    command.args(["exec", &format!("p{number}")]).arg(program);
    // The daemons of Debian are not in the PATH of every user.
    command.env("PATH", format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default()));
    command
}

fn listen(number: u8) -> String {
    format!("10.77.0.1{number}:9200")
}

pub fn file_name(name: &str) -> String {
    let letters = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    letters.trim_matches('-').to_owned()
}

/// How a prober is asked.
enum Question {
    /// By GET / to the prober of this number.
    Http(u8),
    /// By the state of its server, through its stats socket.
    Haproxy(PathBuf),
}

async fn until_answered(question: &Question) -> Outcome<()> {
    let answered = async {
        while question.ask().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    Ok(timeout(START, answered).await.map_err(|_| "no answer to the first question")?)
}

/// Asks once an interval. If an answer takes longer, the next question follows it at once.
async fn ask(question: Question, clock: Clock, log: Log<Answer>) {
    let mut ticks = interval(match question {
        Question::Http(_) => INTERVAL,
        Question::Haproxy(_) => HAPROXY_INTERVAL,
    });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = clock.now();
        let (serves, word) = match timeout(TIMEOUT, question.ask()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, "no answer".to_owned()),
        };
        log.add(Answer { asked, answered: clock.now(), serves }, word);
    }
}

impl Question {
    /// Returns whether the prober serves, and its reason.
    async fn ask(&self) -> io::Result<(bool, String)> {
        match self {
            Self::Http(number) => get(&listen(*number)).await,
            Self::Haproxy(socket) => server_state(socket).await,
        }
    }
}

/// Sends a request and reads the response until the prober closes. The reason is the first
/// line of the body.
async fn get(address: &str) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    let response = text(&response);
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok((true, "serve".to_owned())),
        Some(_) => Ok((false, body.lines().next().unwrap_or_default().to_owned())),
        None => Err(io::Error::other("no response")),
    }
}

/// Reads the state of HAProxy's only server: `UP` or `DOWN`, and the result of its last check.
async fn server_state(socket: &Path) -> io::Result<(bool, String)> {
    let mut stats = UnixStream::connect(socket).await?;
    stats.write_all(b"show stat\n").await?;
    let mut csv = String::new();
    stats.read_to_string(&mut csv).await?;
    let mut rows = csv.trim_start_matches("# ").lines().map(|line| line.split(','));
    let names: Vec<_> = rows.next().ok_or(io::Error::other("no statistics"))?.collect();
    let server = rows.map(Iterator::collect::<Vec<_>>).find(|row| row.get(1) == Some(&"node"));
    let column = |name| {
        let column = names.iter().position(|found| *found == name)?;
        server.as_ref()?.get(column).copied()
    };
    let check = column("check_status").unwrap_or_default().trim_start_matches("* ");
    match column("status") {
        Some("UP") => Ok((true, "serve".to_owned())),
        Some(_) => Ok((false, check.to_owned())),
        None => Err(io::Error::other("no server in the statistics")),
    }
}

/// Runs the script for each connection, with the connection as its standard input and output,
/// as inetd does.
pub fn inetd(address: &str, script: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut command = std::process::Command::new(script);
        command.stdin(OwnedFd::from(stream.try_clone()?));
        command.stdout(OwnedFd::from(stream.try_clone()?));
        let mut child = command.spawn()?;
        thread::spawn(move || {
            // If the client has gone, all of these fail, and nothing has to be done.
            let _ = child.wait();
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 4096]);
        });
    }
    Ok(())
}
