//! The `galera-probe` program: parse, log, run, exit code.

use std::env;
use std::io::{self, Write};
use std::process::exit;

use galera_probe::config::{Action, Config, Node};
use galera_probe::log::Log;
use galera_probe::run;
use galera_probe::server::{Listen, Listener};
use galera_probe::verdict::Verdict;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{error, info};

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
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match config.action {
            Action::Serve { listen } => serve(&listen, config.node).await,
            Action::Check => Ok(check(&config.node).await),
        }
    });
    let code = code.unwrap_or_else(|error| {
        error!("{error}");
        WRONG
    });
    log.flush();
    // Dropped, it would wait for a name lookup that hangs.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(listen: &[Listen], node: Node) -> io::Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut told = async move || {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    };
    let mut listeners = Vec::new();
    for listen in listen {
        let listener = Listener::bind(listen).await.map_err(|error| {
            let flag = format!("--listen {listen}");
            io::Error::new(error.kind(), format!("{flag}: {error}: choose another address"))
        })?;
        info!(address = %listener.address()?, "listening");
        listeners.push(listener);
    }
    let (stop, stopped) = oneshot::channel();
    let serving = run::serve(listeners, node, async { drop(stopped.await) });
    tokio::select! {
        () = serving => {}
        // The second signal ends at once.
        () = async { told().await; let _ = stop.send(()); told().await } => {}
    }
    Ok(0)
}

async fn check(node: &Node) -> i32 {
    let verdict = run::check(node).await;
    // The exit code says it too, where standard output takes nothing.
    let _ = writeln!(io::stdout(), "{verdict}");
    match verdict {
        Verdict::Serve => 0,
        Verdict::Refuse(_) => REFUSE,
    }
}
