//! Which crates a build needs, and which of them are there: read from what cargo prints.

use std::collections::BTreeSet;

/// The crates of a build, each by name and version: `serde v1.0.0`.
#[derive(Debug, Default)]
pub(crate) struct Crates {
    needed: BTreeSet<String>,
    built: BTreeSet<String>,
}

impl Crates {
    /// From what `cargo tree --prefix none --format {p}` prints. A crate stands there once for each that
    /// depends on it.
    pub(crate) fn needed(tree: &str) -> Self {
        let crates = tree.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(format!("{} {}", words.next()?, words.next()?))
        });
        Self {
            needed: crates.collect(),
            built: BTreeSet::new(),
        }
    }

    /// Takes one of cargo's messages for programs.
    pub(crate) fn take(&mut self, message: &str) {
        // A crate is not built with its build script.
        if is_artifact(message) && !message.contains(r#""kind":["custom-build"]"#) {
            self.built.extend(package(message));
        }
    }

    /// How many are built, of how many.
    pub(crate) fn count(&self) -> (usize, usize) {
        let done = self.built.len();
        // What cargo tree lists and what is built may differ by a crate or two.
        (done, self.needed.len().max(done))
    }

    /// Names of those that are not built yet.
    pub(crate) fn left(&self) -> Vec<&str> {
        let left = self.needed.difference(&self.built);
        left.filter_map(|name| name.split(' ').next()).collect()
    }
}

/// Whether a message says that something is built.
pub(crate) fn is_artifact(message: &str) -> bool {
    message.starts_with(r#"{"reason":"compiler-artifact""#)
}

/// Whether a message says that something had to be built: it was not there already.
pub(crate) fn is_work(message: &str) -> bool {
    is_artifact(message) && message.contains(r#""fresh":false"#)
}

/// Name and version in a message. A package's id is `SOURCE#NAME@VERSION`, or `PATH#VERSION` if the
/// path ends with the name.
fn package(message: &str) -> Option<String> {
    let id = text(message, "package_id")?;
    let (source, name) = id.split_once('#')?;
    let (name, version) = match name.split_once('@') {
        Some(both) => both,
        None => (source.rsplit('/').next()?, name),
    };
    Some(format!("{name} v{version}"))
}

/// A field of a message that is a string without quotes in it.
pub(crate) fn text<'a>(message: &'a str, field: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(&format!("\"{field}\":\""))?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "xtask v0.1.0 (/src/tools/xtask)
serde v1.0.229
serde_derive v1.0.229 (proc-macro)
serde v1.0.229 (*)
";
    const SERDE: &str = r#"{"reason":"compiler-artifact","package_id":"registry+https://github.com/rust-lang/crates.io-index#serde@1.0.229","manifest_path":"/x","target":{"kind":["lib"],"crate_types":["lib"],"name":"serde"},"executable":null,"fresh":false}"#;

    #[test]
    fn crates_are_counted_once() {
        let mut crates = Crates::needed(TREE);
        assert_eq!(crates.count(), (0, 3));
        crates.take(SERDE);
        crates.take(SERDE);
        assert_eq!(crates.count(), (1, 3));
        assert_eq!(crates.left(), ["serde_derive", "xtask"]);
    }

    #[test]
    fn a_build_script_is_not_its_crate() {
        let mut crates = Crates::needed(TREE);
        crates.take(&SERDE.replace(r#"["lib"]"#, r#"["custom-build"]"#));
        crates.take(r#"{"reason":"build-finished","success":true}"#);
        assert_eq!(crates.count(), (0, 3));
    }

    #[test]
    fn packages_of_the_workspace_are_known() {
        let named = SERDE.replace(
            "registry+https://github.com/rust-lang/crates.io-index#serde@1.0.229",
            "path+file:///src/ipamd/core#ipam-core@0.1.0",
        );
        assert_eq!(package(&named).as_deref(), Some("ipam-core v0.1.0"));
        let short = SERDE.replace(
            "registry+https://github.com/rust-lang/crates.io-index#serde@1.0.229",
            "path+file:///src/tools/xtask#0.1.0",
        );
        assert_eq!(package(&short).as_deref(), Some("xtask v0.1.0"));
    }

    #[test]
    fn more_crates_than_were_listed_are_no_contradiction() {
        let mut crates = Crates::needed("");
        crates.take(SERDE);
        assert_eq!(crates.count(), (1, 1));
    }

    #[test]
    fn only_what_was_built_now_is_work() {
        assert!(is_work(SERDE));
        assert!(!is_work(&SERDE.replace(":false}", ":true}")));
    }
}
