//! The plugin's process: only wires [`cni_shim::run`] to the real environment and streams.
//!
//! Started by the C runtime itself: what Rust's own start-up does first (it reads
//! `/proc/self/maps` for a guard page, sets handlers for stack overflows) costs a twentieth of the
//! whole process and serves no program that allocates little and recurses nowhere.
#![no_main]

/// Takes memory from the kernel 64 KiB at a time: musl's own allocator makes some thirty system calls
/// in an ADD, and this one makes two.
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

use cni_shim::{Process, run};
use std::ffi::{c_char, c_int};

/// The C runtime's entry. A closed stdout or stderr ends the process by SIGPIPE, which a runtime
/// takes as a failure, as it should.
#[allow(unsafe_code, reason = "the linker must find this name")]
// SAFETY: no other item of the program is called `main`; the signature is C's.
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    let mut process = Process {
        env: &|name| std::env::var_os(name),
        stdin: &mut std::io::stdin(),
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    c_int::from(run(&mut process))
}
