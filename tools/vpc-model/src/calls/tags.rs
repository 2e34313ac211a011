//! CreateTags, DeleteTags, and the rules for tags.

use super::not_found::{ENI, GROUP, INSTANCE, SUBNET, VPC};
use crate::state::State;
use crate::words::error::ApiError;
use crate::words::request::{CreateTags, DeleteTags, Tags};
use crate::words::response::Response;
use crate::words::time::Time;

// *documented*: tags a resource, characters a key, characters a value.
const MAX_TAGS: usize = 50;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;

/// The rules for tags that are to be added to those there.
pub(crate) fn check(there: &Tags, new: &Tags) -> Result<(), ApiError> {
    for (key, value) in new {
        if key.to_ascii_lowercase().starts_with("aws:") {
            // *recorded*.
            return Err(ApiError::value(
                "Tag keys starting with 'aws:' are reserved for internal use",
            ));
        }
        if key.is_empty() {
            return Err(ApiError::value("Tag key cannot be null or empty"));
        }
        if key.chars().count() > MAX_KEY {
            let text = format!("Tag key exceeds the maximum length of {MAX_KEY} characters");
            return Err(ApiError::value(text));
        }
        if value.chars().count() > MAX_VALUE {
            let text = format!("Tag value exceeds the maximum length of {MAX_VALUE} characters");
            return Err(ApiError::value(text));
        }
    }
    let added = new.keys().filter(|k| !there.contains_key(*k)).count();
    if there.len() + added > MAX_TAGS {
        // *recorded*.
        let text = format!("More than {MAX_TAGS} tags specified");
        return Err(ApiError::new("TagLimitExceeded", text));
    }
    Ok(())
}

pub(crate) fn create_tags(
    state: &mut State,
    r: &CreateTags,
    now: Time,
) -> Result<Response, ApiError> {
    if r.tags.is_empty() {
        return Err(ApiError::missing("Tag"));
    }
    for_tags(
        state,
        &r.resources,
        now,
        |tags| check(tags, &r.tags),
        |tags| {
            tags.extend(r.tags.clone());
        },
    )
}

pub(crate) fn delete_tags(
    state: &mut State,
    r: &DeleteTags,
    now: Time,
) -> Result<Response, ApiError> {
    let gone = |key: &String, value: &String| {
        r.tags.is_empty()
            || r.tags
                .iter()
                .any(|(k, v)| k == key && v.as_ref().is_none_or(|v| v == value))
    };
    for_tags(
        state,
        &r.resources,
        now,
        |_| Ok(()),
        |tags| tags.retain(|k, v| !gone(k, v)),
    )
}

/// Checks all resources, then changes the tags of all.
fn for_tags(
    state: &mut State,
    resources: &[String],
    now: Time,
    check: impl Fn(&Tags) -> Result<(), ApiError>,
    change: impl Fn(&mut Tags),
) -> Result<Response, ApiError> {
    if resources.is_empty() {
        return Err(ApiError::missing("resourceIdSet"));
    }
    for id in resources {
        check(tags_of(state, id)?)?;
    }
    for id in resources {
        if let Some(eni) = state.enis.get(id) {
            let mut eni = (**eni).clone();
            change(&mut eni.tags);
            state.enis.put(eni, now);
        } else if let Some(tags) = tags_mut(state, id) {
            change(tags);
        }
    }
    Ok(Response::Done)
}

/// Tags of a resource of any kind, or the error that its kind has for unknown ids.
fn tags_of<'a>(state: &'a State, id: &str) -> Result<&'a Tags, ApiError> {
    let kind = [ENI, INSTANCE, SUBNET, VPC, GROUP]
        .into_iter()
        .find(|k| k.check(id).is_ok());
    let Some(kind) = kind else {
        // *recorded*.
        return Err(ApiError::new(
            "InvalidID",
            format!("The ID '{id}' is not valid"),
        ));
    };
    state.tags_of(id).ok_or_else(|| kind.missing(&[id]))
}

fn tags_mut<'a>(state: &'a mut State, id: &str) -> Option<&'a mut Tags> {
    if state.id.as_str() == id {
        return Some(&mut state.tags);
    }
    let State {
        instances,
        subnets,
        groups,
        ..
    } = state;
    instances
        .get_mut(id)
        .map(|i| &mut i.tags)
        .or_else(|| subnets.get_mut(id).map(|s| &mut s.tags))
        .or_else(|| groups.get_mut(id).map(|g| &mut g.tags))
}
