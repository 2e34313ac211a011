//! Tells the plugin which commit it is built from: `IPAMD_COMMIT`, if that is set (an image's build has no
//! repository), or git's word, if there is one. A source archive has neither, and builds all the same.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=IPAMD_COMMIT");
    let given = std::env::var("IPAMD_COMMIT").ok();
    let given =
        given.filter(|text| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric()));
    let Some(commit) = given.or_else(of_repository) else {
        // Without any such line cargo would look at every file of the package.
        println!("cargo::rerun-if-changed=build.rs");
        return;
    };
    println!("cargo::rustc-env=IPAMD_COMMIT={commit}");
}

/// The commit of this repository's checkout, not of one that the archive was unpacked in.
fn of_repository() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().ok()?;
    if here.parent()? != Path::new(&top).canonicalize().ok()? {
        return None;
    }
    let branch = git(&["symbolic-ref", "-q", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        // A file that is not there would make every build a new one.
        let path = git(&["rev-parse", "--path-format=absolute", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    let output = command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
