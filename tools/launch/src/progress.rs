//! A build under way, and the words about it.

use crate::crates::{Crates, is_artifact, is_work};
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Between two lines of progress where no terminal shows cargo's bar.
const PAUSE: Duration = Duration::from_secs(15);

/// A build that takes longer than this has something to do, whatever cargo says so far: it may be
/// fetching, or compile one large crate.
const PATIENCE: Duration = Duration::from_secs(3);

/// So many crates that are left are told by name.
const NAMED_MAX: usize = 4;

/// The crate that takes longest of all, with what is to be known of it.
const LONGEST: (&str, &str) = (
    "aws-sdk-ec2",
    "Amazon's SDK for EC2: a million generated lines, a third of the work of a whole build",
);

/// A build to run.
#[derive(Debug)]
pub struct Build {
    what: String,
    command: Command,
    tree: Command,
}

impl Build {
    /// `command` is a `cargo build` or `cargo test` with `--message-format=json-render-diagnostics`;
    /// `what` is for people; `selection` says by arguments of `cargo tree` which crates it needs.
    pub fn new(what: &str, command: Command, selection: &[&str]) -> Self {
        let print = ["tree", "--prefix", "none", "--format", "{p}"];
        Self {
            what: what.to_owned(),
            command,
            tree: crate::cargo(print.iter().chain(selection)),
        }
    }

    /// Runs it, words on stderr, and gives each of cargo's messages to `heard`.
    ///
    /// # Errors
    /// Cargo can't be started, or its output can't be read.
    pub fn run(mut self, mut heard: impl FnMut(&str)) -> io::Result<ExitStatus> {
        let mut child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let said = self.listen(&mut child, &mut heard);
        let status = child.wait()?;
        said.map(|()| status)
    }

    fn listen(&mut self, child: &mut Child, heard: &mut impl FnMut(&str)) -> io::Result<()> {
        let messages = lines(child);
        let began = Instant::now();
        let mut teller = Teller::new(self.what.clone(), io::stderr().is_terminal());
        // What came before the crates were counted.
        let mut early = Vec::new();
        loop {
            let message = match messages.recv_timeout(teller.pause(began.elapsed())) {
                Ok(message) => Some(message?),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let work = message.as_deref().is_none_or(is_work);
            if let Some(message) = message {
                heard(&message);
                match &mut teller.crates {
                    Some(crates) => crates.take(&message),
                    None if is_artifact(&message) => early.push(message),
                    None => {}
                }
            }
            if work && teller.crates.is_none() {
                let mut crates = Crates::needed(&self.list());
                early.drain(..).for_each(|message| crates.take(&message));
                eprintln!("{}", teller.first(&crates));
                teller.crates = Some(crates);
            }
            if let Some(line) = teller.next(began.elapsed()) {
                eprintln!("{line}");
            }
        }
        Ok(())
    }

    /// Counting is a service: without it the build goes on all the same.
    fn list(&mut self) -> String {
        let output = self.tree.stdin(Stdio::null()).output();
        output.map_or_else(
            |_| String::new(),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

/// What cargo prints for programs, line by line, read beside us so that silence can be noticed.
fn lines(child: &mut Child) -> Receiver<io::Result<String>> {
    let (send, lines) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                // If nobody listens any more, nobody needs the rest.
                if send.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}

/// When to say what.
#[derive(Debug)]
struct Teller {
    what: String,
    /// Cargo shows a bar itself.
    has_bar: bool,
    /// Once there is something to do.
    crates: Option<Crates>,
    told: Duration,
}

impl Teller {
    const fn new(what: String, has_bar: bool) -> Self {
        Self {
            what,
            has_bar,
            crates: None,
            told: Duration::ZERO,
        }
    }

    /// How long cargo may be silent before there is something to say.
    fn pause(&self, now: Duration) -> Duration {
        let next = match self.crates {
            None => PATIENCE,
            Some(_) => self.told + PAUSE,
        };
        next.saturating_sub(now)
    }

    /// What is built, and why it takes long.
    fn first(&self, crates: &Crates) -> String {
        let (done, all) = crates.count();
        let (name, words) = LONGEST;
        let why = if crates.left().contains(&name) {
            format!("; the longest is {name} ({words})")
        } else {
            String::new()
        };
        format!(
            "building {}: {} of {all} crates are to be compiled{why}",
            self.what,
            all - done
        )
    }

    /// How far it is, if that is due.
    fn next(&mut self, now: Duration) -> Option<String> {
        let crates = self.crates.as_ref()?;
        if self.has_bar || now < self.told + PAUSE {
            return None;
        }
        self.told = now;
        let (done, all) = crates.count();
        let left = crates.left();
        let names = match left.len() {
            1..=NAMED_MAX => format!("; left: {}", left.join(", ")),
            _ if left.contains(&LONGEST.0) => format!("; {} is among those left", LONGEST.0),
            _ => String::new(),
        };
        let (minutes, seconds) = (now.as_secs() / 60, now.as_secs() % 60);
        Some(format!(
            "building {}: {done} of {all} crates after {minutes} min {seconds:02} s{names}",
            self.what
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "xtask v0.1.0\naws-sdk-ec2 v1.274.0\nserde v1.0.0\n";
    const SERDE: &str = r#"{"reason":"compiler-artifact","package_id":"registry+https://x#serde@1.0.0","target":{"kind":["lib"]},"fresh":false}"#;

    fn teller(has_bar: bool) -> Teller {
        let mut crates = Crates::needed(TREE);
        crates.take(SERDE);
        Teller {
            crates: Some(crates),
            ..Teller::new("xtask".to_owned(), has_bar)
        }
    }

    #[test]
    fn the_first_line_says_what_takes_long() {
        let line = teller(false).first(&Crates::needed(TREE));
        assert!(line.contains("3 of 3 crates are to be compiled; the longest is aws-sdk-ec2 ("));
        let line = teller(false).first(&Crates::needed("xtask v0.1.0"));
        assert!(!line.contains("longest"), "{line}");
    }

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let mut teller = teller(false);
        assert_eq!(teller.next(Duration::from_secs(14)), None);
        let line = teller.next(Duration::from_secs(75));
        let words = "building xtask: 1 of 3 crates after 1 min 15 s; left: aws-sdk-ec2, xtask";
        assert_eq!(line.as_deref(), Some(words));
        assert_eq!(teller.next(Duration::from_secs(89)), None);
        assert!(teller.next(Duration::from_secs(90)).is_some());
    }

    #[test]
    fn a_terminal_has_cargos_bar() {
        assert_eq!(teller(true).next(Duration::from_secs(75)), None);
    }

    #[test]
    fn nothing_is_said_before_there_is_something_to_do() {
        let mut teller = Teller::new("xtask".to_owned(), false);
        assert_eq!(teller.next(Duration::from_secs(75)), None);
        assert_eq!(teller.pause(Duration::from_secs(1)), Duration::from_secs(2));
    }
}
