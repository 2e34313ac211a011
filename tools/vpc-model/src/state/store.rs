//! All ENIs, now and as they were a while ago: what eventual consistency reads from.

use crate::state::parts::EniState;
use crate::words::ids::{EniId, InstanceId};
use crate::words::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How far back the past reaches.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

/// A version that ended at the time; `None` is "did not exist".
type Past = Vec<(Time, Option<Arc<EniState>>)>;

#[derive(Debug, Default)]
pub(crate) struct EniStore {
    current: BTreeMap<EniId, Arc<EniState>>,
    past: BTreeMap<EniId, Past>,
    /// Every ENI that is or lately was on the instance.
    on_instance: BTreeMap<InstanceId, BTreeSet<EniId>>,
    last_change: Time,
}

impl EniStore {
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<EniState>> {
        self.current.get(id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<EniState>> {
        self.current.values()
    }

    /// Stores a new or changed ENI.
    pub(crate) fn put(&mut self, eni: EniState, now: Time) {
        let before = self.current.get(&eni.id).cloned();
        if let Some(attachment) = &eni.attachment {
            let on = self
                .on_instance
                .entry(attachment.instance.clone())
                .or_default();
            on.insert(eni.id.clone());
        }
        self.remember(&eni.id, before, now);
        self.current.insert(eni.id.clone(), Arc::new(eni));
    }

    pub(crate) fn remove(&mut self, id: &EniId, now: Time) {
        if let Some(before) = self.current.remove(id) {
            self.remember(id, Some(before), now);
            self.forget_removed(now);
        }
    }

    /// The ENI as it was at `then`.
    pub(crate) fn at(&self, id: &str, then: Time) -> Option<&Arc<EniState>> {
        let past = self
            .past
            .get(id)
            .and_then(|p| p.iter().find(|(until, _)| *until > then));
        match past {
            Some((_, version)) => version.as_ref(),
            None => self.current.get(id),
        }
    }

    /// All ENIs as they were at `then`, by id.
    pub(crate) fn all_at(&self, then: Time) -> Vec<&Arc<EniState>> {
        if then >= self.last_change {
            return self.current.values().collect();
        }
        let ids: BTreeSet<&EniId> = self.current.keys().chain(self.past.keys()).collect();
        ids.into_iter()
            .filter_map(|id| self.at(id.as_str(), then))
            .collect()
    }

    /// ENIs on an instance as they were at `then`, by id. One whose detach was over by then is
    /// not among them.
    pub(crate) fn on_instance(&self, instance: &str, then: Time) -> Vec<&Arc<EniState>> {
        let ids = self.on_instance.get(instance).into_iter().flatten();
        let there = |e: &&Arc<EniState>| {
            e.attachment
                .as_ref()
                .is_some_and(|a| a.instance.as_str() == instance && !a.is_over(then))
        };
        ids.filter_map(|id| self.at(id.as_str(), then))
            .filter(there)
            .collect()
    }

    fn remember(&mut self, id: &EniId, before: Option<Arc<EniState>>, now: Time) {
        let oldest = now.back(WINDOW);
        let past = self.past.entry(id.clone()).or_default();
        past.retain(|(until, _)| *until > oldest);
        past.push((now, before));
        self.last_change = now;
    }

    /// Drops what is left of ENIs that were removed longer ago than the window.
    fn forget_removed(&mut self, now: Time) {
        if self.past.len() < 2 * self.current.len() + 64 {
            return;
        }
        let oldest = now.back(WINDOW);
        let Self {
            current,
            past,
            on_instance,
            ..
        } = self;
        past.retain(|id, versions| {
            current.contains_key(id) || versions.last().is_some_and(|(until, _)| *until > oldest)
        });
        for enis in on_instance.values_mut() {
            enis.retain(|id| current.contains_key(id) || past.contains_key(id));
        }
    }
}
