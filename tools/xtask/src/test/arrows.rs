//! Who may depend on whom: the architecture's arrows, read from `cargo metadata`.

use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a package of the workspace may depend on within it. Tests of a package may depend on more.
const ARROWS: [(&str, &[&str]); 15] = [
    ("mutant", &[]),
    ("ipam-core", &["mutant"]),
    ("ipam-engine", &["ipam-core", "mutant"]),
    ("ipam-proto", &["ipam-core", "mutant"]),
    ("ipamd", &["ipam-core", "ipam-engine", "ipam-proto"]),
    ("cni-shim", &["ipam-core", "ipam-proto"]),
    (
        "ipamd-tests",
        &[
            "ipam-core",
            "ipam-engine",
            "ipam-proto",
            "lab",
            "vpc-model",
            "vpc-sim",
        ],
    ),
    (
        "ipamd-localstack",
        &["ipamd-tests", "lab", "vpc-model", "vpc-sim"],
    ),
    (
        "fleet-sim",
        &["ipam-core", "ipam-engine", "mutant", "vpc-model"],
    ),
    ("lab", &["ipam-proto", "vpc-model", "vpc-sim"]),
    ("launch", &[]),
    ("max-pods", &["ipam-core"]),
    ("vpc-model", &["mutant"]),
    ("vpc-sim", &["vpc-model"]),
    (
        "xtask",
        &[
            "fleet-sim",
            "ipam-core",
            "ipam-engine",
            "lab",
            "launch",
            "vpc-model",
            "vpc-sim",
        ],
    ),
];

/// Everything that the core may link: values in, values out, no operating system.
const CORE: [&str; 5] = ["ipnet", "mutant", "serde", "sha1", "thiserror"];

/// One package: name, what it links, what its tests link besides.
#[derive(Debug, Default)]
struct Package {
    links: BTreeSet<String>,
    tests_link: BTreeSet<String>,
    member: bool,
}

type Graph = BTreeMap<String, Package>;

/// Checks every rule.
pub(super) fn check() -> Result<Outcome, TaskError> {
    let mut outcome = judge(&graph(&cargo::metadata()?), &no_std()?);
    for build in BUILDS {
        let found = has_mistakes(&feature_tree(build)?);
        outcome.count(match found {
            Some(false) => None,
            Some(true) => Some(format!("`{build}` builds deliberate mistakes in")),
            None => Some(format!(
                "`{build}` has no package `mutant`: what is to be checked?"
            )),
        });
    }
    // The look itself, on a build that has them.
    let blind = has_mistakes(&feature_tree(WITH_MISTAKES)?) != Some(true);
    outcome.count(blind.then(|| format!("`{WITH_MISTAKES}` shows no mistakes: the look is blind")));
    Ok(outcome)
}

/// Builds that must have no deliberate mistakes in them: the products with all that can be chosen of them, and
/// what `cargo build` and `cargo test` make.
const BUILDS: [&str; 3] = [
    "--package ipamd --all-features",
    "--package cni-shim --all-features",
    "--workspace",
];

/// The one build that has them: what `cargo xtask mutants` chooses.
const WITH_MISTAKES: &str = "--package fleet-sim --features mutants";

/// `cargo tree` with the features that a build sets for each package.
fn feature_tree(build: &str) -> Result<String, TaskError> {
    let tree = ["tree", "--edges", "features", "--prefix", "none"];
    let form = ["--format", "{p} features:{f}"];
    let args = tree.into_iter().chain(form).chain(build.split(' '));
    cargo::output(cargo::cargo(args))
}

/// Whether a tree has the mistakes compiled in; `None` if it does not even have the package that they are made with.
fn has_mistakes(tree: &str) -> Option<bool> {
    let rows = tree.lines().filter(|line| line.starts_with("mutant v"));
    let sets: Vec<&str> = rows
        .filter_map(|row| Some(row.split_once(" features:")?.1))
        .collect();
    let on = |set: &&str| set.split([',', ' ']).any(|feature| feature == "play");
    (!sets.is_empty()).then(|| sets.iter().any(on))
}

fn no_std() -> Result<String, TaskError> {
    let file = cargo::root().join("ipamd/core/src/lib.rs");
    std::fs::read_to_string(&file).map_err(TaskError::io(format!("reading {}", file.display())))
}

/// By package *name*: two versions of one package count as one, which is what the rules mean.
fn graph(metadata: &Value) -> Graph {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = list(&metadata["packages"])
        .iter()
        .map(|p| (text(&p["id"]), text(&p["name"])))
        .collect();
    let members: BTreeSet<String> = list(&metadata["workspace_members"])
        .iter()
        .map(text)
        .collect();
    let mut graph = Graph::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let id = text(&node["id"]);
        let Some(name) = names.get(&id) else { continue };
        let package = graph.entry(name.clone()).or_default();
        package.member |= members.contains(&id);
        for dep in list(&node["deps"]) {
            let Some(dep_name) = names.get(&text(&dep["pkg"])) else {
                continue;
            };
            for kind in list(&dep["dep_kinds"]) {
                // `null` is an ordinary dependency; build dependencies are not linked.
                match kind["kind"].as_str() {
                    None => package.links.insert(dep_name.clone()),
                    Some("dev") => package.tests_link.insert(dep_name.clone()),
                    Some(_) => false,
                };
            }
        }
    }
    graph
}

