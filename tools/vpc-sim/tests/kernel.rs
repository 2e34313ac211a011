//! What the kernel does with a VPC, seen from nodes, pods and the internet.

use vpc_sim::testing::run;

fn main() -> std::process::ExitCode {
    run(&[])
}
