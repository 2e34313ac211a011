//! Filters of Describe calls: name to values, wildcards, and the error for unknown names.

use crate::words::error::ApiError;
use crate::words::glob::glob;
use crate::words::request::{Filter, Tags};

/// A thing that filters can ask about.
pub(crate) trait Filtered {
    /// The values of a field, by EC2's filter name without `tag` filters. `None`: there is no
    /// such filter. An empty list: the thing has no such value, and no filter value matches.
    fn field(&self, name: &str) -> Option<Vec<String>>;

    /// Its tags.
    fn tags(&self) -> &Tags;
}

/// True if all filters match.
///
/// # Errors
/// A filter has no values or an unknown name (*recorded*: `The filter 'x' is invalid`).
pub(crate) fn matches(thing: &impl Filtered, filters: &[Filter]) -> Result<bool, ApiError> {
    for filter in filters {
        let any = |have: &str| filter.values.iter().any(|want| glob(want, have));
        let hit = if let Some(key) = filter.name.strip_prefix("tag:") {
            thing.tags().get(key).is_some_and(|v| any(v))
        } else if filter.name == "tag-key" {
            thing.tags().keys().any(|k| any(k))
        } else if filter.name == "tag-value" {
            thing.tags().values().any(|v| any(v))
        } else {
            let values = thing
                .field(&filter.name)
                .ok_or_else(|| unknown(&filter.name))?;
            values.iter().any(|v| any(v))
        };
        if !hit {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks names and values against a sample, so that a wrong filter fails on an empty list too.
pub(crate) fn check(filters: &[Filter], known: impl Fn(&str) -> bool) -> Result<(), ApiError> {
    for filter in filters {
        let name = filter.name.as_str();
        if name.is_empty() {
            return Err(ApiError::value("The filter 'null' is invalid"));
        }
        if !name.starts_with("tag:") && !["tag-key", "tag-value"].contains(&name) && !known(name) {
            return Err(unknown(name));
        }
        if filter.values.is_empty() {
            return Err(ApiError::value("The filter value set is empty"));
        }
        // *documented*: at most 200 values a filter.
        if filter.values.len() > 200 {
            return Err(ApiError::new(
                "FilterLimitExceeded",
                "The maximum number of filter values specified on a single call is 200",
            ));
        }
    }
    Ok(())
}

fn unknown(name: &str) -> ApiError {
    ApiError::value(format!("The filter '{name}' is invalid"))
}