fn judge(graph: &Graph, core_source: &str) -> Outcome {
    let mut outcome = Outcome::default();
    let members: BTreeMap<&String, &Package> = graph.iter().filter(|(_, p)| p.member).collect();
    for (&name, package) in &members {
        outcome.count(unknown_arrow(name, package, &members));
        outcome.count(aws(graph, name, package));
    }
    let core: Vec<_> = graph
        .get("ipam-core")
        .map(|p| p.links.iter().collect())
        .unwrap_or_default();
    let extra: Vec<_> = core
        .iter()
        .filter(|d| !CORE.contains(&d.as_str()))
        .collect();
    outcome.count(
        (!extra.is_empty()).then(|| format!("ipam-core links {extra:?}: only {CORE:?} may be")),
    );
    let bare = core_source
        .lines()
        .any(|l| l.contains("no_std") && l.starts_with("#!["));
    outcome.count((!bare).then(|| "ipam-core is not #![no_std]".to_owned()));
    outcome
}

fn unknown_arrow(
    name: &str,
    package: &Package,
    members: &BTreeMap<&String, &Package>,
) -> Option<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
        return Some(format!("{name} has no row in the table of arrows"));
    };
    let inside = |deps: &BTreeSet<String>| -> Vec<String> {
        deps.iter()
            .filter(|d| members.contains_key(d))
            .cloned()
            .collect()
    };
    let wrong: Vec<_> = inside(&package.links)
        .into_iter()
        .filter(|dep| !allowed.contains(&dep.as_str()))
        .collect();
    if !wrong.is_empty() {
        return Some(format!(
            "{name} depends on {}: no arrow leads there",
            wrong.join(", ")
        ));
    }
    // An oracle shares no code with what it judges, not even in its tests.
    let judged = ["ipam-core", "ipam-engine", "ipam-proto", "ipamd"];
    let shared: Vec<_> = inside(&package.tests_link)
        .into_iter()
        .filter(|d| judged.contains(&d.as_str()))
        .collect();
    (name == "vpc-model" && !shared.is_empty())
        .then(|| format!("tests of vpc-model use {}", shared.join(", ")))
}

/// The AWS SDK compiles for minutes: only the daemon may link it, directly or through others.
fn aws(graph: &Graph, name: &str, package: &Package) -> Option<String> {
    if name == "ipamd" {
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut next: Vec<&String> = package.links.iter().chain(&package.tests_link).collect();
    while let Some(dep) = next.pop() {
        if dep.starts_with("aws-") {
            return Some(format!(
                "{name} reaches {dep}: only ipamd may link the AWS SDK"
            ));
        }
        if seen.insert(dep) {
            next.extend(graph.get(dep).iter().flat_map(|p| p.links.iter()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, bool, &'static [&'static str]);

    fn graph_of(rows: &[Row]) -> Graph {
        rows.iter()
            .map(|(name, member, links)| {
                let links = links.iter().map(|l| (*l).to_owned()).collect();
                (
                    (*name).to_owned(),
                    Package {
                        links,
                        member: *member,
                        ..Package::default()
                    },
                )
            })
            .collect()
    }

    const NO_STD: &str = "#![no_std]";

    #[test]
    fn mistakes_are_seen_in_a_tree() {
        let clean = "ipam-core v0.1.0 (/w/ipamd/core) features:\nmutant feature \"default\"\n\
                     mutant v0.1.0 (/w/tools/mutant) features:\n";
        assert_eq!(has_mistakes(clean), Some(false));
        for set in ["play", "default,play", "play (*)"] {
            let tree = format!("{clean}mutant v0.1.0 (/w/tools/mutant) features:{set}\n");
            assert_eq!(has_mistakes(&tree), Some(true), "{set}");
        }
        assert_eq!(
            has_mistakes("ipam-core v0.1.0 (/w/ipamd/core) features:\n"),
            None
        );
    }

    #[test]
    fn the_arrows_as_designed_pass() {
        let graph = graph_of(&[
            ("ipam-core", true, &["serde"]),
            ("ipamd", true, &["ipam-core", "aws-sdk-ec2"]),
            ("vpc-model", true, &["serde"]),
        ]);
        assert_eq!(judge(&graph, NO_STD).failures, Vec::<String>::new());
    }

    #[test]
    fn each_rule_can_fire() {
        let cases: [(&[Row], &str, &str); 6] = [
            (
                &[("lab", true, &["tonic"]), ("tonic", false, &["aws-x"])],
                NO_STD,
                "lab reaches aws-x",
            ),
            (
                &[
                    ("vpc-model", true, &["ipam-core"]),
                    ("ipam-core", true, &[]),
                ],
                NO_STD,
                "no arrow",
            ),
            (&[("stranger", true, &[])], NO_STD, "no row"),
            (
                &[("ipam-core", true, &["tokio"])],
                NO_STD,
                "ipam-core links",
            ),
            (
                &[("ipam-core", true, &[])],
                "// #![no_std]",
                "not #![no_std]",
            ),
            (
                &[("cni-shim", true, &["ipamd"]), ("ipamd", true, &[])],
                NO_STD,
                "no arrow",
            ),
        ];
        for (rows, source, words) in cases {
            let outcome = judge(&graph_of(rows), source);
            assert!(
                outcome.failures.iter().any(|f| f.contains(words)),
                "{words}: {outcome:?}"
            );
        }
    }
}
