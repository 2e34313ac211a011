//! Writes `src/generated/` anew from `proto/ipam.proto`: `cargo run -p ipam-proto --example regenerate`.
//! No `protoc`: protox compiles the file. `tests/generated.rs` fails while the two differ.

use std::error::Error;
use std::path::Path;

/// Where the generated code lives, below the crate.
pub(crate) const TARGET: &str = "src/generated/ipamd.v1.rs";

/// The code for `proto/ipam.proto`.
pub(crate) fn generate(crate_dir: &Path) -> Result<String, Box<dyn Error>> {
    let include = crate_dir.join("proto");
    let files = protox::compile([include.join("ipam.proto")], [include])?;
    let out = tempdir()?;
    tonic_prost_build::configure()
        .build_transport(false)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .out_dir(&out)
        .compile_fds(files)?;
    let code = std::fs::read_to_string(out.join("ipamd.v1.rs"))?;
    std::fs::remove_dir_all(out)?;
    Ok(code)
}

fn tempdir() -> std::io::Result<std::path::PathBuf> {
    let dir = std::env::temp_dir().join(format!("ipam-proto-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    Ok(dir)
}

#[allow(dead_code, reason = "the test uses the rest of this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::write(crate_dir.join(TARGET), generate(crate_dir)?)?;
    Ok(())
}
