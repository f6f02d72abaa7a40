//! The `galera-probe` program: reads the command line, starts the log, runs the command
//! and exits.

use std::env;
use std::io;
use std::process::exit;

use galera_probe::cli::{self, Config};
use galera_probe::commands;
use galera_probe::os::logging::{Log, LogFormat, error_line, write_error};
use tokio::runtime::Builder;
use tracing::{error, warn};

/// The exit code of wrong usage or configuration.
const WRONG: i32 = 2;

fn main() {
    let format = cli::log_format(env::args_os(), env::var_os(cli::LOG_FORMAT_VARIABLE));
    let config = Config::read(env::args_os()).unwrap_or_else(|error| {
        if error.use_stderr() {
            exit(fail(format, &error.to_string()));
        }
        // clap returns help and the version as errors too.
        error.exit()
    });
    exit(start(config).unwrap_or_else(|error| fail(format, &format!("error: {error}"))));
}

/// Reports an error while there is no log. Returns the exit code.
fn fail(format: LogFormat, error: &str) -> i32 {
    let error = error.trim_end();
    write_error(&match format {
        LogFormat::Text => format!("{error}\n").into_bytes(),
        LogFormat::Json => error_line(format, error.strip_prefix("error: ").unwrap_or(error)),
    });
    WRONG
}

fn start(config: Config) -> io::Result<i32> {
    let log = Log::start(config.log)?;
    for variable in cli::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        warn!(variable, "no flag has this variable: see --help");
    }
    for warning in config.warnings {
        warn!("{warning}");
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    // A spawned task, because waking the future of `block_on` costs one more system call.
    let command = runtime.spawn(commands::run(config.action));
    let code = runtime.block_on(command).unwrap_or_else(|error| Err(error.into()));
    let code = code.unwrap_or_else(|error| {
        error!("{error}");
        WRONG
    });
    log.flush();
    // Dropping the runtime instead would wait for a name lookup that hangs.
    runtime.shutdown_background();
    Ok(code)
}
