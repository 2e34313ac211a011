//! Stands between cargo and rustc, and lets rustc leave out what nobody uses of the AWS SDK.
//!
//! `aws-sdk-ec2` has some eight hundred calls, of which `ipamd` makes thirteen. Machine code for all of
//! them is 480 MB, takes longer than all else about the crate, and the linker throws nearly all of it
//! away. The compiler has a flag for such crates (`-Zhint-mostly-unused`, made for this very one): a
//! function is compiled where it is used. Cargo can't pass it yet to a compiler that is stable, so this does, for that one
//! crate and only where it is not optimised: what ships is built as ever. A compiler without the
//! flag gets none, and the build takes longer.
//!
//! Cargo doesn't know of the flag, and need not: what it compiled with it or without serves both.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Cargo's own variable for a program that it starts instead of rustc, with rustc as its first argument.
const WRAPPER: &str = "RUSTC_WRAPPER";
/// Tells us that we are that program.
const OURS: &str = "IPAMD_LAUNCH_WRAPS_RUSTC";

const CRATE: &str = "aws_sdk_ec2";
const FLAG: &str = "hint-mostly-unused";
/// By its value the compiler takes flags that are not stable.
const UNSTABLE: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

/// Whether cargo has started this process, with these arguments, instead of rustc.
pub fn is_asked(args: &[OsString]) -> bool {
    std::env::var_os(OURS).is_some() && args.first().is_some_and(|arg| is_compiler(arg))
}

/// A task that is started below such a cargo has the variable too: what is asked for tells them apart.
fn is_compiler(arg: &OsStr) -> bool {
    let path = Path::new(arg);
    path.is_absolute() || path.file_stem().is_some_and(|name| name == "rustc")
}

/// Lets cargo, started by `command` or by whoever is, start this program instead of rustc. A wrapper
/// that the user has stays.
pub fn ask(command: &mut Command) {
    let taken = |name| std::env::var_os(name).is_some();
    if taken(WRAPPER) || taken("CARGO_BUILD_RUSTC_WRAPPER") {
        return;
    }
    if let Ok(me) = std::env::current_exe() {
        command.env(WRAPPER, me).env(OURS, "1");
    }
}

/// Becomes rustc. Returns only if that can't be started.
pub fn become_rustc(args: &[OsString]) -> String {
    let Some((rustc, args)) = args.split_first() else {
        return "no compiler is named".to_owned();
    };
    let mut command = Command::new(rustc);
    command.args(args);
    if fits(args) && has_flag(rustc) {
        command.arg(format!("-Z{FLAG}")).env(UNSTABLE.0, UNSTABLE.1);
    }
    format!("starting {}: {}", rustc.display(), command.exec())
}

/// Whether these arguments make unoptimised machine code of the crate.
fn fits(args: &[OsString]) -> bool {
    let is = |arg: &OsString, text: &str| arg == OsStr::new(text);
    let names = args
        .windows(2)
        .any(|two| is(&two[0], "--crate-name") && is(&two[1], CRATE));
    let starts = |start: &str| {
        let with = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with(start));
        args.iter().any(with)
    };
    let links = args.iter().any(|arg| {
        let kinds = arg.to_str().and_then(|arg| arg.strip_prefix("--emit="));
        kinds.is_some_and(|kinds| kinds.split(',').any(|kind| kind == "link"))
    });
    names && links && !starts("opt-level=")
}

fn has_flag(rustc: &OsStr) -> bool {
    let mut help = Command::new(rustc);
    help.arg("-Zhelp").env(UNSTABLE.0, UNSTABLE.1);
    let output = help.stdin(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(FLAG))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(line: &str) -> bool {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        fits(&args)
    }

    #[test]
    fn a_task_is_no_compiler() {
        let is = |arg: &str| is_compiler(OsStr::new(arg));
        assert!(is("rustc") && is("/opt/rust/bin/rustc") && is("/opt/rust/bin/clippy-driver"));
        assert!(!is("demo") && !is("test") && !is("--help"));
    }

    #[test]
    fn only_unoptimised_code_of_the_sdk_is_spared() {
        let debug = "--crate-name aws_sdk_ec2 --edition=2021 --emit=dep-info,metadata,link";
        assert!(fit(debug));
        for other in [
            "--crate-name aws_sdk_sts --emit=dep-info,metadata,link".to_owned(),
            "--crate-name ipamd --extern aws_sdk_ec2 --emit=link".to_owned(),
            "--crate-name aws_sdk_ec2 --emit=dep-info,metadata".to_owned(),
            format!("{debug} -C opt-level=s"),
            "-vV".to_owned(),
        ] {
            assert!(!fit(&other), "{other}");
        }
    }
}
