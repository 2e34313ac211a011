//! Which commit the daemon is built from: `IPAMD_COMMIT`, or what git says; a tarball has neither, and builds.
//!
//! git is asked anew for each commit in releases only: the crate, with all that it makes of the AWS SDK, would be
//! compiled anew with each commit while somebody works on it. Such a build says that it may be of a later one.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=IPAMD_COMMIT");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = std::env::var("IPAMD_COMMIT").ok();
    let commit = given.map(|commit| commit.trim().to_owned());
    let commit = commit.filter(|commit| !commit.is_empty()).or_else(|| {
        let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
        if release {
            watch_head();
            let dirty = git(&["status", "--porcelain", "--untracked-files=no"]);
            let dirty = dirty.is_none_or(|changes| !changes.is_empty());
            return Some(if dirty { commit + "-dirty" } else { commit });
        }
        Some(commit + " or later")
    });
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let long = match &commit {
        Some(commit) => format!("{version} ({commit})"),
        None => version,
    };
    println!("cargo:rustc-env=IPAMD_VERSION={long}");
    println!(
        "cargo:rustc-env=IPAMD_COMMIT={}",
        commit.unwrap_or_default()
    );
}

/// `None`: no git, or no repository of ours.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// A commit or a change of branch is written here.
fn watch_head() {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| Path::new(log).exists()) {
        println!("cargo:rerun-if-changed={log}");
    }
}
