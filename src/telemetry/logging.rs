//! The program's own log: `tracing` events to standard error, for people on a terminal and as JSON
//! otherwise, at a level that can be changed while running.
//!
//! Owns the one global subscriber. It must not know who logs what. Like the access log it never makes
//! a thread wait for a stuck pipe: events that do not fit in the queue are dropped and counted.

use std::env;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use super::access_log::queue::{Guard, Queue};
use super::access_log::rfc3339;

/// Events that wait for a stuck pipe, in bytes.
const QUEUE_BYTES: usize = 4 << 20;

/// How an event is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Style {
    /// `Human` on a terminal, `Json` otherwise.
    #[default]
    Auto,
    /// A short line; in colour on a terminal unless `NO_COLOR` is set.
    Human,
    /// One JSON object a line.
    Json,
}

/// Changes the level of the running log.
#[derive(Clone, Debug)]
pub(crate) struct LevelHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    queue: Queue,
}

/// Why the log could not be started or its level not be changed.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    #[error(
        "`{0}` is not a log level: use error, warn, info, debug or off, \
         or name a module as in `weir::upstream=debug,info`"
    )]
    Level(String),
    #[error("`{text}` does not say what to log")]
    Directive { text: String, source: ParseError },
    #[error("the log has been started already")]
    AlreadyStarted,
    #[error("standard error cannot be used")]
    Output(#[source] io::Error),
    #[error("the log has ended")]
    Ended(#[source] reload::Error),
}

/// Installs the log of this process. `level`: a level, or directives such as `weir::upstream=debug,info`.
/// What is queued is written when the guard is dropped.
///
/// # Errors
///
/// The level cannot be read, standard error is closed, or a log is installed already.
pub(crate) fn start(level: &str, style: Style) -> Result<(LevelHandle, Guard), LogError> {
    let filter = parse(level)?;
    let terminal = io::stderr().is_terminal();
    let style = match style {
        Style::Auto if terminal => Style::Human,
        Style::Auto => Style::Json,
        Style::Human | Style::Json => style,
    };
    // no-color.org: any value but the empty one.
    let colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let output = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map_err(LogError::Output)?;
    let output = Box::new(File::from(output));
    // At once: what comes before a crash is what people look for.
    let (queue, guard) = Queue::start("log", output, QUEUE_BYTES, Duration::ZERO);
    let (subscriber, handle) = subscriber(filter, style, colour, queue);
    set_global_default(subscriber).map_err(|_| LogError::AlreadyStarted)?;
    Ok((handle, guard))
}

fn subscriber(
    filter: EnvFilter,
    style: Style,
    colour: bool,
    queue: Queue,
) -> (impl tracing::Subscriber + Send + Sync, LevelHandle) {
    let (filter, handle) = reload::Layer::new(filter);
    let handle = LevelHandle {
        filter: handle,
        queue: queue.clone(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(move || Line(queue.clone()));
    let lines = match style {
        Style::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_timer(Full)
            .boxed(),
        Style::Human | Style::Auto => {
            // Ours instead of the default, which lets control characters of `%field` through.
            let fields = debug_fn(|writer, field, value| match field.name() {
                "message" => write!(Escaping(writer), "{value:?}"),
                name => write!(Escaping(writer), "{name}={value:?}"),
            });
            let lines = lines.compact().fmt_fields(fields.delimited(" "));
            lines
                .with_ansi(colour)
                .with_target(false)
                .with_timer(Clock)
                .boxed()
        }
    };
    (Registry::default().with(filter).with(lines), handle)
}

/// `EnvFilter` takes any word for the name of a module, so that `inof` would be accepted and hide all.
/// Here a word by itself must be a level. Field values are compared as text, not as regular
/// expressions: this text may come over the admin interface.
fn parse(text: &str) -> Result<EnvFilter, LogError> {
    let text = text.trim();
    if !text.contains('[') {
        for word in text.split(',').map(str::trim) {
            if !word.contains('=') && (word.is_empty() || word.parse::<LevelFilter>().is_err()) {
                return Err(LogError::Level(word.to_owned()));
            }
        }
    }
    let filter = EnvFilter::builder().with_regex(false).parse(text);
    filter.map_err(|source| LogError::Directive {
        text: text.to_owned(),
        source,
    })
}

// === impl LevelHandle ===

impl LevelHandle {
    /// Changes the level from the next event on.
    ///
    /// # Errors
    ///
    /// The level cannot be read; the old one stays.
    pub(crate) fn set(&self, level: &str) -> Result<(), LogError> {
        self.filter.reload(parse(level)?).map_err(LogError::Ended)
    }

    /// The level in force, in the form that [`LevelHandle::set`] reads; `off` once the log has ended.
    pub(crate) fn current(&self) -> String {
        self.filter
            .with_current(EnvFilter::to_string)
            .unwrap_or_else(|_| "off".to_owned())
    }

    /// Events lost to a full queue or a closed pipe.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

// === writing ===

/// The formatter hands over each event whole, in one write.
struct Line(Queue);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what came from outside from forging lines or driving the terminal.
struct Escaping<'w, 'b>(&'w mut Writer<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                write!(self.0, "{}", character.escape_default())?;
            } else {
                self.0.write_char(character)?;
            }
        }
        Ok(())
    }
}

/// Date and time.
struct Full;

/// Time of the day: who watches a terminal knows the day.
struct Clock;

impl FormatTime for Full {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_str(&now())
    }
}

