//! The format of log lines: settings for tracing-subscriber.

use std::fmt::{self, Write};

use tracing::subscriber::with_default;
use tracing::{Level, Subscriber, error, warn};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use super::queue::LineQueue;

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The format of each line.
    pub format: LogFormat,
    /// The least severe level that is logged.
    pub level: Level,
}

/// The format of a log line. A line begins with the time in UTC, in the format of RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `TIME LEVEL message field=value`.
    Text,
    /// For log collectors: one JSON object per line. The time is its first member.
    Json,
}

/// Creates a subscriber that sends one line per event to `queue`.
pub(super) fn subscriber(
    settings: LogSettings,
    queue: LineQueue,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_max_level(settings.level)
        .with_ansi(false)
        .with_target(false)
        // An error of the formatter itself would be a line in neither format.
        .log_internal_errors(false)
        .with_writer(move || queue.clone());
    match settings.format {
        LogFormat::Text => Box::new(builder.fmt_fields(text_fields()).finish()),
        LogFormat::Json => {
            let json = builder.json().flatten_event(true);
            Box::new(json.with_current_span(false).with_span_list(false).finish())
        }
    }
}

/// Returns one line at level ERROR, for an error before the log has started.
pub fn error_line(format: LogFormat, message: &str) -> Vec<u8> {
    render(LogSettings { format, level: Level::ERROR }, || error!("{message}"))
}

/// Returns the line that reports that `lost` lines were dropped.
pub(super) fn lost_line(format: LogFormat, lost: u64) -> Vec<u8> {
    render(LogSettings { format, level: Level::WARN }, || {
        warn!(lost, "log lines were lost: standard error was too slow");
    })
}

/// Returns the line of one event. Neither needs nor uses the program's log.
fn render(settings: LogSettings, event: impl FnOnce()) -> Vec<u8> {
    let (queue, lines) = LineQueue::new(1);
    with_default(subscriber(settings, queue), event);
    lines.take()
}

/// Formats fields as `name=value`, and the message without its name. The default of
/// tracing-subscriber does not escape line breaks, which a peer's text may contain.
fn text_fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", Printable(&value)),
            name => write!(writer, "{name}={}", Printable(&value)),
        }
    })
    .delimited(" ")
}

/// Escapes control characters, so that the text cannot start a line or move a terminal's
/// cursor.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match is_unprintable(char) {
            true => write!(f, "{}", char.escape_default()),
            false => f.write_char(char),
        })
    }
}

/// Control characters, and those that end a line or reverse the text in some terminals.
fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tracing::{debug, info};

    use super::*;

    /// The lines of these events without the time.
    fn logged(format: LogFormat, events: impl FnOnce()) -> Vec<String> {
        let (queue, lines) = LineQueue::new(8);
        with_default(subscriber(LogSettings { format, level: Level::INFO }, queue), events);
        let text = String::from_utf8(lines.take()).unwrap();
        let lines = text.split_inclusive('\n');
        lines.map(|line| line.split_once('Z').unwrap().1.to_owned()).collect()
    }

    fn events() {
        let word: Option<&str> = Some("a \"word\"");
        info!(address = %"127.0.0.1:1", word, nothing = None::<&str>, times = 3_u64, "up to {}", 2);
        debug!("below the level");
        warn!(cause = ?['\n'], error = %"ends\nhere \x1b[1m", "still");
    }

    #[test]
    fn a_text_line_has_the_level_the_message_and_the_fields_with_control_characters_escaped() {
        assert_eq!(
            logged(LogFormat::Text, events),
            [
                "  INFO up to 2 address=127.0.0.1:1 word=\"a \\\"word\\\"\" times=3\n",
                "  WARN still cause=['\\n'] error=ends\\nhere \\u{1b}[1m\n",
            ]
        );
    }

    #[test]
    fn a_message_cannot_begin_a_line_or_move_the_cursor() {
        let lines = logged(LogFormat::Text, || {
            warn!("of a peer: {}", "a\nb \x1b[1m \u{9b}1m \u{2028}\u{202e}")
        });
        assert_eq!(lines, ["  WARN of a peer: a\\nb \\u{1b}[1m \\u{9b}1m \\u{2028}\\u{202e}\n"]);
    }

    #[test]
    fn a_json_line_is_an_object_that_begins_with_the_time() {
        let lines = logged(LogFormat::Json, events);
        let expected = [
            "\",\"level\":\"INFO\",\"message\":\"up to 2\",\"address\":\"127.0.0.1:1\",\
             \"word\":\"a \\\"word\\\"\",\"times\":3}\n",
            "\",\"level\":\"WARN\",\"message\":\"still\",\"cause\":\"['\\\\n']\",\
             \"error\":\"ends\\nhere \\u001b[1m\"}\n",
        ];
        assert_eq!(lines, expected);
        for line in lines {
            serde_json::from_str::<Value>(&format!("{{\"timestamp\":\"{line}")).unwrap();
        }
    }

    #[test]
    fn lost_lines_are_reported_in_the_format_of_the_log() {
        let lost: Value = serde_json::from_slice(&lost_line(LogFormat::Json, 3)).unwrap();
        assert_eq!((&lost["level"], &lost["lost"]), (&Value::from("WARN"), &Value::from(3)));
        assert_eq!(lost["message"], "log lines were lost: standard error was too slow");
        assert!(lost["timestamp"].is_string());
        let text = String::from_utf8(lost_line(LogFormat::Text, 3)).unwrap();
        let end = "Z  WARN log lines were lost: standard error was too slow lost=3\n";
        assert!(text.ends_with(end), "{text}");
    }
}
