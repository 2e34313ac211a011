//! What the kernel lacks of the node's wiring, for CNI CHECK: a pod whose own link is right reaches nobody
//! without the node's rules and tables.
//!
//! Looks and changes nothing: putting right is the monitor's.

use super::{KernelNet, links, nft, rules, six};
use crate::rpc::Node;
use ipam_core::Mac;
use ipam_engine::ports::Fut;
use std::collections::BTreeMap;

impl KernelNet {
    async fn what_lacks(&self) -> Vec<String> {
        let state = self.state.lock().await;
        let failure = || state.failure.iter().map(ToString::to_string);
        // A daemon that has just come knows of nothing amiss: what the last one wired stands.
        let Some(wiring) = &state.wiring else {
            return failure().collect();
        };
        let mut found = match rules::lacking(&self.netlink, &wiring.rules).await {
            Ok(rules) => rules
                .into_iter()
                .map(|rule| format!("there is no rule {rule}"))
                .collect(),
            Err(error) => vec![error.while_doing("reading rules").to_string()],
        };
        let program = &self.settings.nft;
        if !state.nat.whole(program, &[("ip", nft::TABLE)]).await {
            let table = nft::TABLE;
            found.push(format!("nftables table ip {table} is not as it was made"));
        }
        let tables = six::tables(wiring);
        if !tables.is_empty() && !state.egress.whole(program, &tables).await {
            let table = nft::EGRESS_TABLE;
            found.push(format!("nftables tables {table} are not as they were made"));
        }
        if self.lacks_source_check(&state).await {
            let table = nft::SOURCES_TABLE;
            found.push(format!("nftables table inet {table} is not as it was made"));
        }
        found.extend(failure());
        found
    }
}

impl Node for KernelNet {
    fn lacking(&self) -> Fut<'_, Vec<String>> {
        Box::pin(self.what_lacks())
    }

    fn trouble(&self) -> Fut<'_, Option<String>> {
        Box::pin(async {
            let state = self.state.lock().await;
            state.failure.as_ref().map(ToString::to_string)
        })
    }

    fn pods_links(&self) -> Fut<'_, BTreeMap<String, Mac>> {
        Box::pin(async {
            let found = links::of_pods(&self.netlink, |name| self.is_pods(name)).await;
            found.unwrap_or_else(|error| {
                tracing::warn!(%error, "can't read pods' links");
                BTreeMap::new()
            })
        })
    }
}