impl FormatTime for Clock {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let now = now();
        out.write_str(now.split_once('T').map_or(&now, |(_, clock)| clock))
    }
}

fn now() -> String {
    let mut text = Vec::with_capacity(24);
    rfc3339(&mut text, SystemTime::now());
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The text that `events` logs.
    fn logged(
        level: &str,
        style: Style,
        colour: bool,
        events: impl FnOnce(&LevelHandle),
    ) -> String {
        let kept = Kept::default();
        let (queue, guard) = Queue::start("log", Box::new(kept.clone()), 1 << 20, Duration::ZERO);
        let (subscriber, handle) = subscriber(parse(level).unwrap(), style, colour, queue);
        with_default(subscriber, || events(&handle));
        drop(guard);
        assert_eq!(handle.dropped(), 0);
        let kept = kept.0.lock().unwrap().clone();
        String::from_utf8(kept).unwrap()
    }

    #[test]
    fn json_has_one_flat_object_a_line() {
        let text = logged("info", Style::Json, false, |_| {
            tracing::debug!("hidden");
            tracing::info!(generation = 3, route = "a\nb", "configuration\nloaded");
        });
        let line = text.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'));
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["message"], "configuration\nloaded");
        assert_eq!(event["generation"], 3);
        assert_eq!(
            event["timestamp"].as_str().unwrap().len(),
            "2000-10-10T13:55:36.123Z".len()
        );
    }

    #[test]
    fn people_get_a_short_line() {
        let text = logged("info", Style::Human, false, |_| {
            tracing::warn!(age = 5, "stale")
        });
        assert_eq!(
            text["13:55:36.123Z".len()..].trim_start(),
            "WARN stale age=5\n"
        );
        let hostile = "a\x1b[2J\nb";
        let text = logged("info", Style::Human, false, |_| {
            tracing::info!(debug = ?hostile, display = %hostile, text = hostile, "{hostile}");
        });
        assert!(!text.contains('\x1b'), "{text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
        let text = logged("info", Style::Human, true, |_| tracing::warn!("stale"));
        assert!(text.contains("\x1b["), "{text:?}");
    }

    #[test]
    fn the_level_changes_while_running() {
        let text = logged("warn", Style::Human, false, |handle| {
            tracing::info!("one");
            assert_eq!(handle.current(), "warn");
            handle.set(" weir=debug,info ").unwrap();
            assert_eq!(handle.current(), "weir=debug,info");
            tracing::info!("two");
            assert!(handle.set("inof").is_err());
            assert_eq!(handle.current(), "weir=debug,info");
            handle.set("off").unwrap();
            tracing::error!("three");
        });
        assert!(
            text.contains("two") && !text.contains("one") && !text.contains("three"),
            "{text}"
        );
    }

    #[test]
    fn bad_levels_are_explained() {
        for (text, named) in [
            ("inof", "inof"),
            ("", ""),
            ("info,", ""),
            ("weir=debug, verbse", "verbse"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{named}` is not a log level")),
                "{error}"
            );
        }
        for text in ["weir=loud", "weir[span=debug", "=,="] {
            assert!(
                matches!(parse(text), Err(LogError::Directive { .. })),
                "{text}"
            );
        }
        for text in [
            "INFO",
            "off",
            "trace",
            "weir::upstream=debug,info",
            "weir[request{id}]=trace",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn only_one_log_can_be_started() {
        let first = start("off", Style::Auto);
        assert!(matches!(
            start("off", Style::Auto),
            Err(LogError::AlreadyStarted)
        ));
        assert!(matches!(
            start("loud", Style::Auto),
            Err(LogError::Level(_))
        ));
        drop(first);
    }
}
