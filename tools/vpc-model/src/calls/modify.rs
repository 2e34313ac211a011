//! ModifyNetworkInterfaceAttribute.

use super::not_found::{GROUP_OF_ENI, find_attachment, find_eni};
use crate::state::State;
use crate::words::error::ApiError;
use crate::words::request::{EniAttribute, ModifyNetworkInterfaceAttribute, Tracking};
use crate::words::response::Response;
use crate::words::time::Time;

pub(crate) fn modify_eni(
    state: &mut State,
    r: &ModifyNetworkInterfaceAttribute,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    match &r.attribute {
        // *recorded* for the sister action on instances.
        None => return Err(ApiError::combination("No attributes specified.")),
        Some(EniAttribute::Description(text)) => eni.description.clone_from(text),
        Some(EniAttribute::SourceDestCheck(on)) => eni.source_dest_check = *on,
        Some(EniAttribute::Tracking(tracking)) => {
            check_tracking(tracking)?;
            eni.tracking = *tracking;
        }
        Some(EniAttribute::Groups(groups)) => {
            GROUP_OF_ENI.require(groups, |id| state.groups.contains_key(id))?;
            if groups.is_empty() {
                return Err(ApiError::missing("groupId"));
            }
            eni.groups.clone_from(groups);
        }
        Some(EniAttribute::DeleteOnTermination { attachment, value }) => {
            let owner = find_attachment(state, attachment)?.id.clone();
            match eni.attachment.as_mut().filter(|_| owner == eni.id) {
                Some(mine) => mine.delete_on_termination = *value,
                // Another ENI's attachment (*recorded* code).
                None => {
                    return Err(ApiError::new(
                        "InvalidAttachmentID.NotFound",
                        format!("Attachment '{attachment}' is not of interface '{}'", eni.id),
                    ));
                }
            }
        }
    }
    state.keep(eni, now);
    Ok(Response::Done)
}

/// *documented* ranges; text *assumed*.
pub(super) fn check_tracking(t: &Tracking) -> Result<(), ApiError> {
    for (name, value, range) in [
        ("tcpEstablishedTimeout", t.tcp_established, 60..=432_000),
        ("udpStreamTimeout", t.udp_stream, 60..=180),
        ("udpTimeout", t.udp, 30..=60),
    ] {
        if let Some(value) = value.filter(|v| !range.contains(v)) {
            return Err(ApiError::value(format!(
                "Value ({value}) for parameter {name} is invalid."
            )));
        }
    }
    Ok(())
}
