//! What happened, for people: when, who, what. Nothing in a run depends on whether it is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Things of a kind, one after the other.
pub(crate) fn list<T: std::fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = things.into_iter().map(|thing| thing.to_string()).collect();
    if words.is_empty() {
        return "none".to_owned();
    }
    words.join(", ")
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story(Option<Arc<Mutex<Vec<String>>>>);

impl Story {
    /// One that is told.
    pub(crate) fn told() -> Self {
        Self(Some(Arc::default()))
    }

    /// Adds a line. `what` is made only if the story is told.
    pub(crate) fn tell(&self, at: Duration, who: &str, what: impl FnOnce() -> String) {
        if let Some(lines) = &self.0 {
            let line = format!("{:>9.3} {who:<8} {}", at.as_secs_f64(), what());
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line);
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.as_ref().map_or_else(Vec::new, |lines| {
            lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}
