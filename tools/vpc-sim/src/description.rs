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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_good() {
        let spec = parse(include_str!("../examples/two-nodes.toml")).unwrap();
        check(&spec).unwrap();
        assert_eq!((spec.subnets.len(), spec.nodes.len()), (2, 2));
    }

    #[test]
    fn every_mistake_is_named() {
        let subnet = "[[subnets]]\ncidr = \"10.0.0.0/18\"\n";
        for (nodes, wanted) in [
            ("", "nodes: at least one"),
            ("[[nodes]]\nname = \"a/b\"", "nodes.a/b.namespace"),
            (
                "[[nodes]]\nname = \"a\"\nnamespace = \"..\"",
                "nodes.a.namespace",
            ),
            (
                "[[nodes]]\nname = \"a\"\nlink_name = \"sixteen-letters-\"",
                "nodes.a.link_name",
            ),
            (
                "[[nodes]]\nname = \"a\"\nlink_name = \"lo\"",
                "nodes.a.link_name",
            ),
            (
                "[[nodes]]\nname = \"a\"\n[[nodes]]\nname = \"b\"\nnamespace = \"a\"",
                "used twice",
            ),
            (
                "[[nodes]]\nname = \"a\"\ninstance_type = \"m5.tiny\"",
                "m5.tiny",
            ),
        ] {
            let spec = parse(&format!("{subnet}{nodes}")).unwrap();
            let problems = check(&spec).unwrap_err().problems;
            assert!(
                problems.iter().any(|p| p.contains(wanted)),
                "{nodes}: {problems:?}"
            );
        }
    }

    #[test]
    fn an_unknown_field_is_shown_with_its_line() {
        let reason = parse("region = \"eu-west-1\"\nregoin = \"x\"").unwrap_err();
        assert!(
            reason.contains("line 2") && reason.contains("regoin"),
            "{reason}"
        );
    }
}
