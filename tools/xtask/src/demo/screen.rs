//! Words for people while the demo runs: a line for each phase, with progress and time.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of progress where nobody watches.
const QUIET: Duration = Duration::from_secs(5);

/// What the place where words go can show. All but words is for terminals: a log or a program gets
/// none of it.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Lines can be written anew.
    live: bool,
    /// Good and bad have colours.
    colours: bool,
}

impl Look {
    /// Whoever wants no colours says so by `NO_COLOR` (no-color.org) or `TERM=dumb`.
    fn of(is_terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let live = is_terminal && !dumb;
        Self {
            live,
            colours: live && set("NO_COLOR").is_none(),
        }
    }

    fn coloured(self, good: bool, words: &str) -> String {
        let colour = if good { 32 } else { 31 };
        if self.colours {
            format!("\x1b[{colour}m{words}\x1b[0m")
        } else {
            words.to_owned()
        }
    }

    /// What takes a line of progress away.
    const fn clear(self) -> &'static str {
        if self.live { "\r\x1b[K" } else { "" }
    }

    /// A line of progress. A terminal cuts it at its width (DECAWM off): a line that went on below
    /// could not be taken away again.
    fn progress(self, words: &str) -> String {
        let clear = self.clear();
        if self.live {
            format!("{clear}\x1b[?7l  … {words}\x1b[?7h")
        } else {
            format!("  … {words}\n")
        }
    }

    fn note(self, words: &str) -> String {
        format!("{}    {words}\n", self.clear())
    }

    fn done(self, good: bool, name: &str, words: &str) -> String {
        let mark = self.coloured(good, if good { "✓" } else { "✗" });
        format!("{}  {mark} {name:<28} {words}\n", self.clear())
    }
}

/// Where words go: stdout, or stderr when stdout carries the result.
#[derive(Debug)]
pub(crate) struct Screen {
    to_stderr: bool,
    look: Look,
    started: Instant,
}

impl Screen {
    pub(crate) fn new(to_stderr: bool) -> Self {
        let is_terminal = if to_stderr {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        Self {
            to_stderr,
            look: Look::of(is_terminal),
            started: Instant::now(),
        }
    }

    /// A line.
    pub(crate) fn say(&self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Words in the colour of good or bad, where there are colours.
    pub(crate) fn coloured(&self, good: bool, words: &str) -> String {
        self.look.coloured(good, words)
    }

    /// Begins a phase.
    pub(crate) fn phase(&self, name: &str) -> Phase<'_> {
        let phase = Phase {
            screen: self,
            name: name.to_owned(),
            began: Instant::now(),
            last: Mutex::new(Instant::now()),
        };
        if self.look.live {
            self.write(&self.look.progress(name));
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
        let look = self.screen.look;
        if look.live || last.elapsed() > QUIET {
            *last = Instant::now();
            let line = look.progress(&format!("{}: {words}", self.name));
            self.screen.write(&line);
        }
    }

    /// Tells something that must not be missed.
    pub(crate) fn note(&self, words: &str) {
        self.screen.write(&self.screen.look.note(words));
    }

    /// Ends it with what came of it.
    pub(crate) fn done(self, good: bool, words: &str) {
        let took = self.began.elapsed().as_secs_f64();
        let words = format!("{words} ({took:.1} s)");
        let line = self.screen.look.done(good, &self.name, &words);
        self.screen.write(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(look: Look) -> [String; 4] {
        [
            look.progress("pods: 3 of 60 up"),
            look.note("an ADD failed"),
            look.done(true, "pods", "60 of 60 up"),
            look.coloured(false, "RED"),
        ]
    }

    #[test]
    fn a_log_gets_words_alone() {
        for words in all(Look::default()) {
            assert!(!words.contains(['\x1b', '\r']), "{words:?}");
        }
    }

    #[test]
    fn a_terminal_without_colours_gets_none() {
        let plain = Look {
            live: true,
            colours: false,
        };
        for words in all(plain) {
            assert!(!words.contains("\x1b[3"), "{words:?}");
        }
        let colourful = Look {
            live: true,
            colours: true,
        };
        assert!(all(colourful)[2].contains("\x1b[32m✓\x1b[0m"));
    }

    #[test]
    fn a_terminal_cuts_progress_at_its_width() {
        let live = Look {
            live: true,
            colours: true,
        };
        let line = live.progress("pods: 3 of 60 up");
        assert_eq!(line, "\r\x1b[K\x1b[?7l  … pods: 3 of 60 up\x1b[?7h");
    }
}
