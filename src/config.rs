//! Arguments and environment to [`Config`], whole or not at all.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tracing::Level;

use crate::connect::Address;
use crate::galera::Policy;
use crate::mysql::{Credentials, Password};
use crate::probe::Deadlines;
use crate::target::{Settings, Timing};

/// The longest password; a file that holds more is not a password file.
const MAX_PASSWORD: u64 = 4096;

const PASSWORD_VARIABLE: &str = "GALERA_PROBE_PASSWORD";

/// Everything that the program was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to do.
    pub action: Action,
    /// Which node to ask, and how.
    pub node: Node,
    /// How to log.
    pub log: LogSettings,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer balancers until told to stop.
    Serve {
        /// Where to listen.
        listen: SocketAddr,
    },
    /// Ask once.
    Check,
}

/// Which node to ask, and how.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it listens.
    pub address: Address,
    /// How it is asked.
    pub settings: Settings,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// The least level that is logged.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl Config {
    /// Reads a command line, the program's name first, and the environment.
    ///
    /// # Errors
    /// What is wrong, with the flag's name and the fix; also `--help` and
    /// `--version`, as clap has it.
    pub fn read<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let (action, node, timing, log) = match Cli::try_parse_from(arguments)?.command {
            Command::Serve { listen, node, timing, log } => {
                (Action::Serve { listen }, node, timing.read(), log)
            }
            Command::Check { node, log } => (Action::Check, node, Timing::default(), log),
        };
        let log = LogSettings { format: log.log_format, level: log.log_level };
        Ok(Config { action, node: node.read(timing)?, log })
    }
}

/// Tells a load balancer whether a MariaDB Galera node should get traffic.
#[derive(Parser)]
#[command(name = "galera-probe", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer balancers over HTTP: 200 to give the node traffic, else 503.
    Serve {
        /// Address and port for HTTP.
        #[arg(
            long,
            env = "GALERA_PROBE_LISTEN",
            hide_env_values = true,
            value_name = "ADDRESS:PORT",
            default_value = "0.0.0.0:9200",
            value_parser = parse_listen
        )]
        listen: SocketAddr,
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        timing: TimingArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Ask the node once: one line out, exit code 0 to serve, 1 to refuse.
    Check {
        #[command(flatten)]
        node: NodeArgs,
        #[command(flatten)]
        log: LogArgs,
    },
}

#[derive(Args)]
struct NodeArgs {
    /// The node: HOST:PORT, [IPV6]:PORT or unix:PATH.
    #[arg(
        long,
        env = "GALERA_PROBE_TARGET",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:3306",
        value_parser = parse_address
    )]
    target: Address,
    /// The account to log in with.
    #[arg(
        long,
        env = "GALERA_PROBE_USER",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "galera_probe"
    )]
    user: String,
    /// File that holds the password; GALERA_PROBE_PASSWORD is the other way.
    #[arg(long, env = "GALERA_PROBE_PASSWORD_FILE", hide_env_values = true, value_name = "PATH")]
    password_file: Option<PathBuf>,
    /// Time for each step: connect, greeting, login, query.
    #[arg(
        long,
        env = "GALERA_PROBE_STEP_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = parse_timeout
    )]
    step_timeout: Duration,
    /// Time for the whole dialogue with the node.
    #[arg(
        long,
        env = "GALERA_PROBE_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "2s",
        value_parser = parse_timeout
    )]
    timeout: Duration,
    /// The node is a plain server: one without Galera may serve.
    #[arg(long, env = "GALERA_PROBE_STANDALONE", hide_env_values = true)]
    standalone: bool,
}

#[derive(Args)]
struct TimingArgs {
    /// Age up to which a verdict is given again without asking; 0s: none.
    #[arg(
        long,
        env = "GALERA_PROBE_MAX_AGE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "1s",
        value_parser = parse_duration
    )]
    max_age: Duration,
    /// Longest time to stay fit after a stall before serving again.
    #[arg(
        long,
        env = "GALERA_PROBE_SETTLE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "10s",
        value_parser = parse_duration
    )]
    settle: Duration,
    /// Time to serve on a node that was fit and now times out.
    #[arg(
        long,
        env = "GALERA_PROBE_GRACE",
        hide_env_values = true,
        value_name = "DURATION",
        default_value = "0s",
        value_parser = parse_duration
    )]
    grace: Duration,
}

#[derive(Args)]
struct LogArgs {
    /// Form of the log lines on standard error.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// Least level that is logged: error, warn, info, debug or trace.
    #[arg(
        long,
        env = "GALERA_PROBE_LOG_LEVEL",
        hide_env_values = true,
        value_name = "LEVEL",
        default_value = "info",
        value_parser = parse_level
    )]
    log_level: Level,
}

impl NodeArgs {
    fn read(self, timing: Timing) -> Result<Node, clap::Error> {
        let password = read_password(self.password_file.as_deref())?;
        let credentials = Credentials::new(self.user, password)
            .map_err(|error| invalid(format_args!("--user: {error}")))?;
        Ok(Node {
            address: self.target,
            settings: Settings {
                credentials: Arc::new(credentials),
                deadlines: Deadlines { step: self.step_timeout, whole: self.timeout },
                policy: Policy { standalone: self.standalone },
                timing,
            },
        })
    }
}

