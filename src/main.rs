//! The `galera-probe` program: parse, log, run, exit code.

use std::env;
use std::io::{self, ErrorKind, Write};
use std::path::{self, Path};
use std::process::exit;

use galera_probe::cli::{self, Action, Change, Config, Serve};
use galera_probe::commands::serve::{self, Stop};
use galera_probe::health::Verdict;
use galera_probe::os::logging::Log;
use galera_probe::os::maintenance_file;
use galera_probe::server::{Listen, Listener};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

const REFUSE: i32 = 1;
const WRONG: i32 = 2;

fn main() {
    let config = Config::read(env::args_os()).unwrap_or_else(|error| error.exit());
    let code = start(config).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error}");
        WRONG
    });
    exit(code);
}

fn start(config: Config) -> io::Result<i32> {
    let log = Log::start(config.log)?;
    for variable in cli::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        warn!(variable, "no flag has this variable: see --help");
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // Whatever wakes a task is one system call cheaper than what wakes `block_on`.
    let acting = runtime.spawn(act(config.action));
    let code = runtime.block_on(acting).unwrap_or_else(|error| Err(error.into()));
    let code = code.unwrap_or_else(|error| {
        error!("{error}");
        WRONG
    });
    log.flush();
    // Dropped, it would wait for a name lookup that hangs.
    runtime.shutdown_background();
    Ok(code)
}

async fn act(action: Action) -> io::Result<i32> {
    match action {
        Action::Serve(config) => serve(*config).await,
        Action::Check { node, role } => Ok(say_verdict(serve::check(&node, role).await)),
        Action::Via { url, patience } => {
            let (serves, line) = serve::check_via(&url, patience).await?;
            Ok(say(serves, &line))
        }
        Action::Maintenance { file, change } => maintain(&file, change),
    }
}

async fn serve(config: Serve) -> io::Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut told = async move || {
        tokio::select! {
            _ = terminate.recv() => {
                info!("SIGTERM: stopping");
                Stop::Drain
            }
            _ = interrupt.recv() => {
                info!("SIGINT: stopping");
                Stop::Now
            }
        }
    };
    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(bind("--listen", listen, "listening").await?);
    }
    let admin = match &config.admin_listen {
        Some(listen) => Some(bind("--admin-listen", listen, "admin pages").await?),
        None => None,
    };
    if let Some(file) = &config.maintenance_file {
        // As `maintenance on` may be told it in another folder.
        info!(path = %path::absolute(file)?.display(), "maintenance file");
    }
    let (stop, stopped) = oneshot::channel();
    let serving =
        serve::serve(listeners, admin, config, async { stopped.await.unwrap_or(Stop::Now) });
    tokio::select! {
        () = serving => {}
        // The second signal ends at once.
        () = async { let _ = stop.send(told().await); told().await; } => {}
    }
    Ok(0)
}

async fn bind(flag: &str, listen: &Listen, what: &str) -> io::Result<Listener> {
    let listener = Listener::bind(listen).await.map_err(|error| {
        let fix = fix(listen, error.kind());
        io::Error::new(error.kind(), format!("{flag} {listen}: {error}: {fix}"))
    })?;
    info!(address = %listener.address(), "{what}");
    Ok(listener)
}

/// What to do where an address cannot be listened on.
fn fix(listen: &Listen, error: ErrorKind) -> &'static str {
    match (listen, error) {
        (Listen::Tcp(_), ErrorKind::AddrInUse) => {
            "another program listens there (ss -ltnp shows which): stop it, or choose another port"
        }
        (Listen::Tcp(_), ErrorKind::PermissionDenied) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE: choose a higher one"
        }
        (Listen::Unix(_), ErrorKind::AddrInUse) => {
            "another program listens there (ss -lxp shows which), or the file is no socket: \
             choose another path"
        }
        (Listen::Unix(_), ErrorKind::NotFound) => "make its folder first",
        (Listen::Unix(_), ErrorKind::PermissionDenied) => {
            "let this user write into its folder, or choose another path"
        }
        _ => "choose another address",
    }
}

fn maintain(file: &Path, change: Change) -> io::Result<i32> {
    let done = match change {
        Change::On => maintenance_file::on(file).map(|()| true),
        Change::Off => maintenance_file::off(file).map(|()| false),
        Change::Status => maintenance_file::status(file),
    };
    let is_on = done.map_err(|error| {
        let file = file.display();
        let fix = match error.kind() {
            ErrorKind::NotFound => ": make its folder first, and give serve the same path",
            _ => "",
        };
        io::Error::new(error.kind(), format!("--maintenance-file '{file}': {error}{fix}"))
    })?;
    say(true, if is_on { "on" } else { "off" });
    Ok(0)
}

fn say_verdict(verdict: Verdict) -> i32 {
    say(verdict == Verdict::Serve, &verdict.to_string())
}

/// The exit code says it too, where standard output takes nothing.
fn say(serves: bool, line: &str) -> i32 {
    let _ = writeln!(io::stdout(), "{line}");
    if serves { 0 } else { REFUSE }
}
