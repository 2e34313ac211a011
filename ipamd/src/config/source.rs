//! Where settings come from: the process's environment, or a map in tests.

use std::collections::BTreeMap;

/// A value that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not valid UTF-8")]
pub struct NotText;

/// The environment, as one method.
pub trait Source {
    /// The value of `name`, if it is set.
    ///
    /// # Errors
    /// It is set to something that is not UTF-8.
    fn get(&self, name: &str) -> Result<Option<String>, NotText>;

    /// The names that are set, as far as they are text.
    fn names(&self) -> Vec<String>;
}

/// The process's own environment. Read at start only, and only by [`super::Config::load`].
#[derive(Clone, Copy, Debug)]
pub struct ProcessEnv;

impl Source for ProcessEnv {
    fn get(&self, name: &str) -> Result<Option<String>, NotText> {
        match std::env::var_os(name) {
            None => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| NotText),
        }
    }

    fn names(&self) -> Vec<String> {
        let names = std::env::vars_os().map(|(name, _)| name);
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        names
    }
}

impl Source for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Result<Option<String>, NotText> {
        Ok(Self::get(self, name).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}
