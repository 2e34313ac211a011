//! The pool as the daemon shows it (rpc `Inspect`): the part of its JSON that the lab reads.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The pool.
#[derive(Clone, Debug, Deserialize)]
pub struct Snapshot {
    /// Whether ADDs can be served, in words.
    pub status: Status,
    /// ENIs by device index.
    pub enis: Vec<Eni>,
    /// Sums.
    pub totals: Totals,
    /// What the plan waits for.
    #[serde(default)]
    pub report: Vec<String>,
    /// ADDs that wait for an address.
    pub parked: usize,
}

/// Whether ADDs can be served.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// They can.
    pub ready: bool,
    /// Why (not).
    pub message: String,
}

/// Sums over all blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Totals {
    /// Addresses in blocks.
    pub addresses: u32,
    /// Leased.
    pub used: u32,
    /// Can be leased now.
    pub free: u32,
    /// Not reusable yet.
    pub cooling: u32,
    /// In use by nobody known, or being given back.
    pub held: u32,
}

/// One ENI.
#[derive(Clone, Debug, Deserialize)]
pub struct Eni {
    /// EC2's name, or the daemon's before it has one.
    pub id: String,
    /// Place on its card.
    pub device_index: u32,
    /// Network card.
    #[serde(default)]
    pub card: u32,
    /// The node's own.
    pub primary: bool,
    /// Its primary address, perhaps with the subnet's length.
    pub address: Option<String>,
    /// How far it is.
    pub phase: String,
    /// Since when it is not known what EC2 did, by the daemon's clock.
    #[serde(default)]
    pub in_doubt_since: Option<u64>,
    /// Why it is left alone, if it is.
    #[serde(default)]
    pub unmanaged: Option<String>,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

/// One block of addresses.
#[derive(Clone, Debug, Deserialize)]
pub struct Block {
    /// Address or CIDR.
    pub block: String,
    /// Its standing with EC2.
    pub state: String,
    /// Leased addresses and their pods (`namespace/name`).
    pub used: Vec<(IpAddr, String)>,
    /// Can be leased now.
    pub free: u32,
    /// Not reusable yet.
    pub cooling: u32,
    /// See [`Totals::held`].
    pub held: u32,
}

impl Snapshot {
    /// Every lease: address and pod.
    #[must_use]
    pub fn leases(&self) -> BTreeMap<IpAddr, String> {
        let blocks = self.enis.iter().flat_map(|eni| &eni.blocks);
        blocks
            .flat_map(|block| block.used.iter().cloned())
            .collect()
    }
}
