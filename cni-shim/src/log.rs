//! A line for each failed command, for people: on stderr, or in `pluginLogFile`.

use crate::error::CniError;
use crate::request::LogFile;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the line. That it can't be written fails nothing.
pub(crate) fn failure(
    file: Option<&LogFile>,
    stderr: &mut dyn Write,
    what: &str,
    error: &CniError,
) {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let at = utc(since_epoch.as_secs());
    let words = format!("{at} ipamd-cni {what}: {error} (code {})", error.code);
    let line = one_line(&words);
    let _ = match file.and_then(append_to) {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => stderr.write_all(line.as_bytes()),
    };
}

/// Names in it are a runtime's and a tenant's: no character of theirs begins another line, or tells a
/// terminal what to do.
fn one_line(words: &str) -> String {
    let mut line = String::with_capacity(words.len() + 1);
    for c in words.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Opens the file without following a link on the way: the directory is root's, but what is below it may
/// be others' (`openat2`, Linux 5.6; an older kernel's lines go to stderr).
fn append_to(file: &LogFile) -> Option<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = open(&file.dir, flags, Mode::empty()).ok()?;
    // A pipe that nobody reads must not hold us up.
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC
        | OFlag::O_NOCTTY;
    let how = OpenHow::new()
        .flags(flags)
        .mode(Mode::from_bits_truncate(0o640))
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(&dir, &file.name, how).ok().map(File::from)
}

/// RFC 3339, for years from 1970 (days to a date: Hinnant, "chrono-compatible date algorithms").
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_make_no_lines() {
        let words = "ADD net/c1/eth0: \"a\n* * * * * root x\" \u{1b}[2J ä";
        let line = super::one_line(words);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(
            line.contains("\"a\\n*") && line.contains("\\u{1b}[2J ä\n"),
            "{line}"
        );
    }

    #[test]
    fn dates() {
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_267_200, "2026-11-21T13:20:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, text) in table {
            assert_eq!(super::utc(seconds), text);
        }
    }
}
