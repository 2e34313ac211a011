//! DescribeNetworkInterfaces.

use super::fields::ENI_FILTERS;
use super::not_found::ENI;
use crate::error::ApiError;
use crate::filter::{check, literal, matches};
use crate::ids::EniId;
use crate::paging::{Rules, cut};
use crate::request::Describe;
use crate::response::{Eni, Response};
use crate::state::EniState;
use crate::time::Time;
use crate::vpc::Vpc;
use std::sync::Arc;

const PAGING: Rules = Rules::new("networkInterfaceIdSet", 1000);

impl Vpc {
    /// The list as it was at `then`: an ENI made later is not found, one deleted later still is.
    pub(crate) fn describe_enis(
        &self,
        by: &Describe<EniId>,
        then: Time,
    ) -> Result<Response, ApiError> {
        PAGING.check(by)?;
        check(&by.filters, |name| ENI_FILTERS.contains(&name))?;
        let mut items: Vec<Eni> = Vec::new();
        for eni in self.candidates(by, then)? {
            let view = self.eni_view(eni, then);
            if matches(&view, &by.filters)? {
                items.push(view);
            }
        }
        items.sort_by(|a, b| a.id.cmp(&b.id));
        items.dedup_by(|a, b| a.id == b.id);
        Ok(Response::Enis(cut(&PAGING, by, items, |e| e.id.as_str())?))
    }

    /// The fewest ENIs that can hold all that match: those named, those of the instance that a
    /// filter names, or all.
    fn candidates(
        &self,
        by: &Describe<EniId>,
        then: Time,
    ) -> Result<Vec<&Arc<EniState>>, ApiError> {
        if !by.ids.is_empty() {
            ENI.require(&by.ids, |id| self.enis.at(id, then).is_some())?;
            return Ok(by
                .ids
                .iter()
                .filter_map(|id| self.enis.at(id.as_str(), then))
                .collect());
        }
        let named = |name: &str| -> Option<Vec<&str>> {
            let filter = by.filters.iter().find(|f| f.name == name)?;
            filter.values.iter().map(|v| literal(v)).collect()
        };
        if let Some(instances) = named("attachment.instance-id") {
            return Ok(instances
                .iter()
                .flat_map(|i| self.enis.on_instance(i, then))
                .collect());
        }
        if let Some(ids) = named("network-interface-id") {
            return Ok(ids.iter().filter_map(|id| self.enis.at(id, then)).collect());
        }
        Ok(self.enis.all_at(then))
    }
}
