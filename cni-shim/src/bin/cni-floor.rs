//! The kernel floor of the benchmark: see `cni_shim::floor`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match cni_shim::floor::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cni-floor: {error}");
            ExitCode::FAILURE
        }
    }
}
