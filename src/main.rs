//! The `galera-probe` program: parse, log, run, exit code.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::exit;

use galera_probe::config::{Action, Config, Node};
use galera_probe::log::Log;
use galera_probe::verdict::Verdict;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

const REFUSE: i32 = 1;
const WRONG: i32 = 2;

fn main() {
    let config = Config::read(env::args_os()).unwrap_or_else(|error| error.exit());
    let code = run(config).unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error}");
        WRONG
    });
    exit(code);
}

fn run(config: Config) -> io::Result<i32> {
    let log = Log::start(config.log)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match config.action {
            Action::Serve { listen } => serve(listen, config.node).await,
            Action::Check => check(&config.node).await,
        }
    });
    log.flush();
    // Dropped, it would wait for a name lookup that hangs.
    runtime.shutdown_background();
    code
}

async fn serve(listen: SocketAddr, node: Node) -> io::Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = galera_probe::run::listen(listen).await.map_err(|error| {
        io::Error::new(error.kind(), format!("--listen {listen}: {error}: choose another address"))
    })?;
    tokio::select! {
        () = galera_probe::run::serve(listener, node) => {}
        _ = terminate.recv() => info!("SIGTERM: ending"),
        _ = interrupt.recv() => info!("SIGINT: ending"),
    }
    Ok(0)
}

async fn check(node: &Node) -> io::Result<i32> {
    let verdict = galera_probe::run::check(node).await;
    writeln!(io::stdout(), "{verdict}")?;
    Ok(match verdict {
        Verdict::Serve => 0,
        Verdict::Refuse(_) => REFUSE,
    })
}
