//! CreateTags, DeleteTags, and the rules for tags.

use super::not_found::{ENI, GROUP, INSTANCE, SUBNET, VPC};
use crate::error::ApiError;
use crate::request::{CreateTags, DeleteTags, Tags};
use crate::response::Response;
use crate::time::Time;
use crate::vpc::Vpc;

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

impl Vpc {
    pub(crate) fn create_tags(&mut self, r: &CreateTags, now: Time) -> Result<Response, ApiError> {
        if r.tags.is_empty() {
            return Err(ApiError::missing("Tag"));
        }
        self.for_tags(
            &r.resources,
            now,
            |tags| check(tags, &r.tags),
            |tags| {
                tags.extend(r.tags.clone());
            },
        )
    }

    pub(crate) fn delete_tags(&mut self, r: &DeleteTags, now: Time) -> Result<Response, ApiError> {
        let gone = |key: &String, value: &String| {
            r.tags.is_empty()
                || r.tags
                    .iter()
                    .any(|(k, v)| k == key && v.as_ref().is_none_or(|v| v == value))
        };
        self.for_tags(
            &r.resources,
            now,
            |_| Ok(()),
            |tags| tags.retain(|k, v| !gone(k, v)),
        )
    }

    /// Checks all resources, then changes the tags of all.
    fn for_tags(
        &mut self,
        resources: &[String],
        now: Time,
        check: impl Fn(&Tags) -> Result<(), ApiError>,
        change: impl Fn(&mut Tags),
    ) -> Result<Response, ApiError> {
        if resources.is_empty() {
            return Err(ApiError::missing("resourceIdSet"));
        }
        for id in resources {
            check(self.tags_of(id)?)?;
        }
        for id in resources {
            if let Some(eni) = self.enis.get(id) {
                let mut eni = (**eni).clone();
                change(&mut eni.tags);
                self.enis.put(eni, now);
            } else if let Some(tags) = self.tags_mut(id) {
                change(tags);
            }
        }
        Ok(Response::Done)
    }

    /// Tags of a resource of any kind, or the error that its kind has for unknown ids.
    pub(crate) fn tags_of(&self, id: &str) -> Result<&Tags, ApiError> {
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
        let found = self
            .enis
            .get(id)
            .map(|e| &e.tags)
            .or_else(|| self.instances.get(id).map(|i| &i.tags))
            .or_else(|| self.subnets.get(id).map(|s| &s.tags))
            .or_else(|| self.groups.get(id).map(|g| &g.tags))
            .or_else(|| (self.id.as_str() == id).then_some(&self.tags));
        found.ok_or_else(|| kind.missing(&[id]))
    }

    fn tags_mut(&mut self, id: &str) -> Option<&mut Tags> {
        if self.id.as_str() == id {
            return Some(&mut self.tags);
        }
        let Self {
            instances,
            subnets,
            groups,
            ..
        } = self;
        instances
            .get_mut(id)
            .map(|i| &mut i.tags)
            .or_else(|| subnets.get_mut(id).map(|s| &mut s.tags))
            .or_else(|| groups.get_mut(id).map(|g| &mut g.tags))
    }
}
