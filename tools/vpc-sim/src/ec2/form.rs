//! Parameters of a request: flat names with dots and list numbers, read by name, with a note of
//! what was read, so that what nobody asked for can be refused as EC2 does.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use vpc_model::ApiError;

/// Decoded parameters.
#[derive(Debug)]
pub(super) struct Form {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

/// Parameters of the protocol itself, fine with every action.
const COMMON: [&str; 8] = [
    "Action",
    "Version",
    "AWSAccessKeyId",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "Timestamp",
    "Expires",
];

impl Form {
    pub(super) fn new(query: &[u8], body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(query).chain(form_urlencoded::parse(body));
        let values = pairs
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect();
        Self {
            values,
            read: RefCell::default(),
        }
    }

    /// A value as it came.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (key, value) = self.values.get_key_value(name)?;
        self.read.borrow_mut().insert(key.clone());
        Some(value)
    }

    /// A value that must be there.
    pub(super) fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)
            .filter(|v| !v.is_empty())
            .ok_or_else(|| ApiError::missing(&lower(name)))
    }

    /// A number, not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let wrong = || {
            let name = lower(name);
            ApiError::value(format!("Value ({text}) for parameter {name} is invalid."))
        };
        text.trim().parse().map(Some).map_err(|_| wrong())
    }

    /// A truth value; `false` when absent.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name) {
            None => Ok(None),
            Some(t) if t.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(t) if t.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(t) => {
                let name = lower(name);
                Err(ApiError::value(format!(
                    "Invalid value '{t}' for {name}. Must be true or false."
                )))
            }
        }
    }

    /// The names of a list's members, `Name.1`, `Name.2`, in the order of their numbers.
    pub(super) fn members(&self, list: &str) -> Vec<String> {
        let prefix = format!("{list}.");
        let mut numbers: Vec<u32> = self
            .values
            .range(prefix.clone()..)
            .map_while(|(name, _)| name.strip_prefix(&prefix))
            .filter_map(|rest| rest.split('.').next()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
            .into_iter()
            .map(|n| format!("{prefix}{n}"))
            .collect()
    }

    /// A list of plain values.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.members(name)
            .iter()
            .filter_map(|member| self.text(member))
            .collect()
    }

    /// A list of plain values of some kind; `what` names it in the error.
    pub(super) fn list_of<T: FromStr>(&self, name: &str, what: &str) -> Result<Vec<T>, ApiError> {
        self.list(name)
            .into_iter()
            .map(|text| parsed(text, what))
            .collect()
    }

    /// A list whose members are structures of which one field counts: `Name.1.Field`.
    pub(super) fn list_of_field<T: FromStr>(
        &self,
        name: &str,
        field: &str,
        what: &str,
    ) -> Result<Vec<T>, ApiError> {
        let mut all = Vec::new();
        for member in self.members(name) {
            // Some tools send the flat form.
            let text = self
                .text(&format!("{member}.{field}"))
                .or_else(|| self.text(&member));
            if let Some(text) = text {
                all.push(parsed(text, what)?);
            }
        }
        Ok(all)
    }

    /// Notes that a parameter and all below it are known, and ignored.
    pub(super) fn ignore(&self, name: &str) {
        let below = format!("{name}.");
        let mut read = self.read.borrow_mut();
        let names = self
            .values
            .keys()
            .filter(|k| *k == name || k.starts_with(&below));
        read.extend(names.cloned());
    }

    /// A parameter that nobody read (*recorded* error).
    pub(super) fn check_all_read(&self) -> Result<(), ApiError> {
        let read = self.read.borrow();
        let unread = self.values.keys().find(|name| {
            !read.contains(*name) && !COMMON.contains(&name.as_str()) && !name.starts_with("X-Amz-")
        });
        match unread {
            None => Ok(()),
            Some(name) => Err(ApiError::new(
                "UnknownParameter",
                format!("The parameter {name} is not recognized"),
            )),
        }
    }
}

/// A value of some kind (*recorded* text).
pub(super) fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, ApiError> {
    text.trim()
        .parse()
        .map_err(|_| ApiError::value(format!("invalid value for parameter {what}: {text}")))
}

/// EC2 names parameters in messages with a small first letter.
fn lower(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map(|c| c.to_ascii_lowercase())
        .into_iter()
        .chain(letters)
        .collect()
}