impl TimingArgs {
    fn read(self) -> Timing {
        Timing { max_age: self.max_age, settle: self.settle, grace: self.grace }
    }
}

fn invalid(message: impl Display) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, message)
}

/// The password's bytes come from a file or a variable, never from an argument,
/// which every user of the machine can read.
fn read_password(file: Option<&Path>) -> Result<Password, clap::Error> {
    let variable = env::var_os(PASSWORD_VARIABLE).filter(|value| !value.is_empty());
    match (file, variable) {
        (None, None) => Ok(Password::default()),
        (None, Some(value)) => Ok(Password::new(value.into_encoded_bytes())),
        (Some(path), None) => read_password_file(path),
        (Some(_), Some(_)) => Err(invalid(format_args!(
            "--password-file and {PASSWORD_VARIABLE} are both set: unset one of them"
        ))),
    }
}

fn read_password_file(path: &Path) -> Result<Password, clap::Error> {
    let flag = format!("--password-file '{}'", path.display());
    let mut password = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PASSWORD + 1).read_to_end(&mut password))
        .map_err(|error| invalid(format_args!("{flag} cannot be read: {error}")))?;
    // The line end that editors and `echo` leave.
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    match password.len() {
        0 => Err(invalid(format_args!(
            "{flag} is empty: put the password in it, or leave the flag out for an account \
             without a password"
        ))),
        length if length as u64 > MAX_PASSWORD => {
            Err(invalid(format_args!("{flag} holds more than {MAX_PASSWORD} bytes")))
        }
        _ => Ok(Password::new(password)),
    }
}

fn parse_address(value: &str) -> Result<Address, String> {
    if let Some(path) = value.strip_prefix("unix:") {
        return match path {
            "" => Err("the path is missing: write unix:/run/mysqld/mysqld.sock".to_owned()),
            path => Ok(Address::Unix(path.into())),
        };
    }
    let form = "write HOST:PORT as in 127.0.0.1:3306, [IPV6]:PORT, or unix:PATH";
    let (host, port) = value.rsplit_once(':').ok_or(format!("the port is missing: {form}"))?;
    let port = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(format!("the port is not a number from 1 to 65535: {form}")),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err(format!("no IPv6 address stands between the brackets: {form}")),
        None if host.contains(':') => {
            return Err("an IPv6 address goes into brackets: write [::1]:3306".to_owned());
        }
        None => host,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(format!("the host is not a name or an address: {form}"));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn parse_listen(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| {
        "write ADDRESS:PORT with a numeric address, as in 0.0.0.0:9200 or [::]:9200".to_owned()
    })
}

/// Up to an hour: what is longer is a mistake.
fn parse_duration(value: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(value)
        .map_err(|_| "write a number with its unit, as in 1500ms or 2s".to_owned())?;
    match duration <= Duration::from_secs(3600) {
        true => Ok(duration),
        false => Err("it must be at most 1h".to_owned()),
    }
}

/// Zero would refuse every node.
fn parse_timeout(value: &str) -> Result<Duration, String> {
    match parse_duration(value)? {
        timeout if timeout < Duration::from_millis(1) => Err("it must be at least 1ms".to_owned()),
        timeout => Ok(timeout),
    }
}

fn parse_level(value: &str) -> Result<Level, String> {
    match value {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("write error, warn, info, debug or trace".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn targets_are_taken_in_every_form_and_shown_as_they_were_given() {
        for (value, address) in [
            ("127.0.0.1:3306", tcp("127.0.0.1", 3306)),
            ("[::1]:3307", tcp("::1", 3307)),
            ("node-1.db_a.svc.cluster.local.:1", tcp("node-1.db_a.svc.cluster.local.", 1)),
            ("unix:/run/my sql.sock", Address::Unix("/run/my sql.sock".into())),
        ] {
            let parsed = parse_address(value);
            assert_eq!(parsed.as_ref(), Ok(&address));
            assert_eq!(address.to_string(), value);
        }
    }

    #[test]
    fn targets_that_name_no_node_are_refused_with_the_fix() {
        for (value, fix) in [
            ("db1", "write HOST:PORT"),
            ("", "write HOST:PORT"),
            (":3306", "write HOST:PORT"),
            ("db1:", "1 to 65535"),
            ("db1:0", "1 to 65535"),
            ("db1:65536", "1 to 65535"),
            ("::1:3306", "write [::1]:3306"),
            ("[db1]:3306", "no IPv6 address"),
            ("[::1:3306", "brackets"),
            ("my host:3306", "not a name"),
            ("user@db1:3306", "not a name"),
            ("mysql://db1:3306", "brackets"),
            ("unix:", "write unix:/"),
        ] {
            let error = parse_address(value).unwrap_err();
            assert!(error.contains(fix), "{value}: {error}");
        }
    }

    #[test]
    fn timeouts_are_taken_as_people_write_them_and_within_bounds() {
        for (value, milliseconds) in
            [("1500ms", 1500), ("2s", 2000), ("1s 500ms", 1500), ("1h", 3_600_000)]
        {
            assert_eq!(parse_timeout(value), Ok(Duration::from_millis(milliseconds)));
        }
        for value in ["", "2", "two", "-1s", "0s", "0ms", "999us", "61m", "99999999999999999999s"] {
            assert!(parse_timeout(value).is_err(), "{value}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
