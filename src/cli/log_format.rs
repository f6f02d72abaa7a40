//! Finds the log format for errors in the rest of the command line.

use std::ffi::OsString;

use crate::os::logging::LogFormat;

/// The environment variable of `--log-format`.
pub const LOG_FORMAT_VARIABLE: &str = "GALERA_PROBE_LOG_FORMAT";

/// Returns the format that the last `--log-format` requests, or else the variable.
///
/// It ignores errors in the other arguments, so that a log collector can parse these
/// errors too. Any value other than `json` is text.
pub fn log_format(
    arguments: impl IntoIterator<Item = OsString>,
    variable: Option<OsString>,
) -> LogFormat {
    let mut arguments = arguments.into_iter();
    let mut value = variable;
    while let Some(argument) = arguments.next() {
        if argument == "--log-format" {
            value = arguments.next();
        } else if let Some(given) =
            argument.to_str().and_then(|text| text.strip_prefix("--log-format="))
        {
            value = Some(given.into());
        }
    }
    match value {
        Some(value) if value == "json" => LogFormat::Json,
        _ => LogFormat::Text,
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
            ("serve --log-format", Some("json"), LogFormat::Text),
            ("serve", Some("xml"), LogFormat::Text),
            ("", None, LogFormat::Text),
        ] {
            let words = arguments.split(' ').map(OsString::from);
            assert_eq!(log_format(words, variable.map(OsString::from)), expected, "{arguments}");
        }
    }
}
