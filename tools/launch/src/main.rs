//! What `cargo demo` and `cargo xtask` start: builds xtask, for the demo with the programs that it
//! shows, in one go, tells how far it is, and becomes xtask.
//!
//! In one go, since cargo gives a crate the features that the packages of one command ask for: `cargo run
//! -p xtask` and then `cargo build --bin ipamd` would compile forty crates twice.
#![forbid(unsafe_code)]

use launch::{Build, sparing};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if sparing::is_asked(&args) {
        eprintln!("error: {}", sparing::become_rustc(&args));
        return ExitCode::from(2);
    }
    match launch(&args) {
        Ok(never) => match never {},
        Err(words) => {
            eprintln!("error: {words}");
            ExitCode::from(2)
        }
    }
}

/// Builds and becomes xtask.
fn launch(args: &[OsString]) -> Result<std::convert::Infallible, String> {
    let shown = args.first().is_some_and(|task| task == "demo");
    let programs: &[&str] = if shown {
        &["xtask", "ipamd", "ipamd-cni"]
    } else {
        &["xtask"]
    };
    let built = build(programs)?;
    let mut xtask = Command::new(&built[0]);
    xtask.args(args);
    sparing::ask(&mut xtask);
    for (variable, program) in [("IPAMD_BIN", 1), ("IPAMD_CNI_BIN", 2)] {
        let named = std::env::var_os(variable).is_some_and(|path| !path.is_empty());
        if let Some(path) = built.get(program).filter(|_| !named) {
            xtask.env(variable, path);
        }
    }
    Err(format!("starting {}: {}", built[0].display(), xtask.exec()))
}

/// Builds these programs and gives their paths.
fn build(programs: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut command = launch::cargo(["build", "--workspace"]);
    command.arg("--message-format=json-render-diagnostics");
    sparing::ask(&mut command);
    let mut selection = vec!["--edges", "normal,build"];
    for program in programs {
        command.args(["--bin", program]);
        selection.extend(["--package", launch::package(program)]);
    }
    let what = programs.join(", ");
    let mut built: Vec<Option<PathBuf>> = vec![None; programs.len()];
    let status = Build::new(&what, command, &selection)
        .run(|message| {
            if let Some((name, path)) = launch::program(message)
                && let Some(n) = programs.iter().position(|program| *program == name)
            {
                built[n] = Some(path.into());
            }
        })
        .map_err(|e| format!("running cargo: {e}"))?;
    if !status.success() {
        return Err(format!("cargo could not build {what} ({status})"));
    }
    let paths: Option<Vec<_>> = built.into_iter().collect();
    paths.ok_or_else(|| format!("cargo did not say where {what} are"))
}
