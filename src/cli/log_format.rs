//! Finds the log format before the command line is parsed, for the errors in it.

use std::ffi::{OsStr, OsString};

use crate::os::logging::LogFormat;

/// The environment variable of `--log-format`.
pub const LOG_FORMAT_VARIABLE: &str = "GALERA_PROBE_LOG_FORMAT";

/// Returns the format of the last valid `--log-format`, else of the variable, else text.
///
/// It ignores every other argument, so it works if the command line has an error. That
/// error is then in a format that the log collector can parse.
pub fn log_format(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
) -> LogFormat {
    let mut format = variable.as_deref().and_then(parse);
    let mut is_value = false;
    for argument in arguments {
        let joined = argument.to_str().and_then(|text| text.strip_prefix("--log-format="));
        let value = if is_value { Some(&*argument) } else { joined.map(OsStr::new) };
        format = value.and_then(parse).or(format);
        is_value = argument == "--log-format";
    }
    format.unwrap_or(LogFormat::Text)
}

fn parse(value: &OsStr) -> Option<LogFormat> {
    match value.to_str() {
        Some("json") => Some(LogFormat::Json),
        Some("text") => Some(LogFormat::Text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_format_among_wrong_arguments() {
        for (arguments, variable, expected) in [
            ("serve --log-format json --nonsense", None, LogFormat::Json),
            ("serve --log-format=json", None, LogFormat::Json),
            ("serve --nonsense", Some("json"), LogFormat::Json),
            ("serve --log-format text", Some("json"), LogFormat::Text),
            ("serve --log-format", Some("json"), LogFormat::Json),
            ("serve --log-format xml", Some("json"), LogFormat::Json),
            ("serve --log-format --log-format json", None, LogFormat::Json),
            ("serve --log-format=json --log-format text", None, LogFormat::Text),
            ("serve", Some("xml"), LogFormat::Text),
            ("", None, LogFormat::Text),
        ] {
            let words = arguments.split(' ').map(OsString::from);
            assert_eq!(log_format(words, variable.map(OsString::from)), expected, "{arguments}");
        }
    }
}
