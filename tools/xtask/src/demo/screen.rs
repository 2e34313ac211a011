//! Words for people while the demo runs: a line for each phase, with progress and time.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of progress where nobody watches.
const QUIET: Duration = Duration::from_secs(5);

/// Where words go: stdout, or stderr when stdout carries the result.
#[derive(Debug)]
pub(crate) struct Screen {
    to_stderr: bool,
    live: bool,
    started: Instant,
}

impl Screen {
    pub(crate) fn new(to_stderr: bool) -> Self {
        let live = if to_stderr {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        Self {
            to_stderr,
            live,
            started: Instant::now(),
        }
    }

    /// A line.
    pub(crate) fn say(&self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Begins a phase.
    pub(crate) fn phase(&self, name: &str) -> Phase<'_> {
        let phase = Phase {
            screen: self,
            name: name.to_owned(),
            began: Instant::now(),
            last: Mutex::new(Instant::now()),
        };
        if self.live {
            self.write(&format!("  … {name}"));
        }
        phase
    }

    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn write(&self, text: &str) {
        // A closed terminal must not stop the clean-up.
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// A phase that is under way.
#[derive(Debug)]
pub(crate) struct Phase<'a> {
    screen: &'a Screen,
    name: String,
    began: Instant,
    last: Mutex<Instant>,
}

impl Phase<'_> {
    /// Tells how far it is: in place on a terminal, seldom elsewhere.
    pub(crate) fn progress(&self, words: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.screen.live {
            self.screen
                .write(&format!("\r\x1b[K  … {}: {words}", self.name));
        } else if last.elapsed() > QUIET {
            *last = Instant::now();
            self.screen.write(&format!("  … {}: {words}\n", self.name));
        }
    }

    /// Tells something that must not be missed.
    pub(crate) fn note(&self, words: &str) {
        let clear = if self.screen.live { "\r\x1b[K" } else { "" };
        self.screen.write(&format!("{clear}    {words}\n"));
    }

    /// Ends it with what came of it.
    pub(crate) fn done(self, good: bool, words: &str) {
        let mark = if good { "✓" } else { "✗" };
        let clear = if self.screen.live { "\r\x1b[K" } else { "" };
        let took = self.began.elapsed().as_secs_f64();
        self.screen.write(&format!(
            "{clear}  {mark} {:<28} {words} ({took:.1} s)\n",
            self.name
        ));
    }
}
