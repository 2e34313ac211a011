//! Runs the program `nft`. Owns nothing; the rules are made elsewhere.

use crate::error::SimError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the program when it is not on the `PATH`.
const VARIABLE: &str = "VPC_SIM_NFT";

/// Finds the program: `VPC_SIM_NFT`, the `PATH`, then the directories that an ordinary user's
/// `PATH` often lacks.
pub(crate) fn find() -> Result<PathBuf, SimError> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|v| !v.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(SimError::NftMissing {
                tried: format!("{VARIABLE}={}", named.display()),
            })
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut candidates = dirs.map(|dir| dir.join("nft"));
    candidates
        .find(|p| p.is_file())
        .ok_or_else(|| SimError::NftMissing {
            tried: path.to_string_lossy().into_owned(),
        })
}

/// Applies `script` in one transaction, in the calling thread's network namespace.
pub(crate) fn apply(nft: &Path, script: &str) -> Result<(), SimError> {
    run(nft, &["-f", "-"], script).map(drop)
}

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    #[serde(default)]
    pub(crate) bytes: u64,
}

/// All named counters of the calling thread's network namespace.
pub(crate) fn counters(nft: &Path) -> Result<BTreeMap<String, Count>, SimError> {
    let text = run(nft, &["-j", "list", "counters"], "")?;
    let answer: Answer = serde_json::from_str(&text).map_err(|e| SimError::NftFailed {
        stderr: format!("counters: {e}"),
    })?;
    let named = answer.nftables.into_iter().filter_map(|item| item.counter);
    Ok(named.map(|c| (c.name, c.count)).collect())
}

#[derive(Deserialize)]
struct Answer {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    counter: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    count: Count,
}

fn run(nft: &Path, args: &[&str], input: &str) -> Result<String, SimError> {
    let doing = || format!("running {}", nft.display());
    let mut child = Command::new(nft)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SimError::os(doing()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // nft reads all of its input before it writes; a broken pipe shows in its status.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(SimError::os(doing()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(SimError::NftFailed {
            stderr: format!("{} ({})", said.trim(), output.status),
        })
    }
}
