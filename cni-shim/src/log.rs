//! A line for each failed command, for people: on stderr, or in `pluginLogFile`.

use crate::error::CniError;
use nix::fcntl::OFlag;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the line. That it can't be written fails nothing.
pub(crate) fn failure(file: Option<&str>, stderr: &mut dyn Write, what: &str, error: &CniError) {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let at = utc(since_epoch.as_secs());
    let line = format!("{at} ipamd-cni {what}: {error} (code {})\n", error.code);
    let file = file.filter(|&path| path != "stderr");
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        // A pipe that nobody reads must not hold us up.
        .custom_flags(OFlag::O_NONBLOCK.bits());
    let opened = file.and_then(|path| options.open(path).ok());
    let _ = match opened {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => stderr.write_all(line.as_bytes()),
    };
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
