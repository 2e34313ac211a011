//! The kernel side: namespaces, mounts, netlink, nftables, processes. Nothing here knows EC2.

pub(crate) mod mounts;
pub(crate) mod netlink;
pub(crate) mod nft;
pub(crate) mod place;
pub(crate) mod procs;
pub(crate) mod sysctl;
