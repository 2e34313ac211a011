//! The command line.

use std::ffi::OsString;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Be the daemon.
    Run,
    /// `--check-config`, and `--json` after it
    CheckConfig {
        /// For programs.
        json: bool,
    },
    /// `--print-config-table`
    PrintConfigTable,
    /// `--probe`
    Probe,
    /// `--version`
    Version,
    /// `--help`
    Help,
}

/// What `--help` prints.
pub const HELP: &str = "\
ipamd: manages VPC pod addresses of this node. Settings are environment variables.

  ipamd                        run
  ipamd --check-config         read the settings strictly, report every mistake, list what is in force, change nothing
  ipamd --check-config --json  the same for programs
  ipamd --print-config-table   all settings, as a Markdown table
  ipamd --probe                ask the running daemon whether pods can get addresses
  ipamd --version
  ipamd --help

exit codes: 0 done or stopped in order; 1 something it can't run without is not to be had, or
(--probe) not ready; 64 settings or arguments that must be refused
";

/// An argument that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown argument {0}; see ipamd --help")]
pub struct UnknownArgument(String);

/// Reads the arguments, without the program's name.
///
/// # Errors
/// One is unknown, or there is more than one.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UnknownArgument> {
    let mut args = args.into_iter().peekable();
    let Some(first) = args.next() else {
        return Ok(Command::Run);
    };
    let command = match first.to_str() {
        Some("--check-config") => {
            let json = args.next_if(|next| next == "--json").is_some();
            Command::CheckConfig { json }
        }
        Some("--print-config-table") => Command::PrintConfigTable,
        Some("--probe") => Command::Probe,
        Some("--version" | "-V") => Command::Version,
        Some("--help" | "-h") => Command::Help,
        _ => return Err(UnknownArgument(format!("{first:?}"))),
    };
    match args.next() {
        Some(surplus) => Err(UnknownArgument(format!("{surplus:?}"))),
        None => Ok(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_understood_and_nothing_else() {
        let parse = |args: &[&str]| super::parse(args.iter().map(OsString::from));
        assert_eq!(parse(&[]), Ok(Command::Run));
        assert_eq!(
            parse(&["--check-config"]),
            Ok(Command::CheckConfig { json: false })
        );
        assert_eq!(
            parse(&["--check-config", "--json"]),
            Ok(Command::CheckConfig { json: true })
        );
        assert!(parse(&["--json"]).is_err());
        assert_eq!(
            parse(&["--print-config-table"]),
            Ok(Command::PrintConfigTable)
        );
        assert_eq!(parse(&["--probe"]), Ok(Command::Probe));
        assert_eq!(parse(&["-V"]), Ok(Command::Version));
        assert!(parse(&["--chek-config"]).is_err());
        assert!(parse(&["--probe", "x"]).is_err());
    }
}
