//! The plugin's process: only wires [`cni_shim::run`] to the real environment and streams.

use cni_shim::{Process, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut process = Process {
        env: &|name| std::env::var_os(name),
        stdin: &mut std::io::stdin(),
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    ExitCode::from(run(&mut process))
}
