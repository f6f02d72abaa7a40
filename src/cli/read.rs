//! [`Config::read`]: turns the parsed command line and the environment into a [`Config`].

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches};

use super::account::{self, Account, AccountFlags};
use super::arguments::{Cli, Command};
use super::config::{Action, Config, Node, Serve};
use super::shared_arguments::{LogArgs, NodeArgs, TimingArgs};
use crate::galera::Policy;
use crate::monitor::{CausalityCheck, Settings, Timing};
use crate::node::probe::Deadlines;
use crate::os::logging::LogSettings;

/// The time beyond `--timeout` that a probe queried with `--via` has for its response.
const VIA_MARGIN: Duration = Duration::from_secs(1);

/// Returns the declared command line. A release makes man pages and completions from it.
pub fn command() -> clap::Command {
    Cli::command()
}

fn flags(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_subcommands().flat_map(clap::Command::get_arguments)
}

/// Returns the names that start with `GALERA_PROBE_` and that no flag reads, such as
/// misspelt ones.
///
/// It skips the names that Kubernetes sets for a Service called galera-probe:
/// GALERA_PROBE_SERVICE_HOST, GALERA_PROBE_PORT_9200_TCP and the like.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = command();
    let known: Vec<_> = flags(&command).filter_map(Arg::get_env).collect();
    let is_ours = |name: &String| {
        name.starts_with("GALERA_PROBE_") && !name.contains("_SERVICE_") && !name.contains("_PORT")
    };
    names
        .filter(|name| !known.contains(&name.as_os_str()) && name != account::PASSWORD_VARIABLE)
        .filter_map(|name| name.into_string().ok())
        .filter(is_ours)
        .collect()
}

/// Adds the environment variable to an error about a value that came from it. In a pod,
/// for example, only variables are set, and clap names only the flag.
fn name_variable(mut error: clap::Error) -> clap::Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (flag, value) = (context(ContextKind::InvalidArg), context(ContextKind::InvalidValue));
    let (Some(flag), Some(value)) = (flag, value) else { return error };
    let command = command();
    // `flag` is, for example, `--timeout <DURATION>`.
    let long = flag.split(' ').next().and_then(|flag| flag.strip_prefix("--"));
    let arg = flags(&command).find(|arg| long.is_some() && arg.get_long() == long);
    let variable = arg.and_then(Arg::get_env);
    if let Some(variable) = variable
        && env::var(variable).is_ok_and(|set| set.split(',').any(|part| part == value))
    {
        let both = format!("{flag} ({})", variable.display());
        error.insert(ContextKind::InvalidArg, ContextValue::String(both));
    }
    error
}

impl Config {
    /// Reads a command line, which starts with the program's name, the environment, and
    /// the files that hold the account and the certificates.
    ///
    /// # Errors
    /// The flag, the cause and the fix. `--help` and `--version` are errors too, as usual
    /// with clap.
    pub fn read<I>(arguments: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let matches = command().try_get_matches_from(arguments).map_err(name_variable)?;
        let given = Given(matches.subcommand().map(|(_, matches)| matches));
        let mut warnings = Vec::new();
        let (action, log) = match Cli::from_arg_matches(&matches)?.command {
            Command::Serve { listen, admin_listen, maintenance_file, drain, node, timing, log } => {
                let node = node.read(given, timing.read(), &mut warnings)?;
                let serve = Serve { listen, admin_listen, maintenance_file, drain, node };
                (Action::Serve(Box::new(serve)), log.read())
            }
            Command::Check { via: Some(url), node, log, .. } => {
                let timeout = node.timeout.saturating_add(VIA_MARGIN);
                (Action::Via { url, timeout }, log.read())
            }
            Command::Check { role, node, log, .. } => {
                let node = Box::new(node.read(given, Timing::default(), &mut warnings)?);
                (Action::Check { node, role: role.into() }, log.read())
            }
            Command::Maintenance { change, maintenance_file: file, log } => {
                (Action::Maintenance { file, change }, log.read())
            }
        };
        Ok(Config { action, log, warnings })
    }
}

/// The matches of a command, for the question which flags were given by an argument or a
/// variable.
#[derive(Clone, Copy)]
struct Given<'a>(Option<&'a ArgMatches>);

impl Given<'_> {
    fn has(self, flag: &str) -> bool {
        let source = self.0.and_then(|matches| matches.value_source(flag));
        source.is_some_and(|source| source != ValueSource::DefaultValue)
    }
}

impl NodeArgs {
    fn read(
        self,
        given: Given<'_>,
        timing: Timing,
        warnings: &mut Vec<String>,
    ) -> Result<Node, clap::Error> {
        let deadlines = Deadlines { step: self.step_timeout, whole: self.timeout };
        let policy = Policy { standalone: self.standalone, donor: self.donor.into() };
        let Account { credentials, address, warning } = account::read(AccountFlags {
            user: (self.user, given.has("user")),
            password_file: self.password_file,
            defaults_file: self.defaults_file,
        })?;
        let address = match address {
            Some(address) if !given.has("target") => address,
            _ => self.target,
        };
        warnings.extend(warning);
        let security = self.tls.read(&address)?;
        let timing = Timing { causality_check: self.causality_check.into(), ..timing };
        let settings = Settings { credentials, deadlines, policy, timing };
        Ok(Node { address, security, settings })
    }
}

impl TimingArgs {
    fn read(self) -> Timing {
        Timing {
            causality_check: CausalityCheck::default(),
            max_age: self.max_age,
            settle: self.settle,
            grace: self.grace,
            keep_connection: self.keep_connection,
        }
    }
}

impl LogArgs {
    fn read(self) -> LogSettings {
        LogSettings { format: self.log_format.into(), level: self.log_level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_declared_command_line() {
        command().debug_assert();
    }
}
