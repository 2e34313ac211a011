//! `network/interfaces/macs/`: the interfaces that IMDS shows on an instance, and their keys.

use super::leaves::{Leaves, lines};
use crate::state::State;
use crate::state::{EniState, InstanceState};
use crate::views::{eni_view, vpc_view};
use crate::words::ids::InstanceId;
use crate::words::response::Eni;
use crate::words::spec::Latency;
use crate::words::time::Time;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// ENIs that IMDS lists for the instance at `then`, the primary one first: attached long
/// enough, not gone, and not hidden by a fault.
pub(super) fn imds_enis(
    state: &State,
    instance: &InstanceState,
    hidden: &[Option<String>],
    then: Time,
) -> Vec<Eni> {
    let is_hidden = |e: &EniState| {
        hidden.iter().any(|h| match h {
            Some(name) => e.id.as_str() == name || e.mac.to_string() == *name,
            None => e.id != instance.primary_eni,
        })
    };
    let mut shown: Vec<(bool, u32, u32, Eni)> = Vec::new();
    for eni in state.enis.on_instance(instance.id.as_str(), then) {
        let Some(a) = eni.attachment.as_ref() else {
            continue;
        };
        if a.in_imds_at <= then && !is_hidden(eni) {
            let other = eni.id != instance.primary_eni;
            shown.push((other, a.card, a.device_index, imds_view(state, eni, then)));
        }
    }
    shown.sort_by_key(|(other, card, index, _)| (*other, *card, *index));
    shown.into_iter().map(|(.., eni)| eni).collect()
}

/// The ENI with the addresses that it held a while ago, as long as IMDS lags.
fn imds_view(state: &State, eni: &Arc<EniState>, then: Time) -> Eni {
    let lag = match state.spec.latencies.address_in_imds_ms {
        Latency::Fixed(ms) => ms,
        // One lag for all requests, so that nothing flickers.
        Latency::Spread(s) => s.p50,
    };
    let before = then.back(Duration::from_secs_f64(lag.max(0.0) / 1000.0));
    let mut shown = (**eni).clone();
    if let Some(past) = state.enis.at(eni.id.as_str(), before) {
        shown.secondary.clone_from(&past.secondary);
        shown.v4_prefixes.clone_from(&past.v4_prefixes);
        shown.v6.clone_from(&past.v6);
        shown.v6_prefixes.clone_from(&past.v6_prefixes);
        shown.public.clone_from(&past.public);
    }
    eni_view(state, &shown, then)
}

/// All keys of one interface. A key whose list is empty is absent (*recorded*). Keys are those
/// of the EC2 user guide, "Instance metadata categories" (*documented*).
pub(super) fn interface_keys(state: &State, id: &InstanceId, eni: &Eni, leaves: &mut Leaves) {
    let base = format!("meta-data/network/interfaces/macs/{}", eni.mac);
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            leaves.put(&format!("{base}/{key}"), value);
        }
    };
    let Some(attachment) = &eni.attachment else {
        return;
    };
    put("device-number", attachment.device_index.to_string());
    put("interface-id", eni.id.to_string());
    put("ipv4-prefix", lines(&eni.v4_prefixes));
    put("ipv6-prefix", lines(&eni.v6_prefixes));
    put("ipv6s", lines(&eni.v6));
    put("local-hostname", eni.private_dns_name(eni.private_ip));
    let addresses: Vec<Ipv4Addr> = eni.addresses.iter().map(|a| a.address).collect();
    put("local-ipv4s", lines(&addresses));
    put("mac", eni.mac.to_string());
    if has_many_cards(state, id) {
        // The peer reads the first, the guide names the second (*assumed*: both are there, and
        // only where there is more than one card).
        put("network-card", attachment.card.to_string());
        put("network-card-index", attachment.card.to_string());
    }
    put("owner-id", eni.owner.clone());
    let names: Vec<&String> = eni.groups.iter().map(|(_, name)| name).collect();
    put("security-groups", lines(&names));
    let ids: Vec<_> = eni.groups.iter().map(|(id, _)| id).collect();
    put("security-group-ids", lines(&ids));
    put("subnet-id", eni.subnet.to_string());
    if let Some(subnet) = state.subnets.get(&eni.subnet) {
        put("subnet-ipv4-cidr-block", subnet.cidr.to_string());
        put(
            "subnet-ipv6-cidr-blocks",
            subnet.v6_cidr.map(|c| c.to_string()).unwrap_or_default(),
        );
    }
    let vpc = vpc_view(state);
    put("vpc-id", vpc.id.to_string());
    put(
        "vpc-ipv4-cidr-block",
        vpc.cidrs
            .first()
            .map(ToString::to_string)
            .unwrap_or_default(),
    );
    put("vpc-ipv4-cidr-blocks", lines(&vpc.cidrs));
    put(
        "vpc-ipv6-cidr-blocks",
        vpc.v6_cidr.map(|c| c.to_string()).unwrap_or_default(),
    );
    public_keys(eni, &mut put);
}

fn has_many_cards(state: &State, id: &InstanceId) -> bool {
    let instance = state.instances.get(id);
    instance.is_some_and(|i| i.kind.card_enis.len() > 1)
}

/// Public addresses, their names, and what they are mapped to.
fn public_keys(eni: &Eni, put: &mut impl FnMut(&str, String)) {
    let mut public: Vec<(Ipv4Addr, Ipv4Addr)> = eni
        .addresses
        .iter()
        .filter_map(|a| Some((a.public?, a.address)))
        .collect();
    public.sort_unstable();
    put(
        "public-ipv4s",
        lines(&public.iter().map(|(p, _)| p).collect::<Vec<_>>()),
    );
    if let Some((address, _)) = public.first() {
        put("public-hostname", eni.public_dns_name(*address));
    }
    for (public, private) in &public {
        put(&format!("ipv4-associations/{public}"), private.to_string());
    }
}
