//! The table of deliberate mistakes is that of the code: each name stands in one `mutant!`, and each `mutant!` in the table.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::mutants::{Fate, Suite, id, table};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names in the sources below a folder, each with the files that it stands in.
fn collect(folder: &Path, names: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            for name in names_in(&std::fs::read_to_string(&path).unwrap()) {
                names.entry(name).or_default().push(path.clone());
            }
        }
    }
}

/// What stands first in each `mutant!` of a source.
fn names_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = source;
    // Put together, so that this file has none itself.
    let begin = concat!("mutant", "!(");
    while let Some(at) = rest.find(begin) {
        rest = &rest[at + begin.len()..];
        let literal = rest.trim_start().strip_prefix('"');
        let literal = literal.expect("a mutant's name is a literal");
        names.push(literal.split('"').next().unwrap().to_owned());
    }
    names
}

#[test]
fn names_are_found_wherever_they_stand() {
    let source = concat!(
        "a(mutant",
        "!(\"x/y\", 1, 2)); mutant",
        "!(\n    \"z\",\n 1, 2)"
    );
    assert_eq!(names_in(source), ["x/y", "z"]);
}

#[test]
fn the_table_is_that_of_the_code() {
    let mut there = BTreeMap::new();
    for folder in [
        "ipamd/core/src",
        "ipamd/engine/src",
        "proto/src",
        "tools/vpc-model/src",
        "tools/fleet-sim/src",
    ] {
        collect(&root().join(folder), &mut there);
    }
    let mut wrong = Vec::new();
    let names: BTreeSet<&str> = table().map(|m| m.name).collect();
    for (name, files) in &there {
        if files.len() > 1 {
            wrong.push(format!("{name} stands in {files:?}"));
        }
        if !names.contains(name.as_str()) {
            wrong.push(format!("{name} is not in the table"));
        }
    }
    for name in &names {
        if !there.contains_key(*name) {
            wrong.push(format!("{name} is in no source"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn rows_are_whole() {
    let rows: Vec<_> = table().collect();
    let ids: BTreeSet<u64> = rows.iter().map(|m| id(m.name)).collect();
    assert_eq!(
        ids.len(),
        rows.len(),
        "two mutants of one name, or of one hash"
    );
    assert!(rows.len() >= 100);
    for row in rows {
        let name = row.name;
        assert!(
            name.split('/').count() == 2 && !row.breaks.is_empty() && row.within > 0,
            "{name}"
        );
        match row.suite {
            Suite::Tests(source) => assert!(root().join(source).is_file(), "{name}: no {source}"),
            Suite::Seeds(_) => assert!(row.within <= 1000, "{name}: too late to be of use"),
        }
        if let Fate::Equivalent(why) | Fate::Unseen(why) = row.fate {
            assert!(why.len() > 20, "{name}: say why");
        }
    }
}
