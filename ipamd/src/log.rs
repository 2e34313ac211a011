//! The daemon's log: lines on stdout, for people and for what collects them.
//!
//! Nothing waits for who reads them: a thread writes, and lines that find its queue full are dropped and
//! counted. A full pipe would otherwise stop the one thread that serves pods.

use crate::config::Log;
use std::fmt;
use std::io::Write;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that may wait: some seconds of the busiest node, at most a megabyte or two.
const QUEUE: usize = 4096;

/// How many lines were dropped so far.
#[derive(Clone)]
pub struct Dropped(ErrorCounter);

impl Dropped {
    /// Since the start.
    #[must_use]
    pub fn lines(&self) -> u64 {
        u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dropped").field(&self.lines()).finish()
    }
}

/// Begins to log. What still waits when the guard is dropped is written, within a second.
pub fn start(log: &Log) -> (WorkerGuard, Dropped) {
    let (writer, guard, dropped) = queue(std::io::stdout());
    // Setting it twice is the only failure, and there is but this one.
    let _ = subscriber(log, writer).try_init();
    (guard, dropped)
}

fn queue(to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard, Dropped) {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE)
        .lossy(true)
        .thread_name("log")
        .finish(to);
    let dropped = Dropped(writer.error_counter());
    (writer, guard, dropped)
}

/// The level is for our own words: what libraries have to say is of interest only if it is bad.
fn subscriber(log: &Log, writer: NonBlocking) -> impl Subscriber + Send + Sync {
    let ours = ["ipamd", "ipam_engine", "ipam_core"].map(|target| (target, log.level));
    let filter = Targets::new()
        .with_default(log.level.min(Level::WARN))
        .with_targets(ours);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_writer(writer);
    let lines = if log.json {
        lines.json().boxed()
    } else {
        lines.with_ansi(false).boxed()
    };
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read as _};
    use std::time::{Duration, Instant};

    fn log() -> Log {
        Log {
            level: Level::INFO,
            json: false,
        }
    }

    /// A pipe that nobody reads holds 64 KiB: then lines are lost, and no time.
    #[test]
    fn nobody_waits_for_a_reader() {
        let (mut reader, pipe) = io::pipe().expect("a pipe");
        let (writer, guard, dropped) = queue(pipe);
        let subscriber = subscriber(&log(), writer);
        let began = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..3 * QUEUE {
                tracing::info!(
                    n,
                    "a line of some length, so that the pipe is full before its end"
                );
            }
        });
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        let lost = dropped.lines();
        assert!(lost > 0, "nothing was lost: is the pipe read?");
        // What was kept comes whole once somebody reads.
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        drop(guard);
        let text = read.join().expect("reads").expect("is text");
        let kept = u64::try_from(text.lines().count()).expect("fits");
        assert_eq!(kept + lost, 3 * u64::try_from(QUEUE).expect("fits"));
    }
}
