//! Filters of Describe calls: name to values, wildcards, and the error for unknown names.

use crate::error::ApiError;
use crate::request::{Filter, Tags};

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

/// `*` is any text, `?` any one character, `\` takes the next character as it is (*documented*).
/// Case matters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go back to when what follows the last star does not fit.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('\\') if p + 1 < pattern.len() => (pattern[p + 1] == text[t]).then_some(2),
            Some(c) => (*c == text[t]).then_some(1),
            None => None,
        };
        if let Some(step) = step {
            p += step;
            t += 1;
        } else if let Some((after, from)) = star {
            p = after;
            t = from + 1;
            star = Some((after, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The value if the pattern has no wildcard: allows a look-up instead of a scan.
pub(crate) fn literal(pattern: &str) -> Option<&str> {
    (!pattern.contains(['*', '?', '\\'])).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, hit) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdf", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*aab", "aaaab", true),
            ("aws-K8S-*", "aws-K8S-i-0123", true),
            (r"a\*b", "a*b", true),
            (r"a\*b", "axb", false),
            (r"a\\b", r"a\b", true),
            ("ABC", "abc", false),
        ] {
            assert_eq!(glob(pattern, text), hit, "{pattern} {text}");
        }
    }
}
