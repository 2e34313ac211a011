//! Pages of a list: `MaxResults`, `NextToken`, and their errors.

use crate::words::error::ApiError;
use crate::words::request::{Describe, Filter};
use crate::words::response::Page;
use std::fmt::Write as _;

/// How an action pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Smallest and largest `MaxResults` (*documented*: 5 and 1000 for most).
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// EC2's name of the id list, in its error when ids and `MaxResults` come together.
    pub(crate) ids_name: &'static str,
    /// Ids and `MaxResults` may come together; documented to be refused for instances and ENIs only.
    pub(crate) with_ids: bool,
}

impl Rules {
    pub(crate) const fn new(ids_name: &'static str, max: u32) -> Self {
        Self {
            min: 5,
            max,
            ids_name,
            with_ids: false,
        }
    }

    pub(crate) const fn with_ids(self) -> Self {
        Self {
            with_ids: true,
            ..self
        }
    }

    /// Checks what can be checked before anything is listed.
    pub(crate) fn check<I>(&self, by: &Describe<I>) -> Result<(), ApiError> {
        let Some(n) = by.max_results else {
            return Ok(());
        };
        if !by.ids.is_empty() && !self.with_ids {
            // *documented* ("You cannot specify this parameter and the IDs parameter").
            return Err(ApiError::combination(format!(
                "The parameter {} cannot be used with the parameter maxResults",
                self.ids_name
            )));
        }
        // Both texts are *recorded*; the first says "greater than" and means "not less than".
        if n < self.min {
            return Err(ApiError::value(format!(
                "Value ( {n} ) for parameter maxResults is invalid. Expecting a value greater than {}.",
                self.min
            )));
        }
        if n > self.max {
            return Err(ApiError::value(format!(
                "Value ( {n} ) for parameter maxResults is invalid. Expecting a value less than or \
                 equal to {}.",
                self.max
            )));
        }
        Ok(())
    }
}

/// Cuts the page that the request asks for out of the whole list, which must be ordered by key.
/// Without `MaxResults` a page has the largest size.
///
/// # Errors
/// The token was not made here, or for another list (*recorded* code, *assumed* text).
pub(crate) fn cut<I: AsRef<str>, T>(
    rules: &Rules,
    by: &Describe<I>,
    items: Vec<T>,
    key: impl Fn(&T) -> &str,
) -> Result<Page<T>, ApiError> {
    let print = fingerprint(by);
    let after = match &by.next_token {
        None => None,
        Some(token) => Some(open(token, print).ok_or_else(|| {
            ApiError::new(
                "InvalidNextToken",
                format!("The token '{token}' is invalid"),
            )
        })?),
    };
    let size = usize::try_from(by.max_results.unwrap_or(rules.max)).unwrap_or(usize::MAX);
    let mut rest = items
        .into_iter()
        .filter(|item| after.as_deref().is_none_or(|last| key(item) > last));
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let more = rest.next().is_some();
    let next_token = page
        .last()
        .filter(|_| more)
        .map(|last| seal(print, key(last)));
    Ok(Page {
        items: page,
        next_token,
    })
}

/// The list that a token belongs to: another page size is fine, other filters are not.
fn fingerprint<I: AsRef<str>>(by: &Describe<I>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut eat = |text: &str| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for Filter { name, values } in &by.filters {
        eat(name);
        values.iter().for_each(|v| eat(v));
    }
    by.ids.iter().for_each(|id| eat(id.as_ref()));
    hash
}

/// A token: opaque hex, so that nobody builds on what is in it.
fn seal(print: u64, last: &str) -> String {
    let mut token = format!("{print:016x}");
    for byte in last.bytes() {
        let _ = write!(token, "{:02x}", byte ^ 0x5a);
    }
    token
}

fn open(token: &str, print: u64) -> Option<String> {
    let (head, body) = token.split_at_checked(16)?;
    if u64::from_str_radix(head, 16).ok()? != print || body.is_empty() || body.len() % 2 != 0 {
        return None;
    }
    let byte = |i: usize| {
        body.get(i..i + 2)
            .and_then(|h| u8::from_str_radix(h, 16).ok())
    };
    let bytes: Option<Vec<u8>> = (0..body.len())
        .step_by(2)
        .map(|i| byte(i).map(|b| b ^ 0x5a))
        .collect();
    String::from_utf8(bytes?).ok()
}
