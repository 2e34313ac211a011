//! DescribeNetworkInterfaces.

use super::fields::ENI_FILTERS;
use super::not_found::ENI;
use super::sight::Sight;
use crate::calls::filter::{check, matches};
use crate::calls::paging::{Rules, cut};
use crate::state::EniState;
use crate::state::State;
use crate::views::eni_view;
use crate::words::error::ApiError;
use crate::words::glob::literal;
use crate::words::ids::EniId;
use crate::words::request::Describe;
use crate::words::response::{Eni, Response};
use std::sync::Arc;

const PAGING: Rules = Rules::new("networkInterfaceIdSet", 1000);

/// The list as it was then: an ENI made later is not found, one deleted later still is.
pub(crate) fn describe_enis(
    state: &State,
    by: &Describe<EniId>,
    sight: &Sight,
) -> Result<Response, ApiError> {
    PAGING.check(by)?;
    check(&by.filters, |name| ENI_FILTERS.contains(&name))?;
    let mut items: Vec<Eni> = Vec::new();
    for eni in candidates(state, by, sight)? {
        let view = eni_view(state, eni, sight.then);
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
fn candidates<'a>(
    state: &'a State,
    by: &Describe<EniId>,
    sight: &Sight,
) -> Result<Vec<&'a Arc<EniState>>, ApiError> {
    let then = sight.then;
    let seen = |eni: &&Arc<EniState>| {
        eni.owner.is_none() && !sight.lacks(eni.id.as_str(), || state.is_primary(eni))
    };
    let at = |id: &str| state.enis.at(id, then).filter(seen);
    if !by.ids.is_empty() {
        ENI.require(&by.ids, |id| at(id).is_some())?;
        return Ok(by.ids.iter().filter_map(|id| at(id.as_str())).collect());
    }
    let named = |name: &str| -> Option<Vec<&str>> {
        let filter = by.filters.iter().find(|f| f.name == name)?;
        filter.values.iter().map(|v| literal(v)).collect()
    };
    if let Some(instances) = named("attachment.instance-id") {
        let on = instances
            .iter()
            .flat_map(|i| state.enis.on_instance(i, then));
        return Ok(on.filter(seen).collect());
    }
    if let Some(ids) = named("network-interface-id") {
        return Ok(ids.iter().filter_map(|id| at(id)).collect());
    }
    Ok(state.enis.all_at(then).into_iter().filter(seen).collect())
}
