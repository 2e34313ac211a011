//! Errors for ids that are malformed or name nothing, in EC2's words.

use crate::state::EniState;
use crate::state::State;
use crate::words::error::ApiError;
use crate::words::ids::{AttachmentId, EniId};
use std::sync::Arc;

/// What an id names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    prefix: &'static str,
    /// In codes: `InvalidSubnetID.NotFound`.
    code: &'static str,
    /// In codes for ids that can't be any; EC2 does not always spell it like `code` (*documented*).
    malformed: &'static str,
    /// In messages: `The subnet ID 'x' does not exist`.
    noun: &'static str,
}

pub(crate) const ENI: Kind = Kind {
    prefix: "eni-",
    code: "InvalidNetworkInterfaceID",
    malformed: "InvalidNetworkInterfaceId",
    noun: "networkInterface ID",
};
pub(crate) const INSTANCE: Kind = Kind {
    prefix: "i-",
    code: "InvalidInstanceID",
    malformed: "InvalidInstanceID",
    noun: "instance ID",
};
pub(crate) const SUBNET: Kind = Kind {
    prefix: "subnet-",
    code: "InvalidSubnetID",
    malformed: "InvalidSubnetID",
    noun: "subnet ID",
};
pub(crate) const VPC: Kind = Kind {
    prefix: "vpc-",
    code: "InvalidVpcID",
    malformed: "InvalidVpcID",
    noun: "vpc ID",
};
pub(crate) const ROUTE_TABLE: Kind = Kind {
    prefix: "rtb-",
    code: "InvalidRouteTableID",
    malformed: "InvalidRouteTableId",
    noun: "routeTable ID",
};
pub(crate) const GROUP: Kind = Kind {
    prefix: "sg-",
    code: "InvalidGroup",
    malformed: "InvalidGroupId",
    noun: "security group",
};

/// A group that is to be put on an interface (*documented*: its own code for that case).
pub(crate) const GROUP_OF_ENI: Kind = Kind {
    prefix: "sg-",
    code: "InvalidSecurityGroupID",
    malformed: "InvalidSecurityGroupId",
    noun: "securityGroup ID",
};

impl Kind {
    /// EC2's ids are the prefix and 8 or 17 hex digits. Those of interfaces are always made here;
    /// the others may be named in the file, with any letters and digits.
    pub(crate) fn check(self, id: &str) -> Result<(), ApiError> {
        let rest = id.strip_prefix(self.prefix);
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let ok = rest.is_some_and(|r| {
            if self.prefix == ENI.prefix {
                matches!(r.len(), 8 | 17) && r.bytes().all(hex)
            } else {
                !r.is_empty()
                    && r.bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            }
        });
        if ok {
            return Ok(());
        }
        // Text *recorded* for instances and network interfaces.
        let expecting = match rest {
            Some(_) => String::new(),
            None => format!(" (expecting \"{}...\")", self.prefix),
        };
        Err(ApiError::new(
            &format!("{}.Malformed", self.malformed),
            format!("Invalid id: \"{id}\"{expecting}"),
        ))
    }

    /// The error for ids that are well formed and name nothing. For instances, subnets and VPCs
    /// all are named in request order (*recorded*: `The instance IDs 'i-1, i-2' do not exist`);
    /// for network interfaces the first one only (*recorded*: the peer finds one id in quotes,
    /// drops it and asks again).
    pub(crate) fn missing(self, ids: &[&str]) -> ApiError {
        let text = match (self.code, ids) {
            ("InvalidGroup", [id]) => format!("The security group '{id}' does not exist"),
            ("InvalidNetworkInterfaceID", [id, ..]) | (_, [id]) => {
                format!("The {} '{id}' does not exist", self.noun)
            }
            (_, many) => format!("The {}s '{}' do not exist", self.noun, many.join(", ")),
        };
        ApiError::new(&format!("{}.NotFound", self.code), text)
    }

    /// All ids are well formed and `known`.
    pub(crate) fn require<I: AsRef<str>>(
        self,
        ids: &[I],
        known: impl Fn(&str) -> bool,
    ) -> Result<(), ApiError> {
        for id in ids {
            self.check(id.as_ref())?;
        }
        let missing: Vec<&str> = ids
            .iter()
            .map(AsRef::as_ref)
            .filter(|id| !known(id))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(self.missing(&missing))
        }
    }
}

/// The ENI as it is now, for a write. One of another account is not found (*assumed*).
pub(crate) fn find_eni<'a>(state: &'a State, id: &EniId) -> Result<&'a Arc<EniState>, ApiError> {
    ENI.check(id.as_str())?;
    state
        .own_eni(id.as_str())
        .ok_or_else(|| ENI.missing(&[id.as_str()]))
}

/// The ENI that has this attachment now.
pub(crate) fn find_attachment<'a>(
    state: &'a State,
    id: &AttachmentId,
) -> Result<&'a Arc<EniState>, ApiError> {
    if !id.as_str().starts_with("eni-attach-") {
        return Err(ApiError::new(
            "InvalidNetworkInterfaceAttachmentId.Malformed",
            format!("Invalid id: \"{id}\" (expecting \"eni-attach-...\")"),
        ));
    }
    // *recorded*, the text as LocalStack has it.
    state.with_attachment(id).ok_or_else(|| {
        ApiError::new(
            "InvalidAttachmentID.NotFound",
            format!("The network interface attachment ID '{id}' does not exist"),
        )
    })
}
