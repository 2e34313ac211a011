//! The layers that the crate's page draws are those of the sources: who imports whom is read from the
//! code, held against the drawing, and must nowhere run in a circle.

#![allow(clippy::unwrap_used, clippy::tests_outside_test_module)] // Tests fail by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// File names below `src` to their code, without comments and tests.
type Sources = BTreeMap<String, String>;
/// Importing file to imported files.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn sources() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut dirs, mut all) = (vec![root.clone()], Sources::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let name = path.strip_prefix(&root).unwrap();
                let name = name.to_str().unwrap().to_owned();
                all.insert(name, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    all
}

/// Tests stand on top of all layers, and comments import nothing.
fn code(text: &str) -> String {
    let product = text.split("#[cfg(test)]").next().unwrap();
    let lines = product.lines().map(|l| l.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// `calls/attach.rs` is the module `calls::attach`, `calls/mod.rs` is `calls`, `lib.rs` the root.
fn module(file: &str) -> Vec<&str> {
    let stem = file.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" {
        return Vec::new();
    }
    stem.split('/').collect()
}

/// Each `a::b::c` in the code, lists in braces written out.
fn paths(code: &str) -> Vec<String> {
    let mut all = Vec::new();
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| is_path(c) && c != ':') {
        let text = &rest[start..];
        let end = text.find(|c| !is_path(c)).unwrap_or(text.len());
        let (path, after) = text.split_at(end);
        rest = after;
        if let Some(stem) = path.strip_suffix("::").filter(|_| after.starts_with('{')) {
            let close = closing(after);
            for part in parts(&after[1..close]) {
                all.extend(paths(&part).into_iter().map(|p| format!("{stem}::{p}")));
            }
            rest = &after[close..];
        } else if !path.starts_with(|c: char| c.is_ascii_digit()) {
            all.push(path.trim_end_matches(':').to_owned());
        }
    }
    all
}

/// Where the brace closes that the text begins with.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The parts of a list, split at the commas that stand in no inner braces.
fn parts(list: &str) -> Vec<String> {
    let (mut depth, mut all) = (0, vec![String::new()]);
    for c in list.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        match c {
            ',' if depth == 0 => all.push(String::new()),
            c => all.last_mut().unwrap().push(c),
        }
    }
    all
}

/// The file that a path from `file` leads into; `None` if it leads out of the crate.
fn target(file: &str, path: &str, sources: &Sources) -> Option<String> {
    let here = module(file);
    let mut full: Vec<&str> = Vec::new();
    let mut steps = path.split("::").peekable();
    match *steps.peek()? {
        "crate" => {
            steps.next();
        }
        "self" | "super" => {
            full.clone_from(&here);
            while let Some(step @ ("self" | "super")) = steps.peek().copied() {
                steps.next();
                if step == "super" {
                    full.pop();
                }
            }
        }
        child => {
            // A module declared in this file, or another crate's or a local name.
            full.clone_from(&here);
            full.push(child);
            file_of(&full, sources)?;
            full.pop();
        }
    }
    full.extend(steps);
    // The longest beginning that is a module: what follows is a name in it.
    (0..=full.len())
        .rev()
        .find_map(|n| file_of(&full[..n], sources))
}

fn file_of(module: &[&str], sources: &Sources) -> Option<String> {
    let stem = module.join("/");
    let names = match module {
        [] => vec!["lib.rs".to_owned()],
        _ => vec![format!("{stem}.rs"), format!("{stem}/mod.rs")],
    };
    names.into_iter().find(|n| sources.contains_key(n))
}

fn imports(sources: &Sources) -> Imports {
    let of = |file: &String, code: &String| {
        let found = paths(code).into_iter().filter(|p| p.contains("::"));
        let mut files: BTreeSet<String> = found.filter_map(|p| target(file, &p, sources)).collect();
        files.remove(file);
        files
    };
    let all = sources.iter().filter(|(file, _)| *file != "lib.rs");
    all.map(|(file, code)| (file.clone(), of(file, code)))
        .collect()
}

fn layer(file: &str) -> String {
    module(file).first().map_or("lib", |l| l).to_owned()
}

/// The arrows that the crate's page draws: layer to the layers that it may import.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let page = fs::read_to_string(root).unwrap();
    let lines = page.lines().filter_map(|l| l.strip_prefix("//! "));
    let arrows = lines.filter_map(|l| l.split_once(" -> "));
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    arrows
        .map(|(from, to)| (from.trim().to_owned(), words(to)))
        .collect()
}

#[test]
fn the_layers_are_as_drawn() {
    let (drawn, all) = (drawn(), sources());
    let mut real: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (file, files) in imports(&all) {
        let from = layer(&file);
        let to = real.entry(from.clone()).or_default();
        for other in files {
            let into = layer(&other);
            if into == from {
                continue;
            }
            if !drawn.get(&from).is_some_and(|d| d.contains(&into)) {
                wrong.push(format!("{file} ({from}) imports {other} ({into})"));
            }
            to.insert(into);
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "against the drawing in lib.rs");
    // Nothing is drawn that isn't so, and no layer is missing.
    real.retain(|_, to| !to.is_empty());
    assert_eq!(drawn, real);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imports(&sources());
    // Whoever imports nothing that is left can be in no circle.
    loop {
        let before = left.len();
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, to| to.iter().any(|file| names.contains(file)));
        if left.len() == before {
            break;
        }
    }
    // And whom nothing that is left imports.
    loop {
        let before = left.len();
        let named: BTreeSet<String> = left.values().flatten().cloned().collect();
        left.retain(|file, _| named.contains(file));
        if left.len() == before {
            break;
        }
    }
    let names: BTreeSet<String> = left.keys().cloned().collect();
    left.values_mut()
        .for_each(|to| to.retain(|f| names.contains(f)));
    assert_eq!(left, Imports::new(), "in a circle, or between circles");
}

/// A method can be called without an import: only the layer that owns a type may give it some.
#[test]
fn the_state_has_the_methods_of_its_layer_only() {
    for (file, code) in sources() {
        for (owner, name) in [("state", "State"), ("vpc", "Vpc")] {
            let gives = code.contains(&format!("impl {name} {{"));
            assert!(!gives || layer(&file) == owner, "{file}: impl {name}");
        }
    }
}

#[test]
fn imports_are_read_from_code() {
    let code = code(
        "use crate::a::{b::{C, d}, E};\nuse super::f; // crate::no\nlet x = crate::g::h(2);\n\
         #[cfg(test)]\nuse crate::tests_only;",
    );
    let mut found = paths(&code);
    found.retain(|p| p.contains("::"));
    let all = [
        "crate::a::b::C",
        "crate::a::b::d",
        "crate::a::E",
        "super::f",
        "crate::g::h",
    ];
    assert_eq!(found, all);
    let files = ["lib.rs", "a/mod.rs", "a/b.rs", "a/f.rs", "g.rs"];
    let sources: Sources = files.map(|f| (f.to_owned(), String::new())).into();
    for (path, file) in [
        ("crate::a::b::C", Some("a/b.rs")),
        ("crate::a::E", Some("a/mod.rs")),
        ("super::f", Some("a/f.rs")),
        ("super::super::g::h", Some("g.rs")),
        ("crate::Front", Some("lib.rs")),
        ("std::fmt", None),
    ] {
        assert_eq!(target("a/b.rs", path, &sources).as_deref(), file, "{path}");
    }
    assert_eq!(
        target("a/mod.rs", "b::C", &sources).as_deref(),
        Some("a/b.rs")
    );
}
