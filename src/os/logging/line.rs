use std::fmt::{self, Write};
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{Log, LogFormat, LogSettings};

/// Makes a line of each event. The program has no spans.
pub(super) struct Lines {
    pub(super) log: Log,
    pub(super) settings: LogSettings,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.settings.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.settings.level.into())
    }

    fn event(&self, event: &Event<'_>) {
        self.log.take(Line::of(event, self.settings.format));
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// A line as far as it is written.
struct Line {
    format: LogFormat,
    text: String,
}

impl Line {
    fn of(event: &Event<'_>, format: LogFormat) -> Vec<u8> {
        let now = humantime::format_rfc3339_micros(SystemTime::now());
        let level = event.metadata().level();
        let text = match format {
            LogFormat::Text => format!("{now} {level:>5}"),
            LogFormat::Json => format!("{{\"timestamp\":\"{now}\",\"level\":\"{level}\""),
        };
        let mut line = Self { format, text };
        event.record(&mut line);
        line.text.push_str(match format {
            LogFormat::Text => "\n",
            LogFormat::Json => "}\n",
        });
        line.text.into_bytes()
    }

    /// One field, as it is for people and as it is in JSON. The first is `message`.
    fn put(&mut self, field: &Field, text: &str, json: &Value) {
        let name = field.name();
        // Writing into memory does not fail.
        let _ = match (self.format, name) {
            (LogFormat::Text, "message") => write!(self.text, " {}", Printable(text)),
            (LogFormat::Text, _) => write!(self.text, " {name}={}", Printable(text)),
            (LogFormat::Json, _) => write!(self.text, ",\"{name}\":{json}"),
        };
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.put(field, &text, &Value::from(&*text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &format!("{value:?}"), &Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, &value.to_string(), &Value::from(value));
    }
}

/// Text that moves no cursor and begins no line.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char.is_control() {
            true => write!(f, "{}", char.escape_default()),
            false => f.write_char(char),
        })
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Level, debug, info, subscriber, warn};

    use super::super::Message;
    use super::*;

    /// What the log holds of these events, without the times.
    fn logged(format: LogFormat, events: impl FnOnce()) -> Vec<String> {
        let (log, messages) = Log::of(8);
        let settings = LogSettings { format, level: Level::INFO };
        subscriber::with_default(Lines { log, settings }, events);
        let lines = messages.try_iter().map(|message| match message {
            Message::Line(line) => String::from_utf8(line).unwrap(),
            Message::Flush(_) => unreachable!(),
        });
        lines.map(|line| line.split_once("Z").unwrap().1.to_owned()).collect()
    }

    fn events() {
        let word: Option<&str> = Some("a \"word\"");
        info!(address = %"127.0.0.1:1", word, nothing = None::<&str>, times = 3_u64, "up to {}", 2);
        debug!("below the level");
        warn!(cause = ?['\n'], error = %"ends\nhere \x1b[1m", "still");
    }

    #[test]
    fn a_line_for_people_has_its_level_the_message_and_the_fields() {
        assert_eq!(
            logged(LogFormat::Text, events),
            [
                "  INFO up to 2 address=127.0.0.1:1 word=\"a \\\"word\\\"\" times=3\n",
                "  WARN still cause=['\\n'] error=ends\\nhere \\u{1b}[1m\n",
            ]
        );
    }

    #[test]
    fn a_line_for_collectors_is_an_object_that_begins_with_its_time() {
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
}
