//! The file that describes a VPC: TOML, the fields of [`VpcSpec`].

use crate::clock::Clock;
use crate::error::SimError;
use std::collections::BTreeSet;
use std::path::Path;
use vpc_model::{SpecError, Vpc, VpcSpec};

/// Longest name of a link (`IFNAMSIZ` less the final zero, linux/if.h).
const LINK_NAME_MAX: usize = 15;

/// Reads a description and checks all of it.
///
/// # Errors
/// [`SimError::File`] with line and column, or [`SimError::Spec`] with everything that is wrong.
pub fn read(path: &Path) -> Result<VpcSpec, SimError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(SimError::os(format!("reading {file}")))?;
    let spec = parse(&text).map_err(|reason| SimError::File { file, reason })?;
    check(&spec)?;
    Ok(spec)
}

/// Parses a description without checking what it means.
///
/// # Errors
/// Line, column and what is wrong there, for people.
pub fn parse(text: &str) -> Result<VpcSpec, String> {
    toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())
}

/// Whether a VPC can be built from it: what the model refuses, and what the kernel would.
///
/// # Errors
/// Every problem, at once.
pub fn check(spec: &VpcSpec) -> Result<(), SpecError> {
    let modelled = Vpc::new(spec.clone(), Clock::new().now());
    let mut problems = modelled.err().map(|e| e.problems).unwrap_or_default();
    if spec.nodes.is_empty() {
        problems.push("nodes: at least one is needed".into());
    }
    let mut seen = BTreeSet::new();
    for node in &spec.nodes {
        let namespace = node.namespace.as_deref().unwrap_or(&node.name);
        let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if namespace.is_empty() || namespace.starts_with('.') || namespace.contains(bad) {
            problems.push(format!(
                "nodes.{}.namespace: {namespace:?} can't be a name",
                node.name
            ));
        }
        if !seen.insert(namespace) {
            problems.push(format!(
                "nodes.{}.namespace: {namespace:?} is used twice",
                node.name
            ));
        }
        let link = &node.link_name;
        let taken = ["lo", "all", "default"].contains(&link.as_str());
        if link.is_empty() || link.len() > LINK_NAME_MAX || link.contains(bad) || taken {
            problems.push(format!(
                "nodes.{}.link_name: {link:?} can't be a link's name",
                node.name
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(SpecError { problems })
    }
}
