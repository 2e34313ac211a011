//! A subnet as EC2 describes it, and whether its tags let pods have addresses there.
//!
//! Owns the meaning of the tags; never asks EC2, and ranks nothing (that is [`crate::plan`]'s).

use crate::SubnetId;
use alloc::collections::BTreeMap;
use alloc::string::String;
use ipnet::IpNet;
use mutant::mutant;
use serde::{Deserialize, Serialize};

/// `0` excludes a subnet, any other value includes it; an empty value is as good as no tag (Amazon
/// VPC CNI, "Subnet discovery").
pub const ROLE_TAG: &str = "kubernetes.io/role/cni";

/// Begins the tags that keep a subnet for the clusters that they name (likewise).
pub const CLUSTER_TAGS: &str = "cni.networking.k8s.aws/cluster/";

/// A subnet as `DescribeSubnets` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetView {
    /// EC2's name.
    pub id: SubnetId,
    /// Its IPv4 block, if EC2 told one that can be read.
    pub cidr: Option<IpNet>,
    /// `AvailableIpAddressCount`: free addresses, in one piece or scattered; EC2 shows no more.
    pub available: u32,
    /// Its tags; in a shared VPC those of the owner can't be seen.
    pub tags: BTreeMap<String, String>,
}

/// What the tags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the primary ENI's subnet may be used, others not.
    Untagged,
    /// May be used.
    Included,
    /// Tagged with `0`.
    Excluded,
    /// Kept for other clusters.
    OtherCluster,
}

impl SubnetView {
    /// What the tags say to the cluster of this name.
    #[must_use]
    pub fn verdict(&self, cluster: Option<&str>) -> Verdict {
        match self.tags.get(ROLE_TAG).map(String::as_str) {
            None | Some("") => return Verdict::Untagged,
            Some("0") => return Verdict::Excluded,
            Some(_) => {}
        }
        let mut kept = self
            .tags
            .keys()
            .filter_map(|key| key.strip_prefix(CLUSTER_TAGS))
            .peekable();
        if kept.peek().is_none()
            || mutant!(
                "subnet/other-clusters-is-left-alone",
                kept.any(|name| Some(name) == cluster),
                true
            )
        {
            Verdict::Included
        } else {
            Verdict::OtherCluster
        }
    }

    /// Whether new ENIs may go here.
    #[must_use]
    pub fn admits(&self, cluster: Option<&str>, primary: bool) -> bool {
        match self.verdict(cluster) {
            Verdict::Included => true,
            Verdict::Untagged => primary,
            Verdict::Excluded | Verdict::OtherCluster => {
                mutant!("subnet/excluded-takes-no-eni", false, primary)
            }
        }
    }

    /// Whether ENIs that are here give pods no new addresses. A subnet without the tag does not take
    /// away what it once gave.
    #[must_use]
    pub fn excludes(&self, cluster: Option<&str>) -> bool {
        matches!(
            self.verdict(cluster),
            Verdict::Excluded | Verdict::OtherCluster
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags; whether a primary's subnet and another one take new ENIs; whether it drains.
    type Row<'a> = (&'a [(&'a str, &'a str)], bool, bool, bool);

    #[test]
    fn tags_decide_as_documented() {
        let ours = "cni.networking.k8s.aws/cluster/blue";
        let other = "cni.networking.k8s.aws/cluster/green";
        let table: [Row<'_>; 9] = [
            (&[], true, false, false),
            (&[(ROLE_TAG, "1")], true, true, false),
            (&[(ROLE_TAG, "shared")], true, true, false),
            (&[(ROLE_TAG, "")], true, false, false),
            (&[(ROLE_TAG, "0")], false, false, true),
            (&[(ROLE_TAG, "0"), (ours, "1")], false, false, true),
            (&[(ROLE_TAG, "1"), (other, "1")], false, false, true),
            (
                &[(ROLE_TAG, "1"), (other, "1"), (ours, "")],
                true,
                true,
                false,
            ),
            // Without the role tag the cluster tags are not looked at.
            (&[(other, "1")], true, false, false),
        ];
        for (tags, primary, secondary, drains) in table {
            let view = SubnetView {
                id: "subnet-1".into(),
                cidr: None,
                available: 9,
                tags: tags
                    .iter()
                    .map(|(k, v)| ((*k).into(), (*v).into()))
                    .collect(),
            };
            let blue = Some("blue");
            assert_eq!(view.admits(blue, true), primary, "{tags:?}");
            assert_eq!(view.admits(blue, false), secondary, "{tags:?}");
            assert_eq!(view.excludes(blue), drains, "{tags:?}");
        }
        let kept = SubnetView {
            id: "subnet-1".into(),
            cidr: None,
            available: 9,
            tags: [(ROLE_TAG, "1"), (ours, "1")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
        };
        assert!(
            !kept.admits(None, true),
            "a cluster without a name has no claim"
        );
    }
}
