//! A tree of values by path, as IMDS answers it.

use std::collections::BTreeMap;

/// Leaves by path below the version.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeMap<String, String>);

impl Leaves {
    pub(super) fn put(&mut self, path: &str, value: impl Into<String>) {
        self.0.insert(path.to_owned(), value.into());
    }

    /// A leaf's value, or a directory's entries: one a line, directories with a slash, no line
    /// end after the last. With or without a slash at the end of the path, as real IMDS does.
    pub(super) fn get(&self, path: &str) -> Option<String> {
        if let Some(value) = self.0.get(path) {
            return Some(value.clone());
        }
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let mut entries: Vec<String> = Vec::new();
        for leaf in self.0.range(prefix.clone()..) {
            let Some(rest) = leaf.0.strip_prefix(&prefix) else {
                break;
            };
            let entry = match rest.split_once('/') {
                Some((dir, _)) => format!("{dir}/"),
                None => rest.to_owned(),
            };
            entries.push(entry);
        }
        entries.sort();
        entries.dedup();
        (!entries.is_empty()).then(|| entries.join("\n"))
    }
}

/// One item a line.
pub(super) fn lines<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
