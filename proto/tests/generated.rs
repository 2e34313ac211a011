//! The committed code is what the generator makes of the committed `.proto`.

#[path = "../examples/regenerate.rs"]
mod regenerate;

use std::path::Path;

#[test]
fn committed_code_is_current() {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = regenerate::generate(crate_dir).expect("the .proto compiles");
    let committed = std::fs::read_to_string(crate_dir.join(regenerate::TARGET)).expect("committed");
    assert!(
        made == committed,
        "{} is stale: run `cargo run -p ipam-proto --example regenerate`",
        regenerate::TARGET
    );
}
