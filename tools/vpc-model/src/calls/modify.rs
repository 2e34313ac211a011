//! ModifyNetworkInterfaceAttribute.

use super::not_found::GROUP;
use crate::error::ApiError;
use crate::request::{EniAttribute, ModifyNetworkInterfaceAttribute};
use crate::response::Response;
use crate::time::Time;
use crate::vpc::Vpc;

impl Vpc {
    pub(crate) fn modify_eni(
        &mut self,
        r: &ModifyNetworkInterfaceAttribute,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
        match &r.attribute {
            // *recorded* for the sister action on instances.
            None => return Err(ApiError::combination("No attributes specified.")),
            Some(EniAttribute::Description(text)) => eni.description.clone_from(text),
            Some(EniAttribute::SourceDestCheck(on)) => eni.source_dest_check = *on,
            Some(EniAttribute::Groups(groups)) => {
                GROUP.require(groups, |id| self.groups.contains_key(id))?;
                if groups.is_empty() {
                    return Err(ApiError::missing("groupId"));
                }
                eni.groups.clone_from(groups);
            }
            Some(EniAttribute::DeleteOnTermination { attachment, value }) => {
                let owner = self.attachment(attachment)?.id.clone();
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
        self.enis.put(eni, now);
        self.generation += 1;
        Ok(Response::Done)
    }
}
