//! Launching and terminating instances.

use crate::admission::Caller;
use crate::alloc::{GotV4, GotV6, Refusal, take_v4, take_v6};
use crate::error::SpecError;
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, NodeName, SubnetId, fresh};
use crate::request::{Tracking, WantedV4, WantedV6};
use crate::response::InstanceType;
use crate::rng::Rng;
use crate::spec::{NodeSpec, Placement};
use crate::state::{AttachState, EniState, InstanceState, SubnetState};
use crate::time::Time;
use crate::vpc::Vpc;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

impl Vpc {
    /// Launches a node with its primary ENI; `field` names it in errors.
    pub(crate) fn launch_node(
        &mut self,
        node: &NodeSpec,
        field: &str,
        now: Time,
    ) -> Result<InstanceId, SpecError> {
        let bad = |what: &str, why: String| SpecError {
            problems: vec![format!("{field}.{what}: {why}")],
        };
        if self.nodes.contains_key(node.name.as_str()) {
            return Err(bad(
                "name",
                format!("there is a node {:?} already", node.name),
            ));
        }
        let Some(kind) = self.catalog.get(&node.instance_type).cloned() else {
            let why = format!(
                "unknown type {:?}; describe it in limits.types",
                node.instance_type
            );
            return Err(bad("instance_type", why));
        };
        check_launch_limits(node, &kind).map_err(|(what, why)| bad(what, why))?;
        let subnet = self
            .subnet_named(node.subnet.as_deref())
            .ok_or_else(|| bad("subnet", format!("no subnet is {:?}", node.subnet)))?;
        let groups = self
            .groups_named(&node.security_groups)
            .map_err(|name| bad("security_groups", format!("there is no group {name:?}")))?;
        let id = node
            .instance_id
            .clone()
            .unwrap_or_else(|| fresh("i", &mut self.rng));
        let id = InstanceId::from(id);
        let eni = self
            .launch_eni(node, &id, &subnet, groups, now)
            .map_err(|why| {
                bad(
                    "primary_ip, launch_prefixes or launch_addresses",
                    format!("{why:?}"),
                )
            })?;
        let (image, reservation) = (fresh("ami", &mut self.rng), fresh("r", &mut self.rng));
        let mut state = InstanceState::new(id.clone(), node, subnet, image, reservation, now);
        state.primary_eni = Some(eni.id.clone());
        self.instances.insert(id.clone(), state);
        self.nodes
            .insert(NodeName::from(node.name.as_str()), id.clone());
        self.enis.put(eni, now);
        self.generation += 1;
        Ok(id)
    }

    fn launch_eni(
        &mut self,
        node: &NodeSpec,
        instance: &InstanceId,
        subnet_id: &SubnetId,
        groups: Vec<GroupId>,
        now: Time,
    ) -> Result<EniState, Refusal> {
        let how = self.spec.placement;
        let subnet = self
            .subnets
            .get_mut(subnet_id)
            .ok_or(Refusal::NoAddresses)?;
        let before = subnet.space4.free();
        let (mut addresses, prefixes, six) = take_for_launch(subnet, node, how, &mut self.rng)?;
        subnet.note_free(before, now, crate::store::WINDOW);
        let public = node.public_ip.or_else(|| {
            // Launches in such a subnet get an address from Amazon's pool (*documented*); here
            // from the benchmarking range 198.18.0.0/15 (*assumed*).
            subnet.map_public_ip.then(|| {
                let n = u32::try_from(self.rng.below(1 << 17)).unwrap_or(1);
                Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n)
            })
        });
        let (id, mac) = (fresh("eni", &mut self.rng), Mac::fresh(&mut self.rng));
        let id = EniId::from(node.eni_id.clone().unwrap_or(id));
        self.hold(&id, &addresses);
        let primary = addresses.remove(0);
        Ok(EniState {
            id,
            subnet: subnet_id.clone(),
            mac: node.mac.unwrap_or(mac),
            description: String::new(),
            groups,
            primary,
            secondary: addresses,
            v4_prefixes: prefixes,
            v6: six.addresses,
            v6_prefixes: six.prefixes,
            public: public.map(|p| (primary, p)).into_iter().collect(),
            source_dest_check: true,
            interface_type: "interface".into(),
            tracking: Tracking::default(),
            tags: BTreeMap::new(),
            attachment: Some(AttachState {
                id: AttachmentId::from(fresh("eni-attach", &mut self.rng)),
                instance: instance.clone(),
                device_index: 0,
                card: 0,
                attached_at: now,
                linked_at: now,
                in_imds_at: now,
                detaching: None,
                // *documented*: set for interfaces made at launch, by default.
                delete_on_termination: true,
            }),
            creator: Caller::Operator,
            settled_since: now,
        })
    }

    /// Ends an instance. ENIs with DeleteOnTermination go, others become available at once
    /// (*documented*, but for the time).
    pub(crate) fn terminate(&mut self, id: &InstanceId, now: Time) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if instance.terminated.is_some() {
            return;
        }
        instance.terminated = Some(now);
        instance.primary_eni = None;
        let enis: Vec<EniState> = self
            .enis
            .on_instance(id.as_str(), now)
            .into_iter()
            .map(|e| (**e).clone())
            .collect();
        for eni in enis {
            if eni
                .attachment
                .as_ref()
                .is_some_and(|a| a.delete_on_termination)
            {
                self.release_all(&eni);
                self.enis.remove(&eni.id, now);
            } else {
                self.set_available(eni, now);
            }
        }
        self.generation += 1;
    }

    /// A detach that is due.
    pub(crate) fn finish_detach(&mut self, id: &EniId, due: Time) {
        let Some(eni) = self.enis.get(id.as_str()) else {
            return;
        };
        if eni.attachment.as_ref().is_some_and(|a| a.is_over(due)) {
            let eni = (**eni).clone();
            self.set_available(eni, due);
        }
    }

    fn set_available(&mut self, mut eni: EniState, now: Time) {
        eni.attachment = None;
        eni.settled_since = now;
        self.generation += 1;
        self.enis.put(eni, now);
    }

    /// A subnet by id or CIDR; the first of the spec when nothing is said.
    fn subnet_named(&self, name: Option<&str>) -> Option<SubnetId> {
        let first = self.spec.subnets.first()?.cidr;
        let name = name.map_or_else(|| first.to_string(), str::to_owned);
        let found = self
            .subnets
            .values()
            .find(|s| s.id.as_str() == name || s.cidr.to_string() == name);
        found.map(|s| s.id.clone())
    }

    /// Groups by id or name; the default group when none is said.
    fn groups_named(&self, names: &[String]) -> Result<Vec<GroupId>, String> {
        if names.is_empty() {
            return Ok(self.default_group().into_iter().collect());
        }
        let find = |name: &String| {
            let found = self
                .groups
                .values()
                .find(|g| g.id.as_str() == name || g.name == *name);
            found.map(|g| g.id.clone()).ok_or_else(|| name.clone())
        };
        names.iter().map(find).collect()
    }

    /// The group named `default`, else the first one.
    pub(crate) fn default_group(&self) -> Option<GroupId> {
        let named = self.groups.values().find(|g| g.name == "default");
        named
            .or_else(|| self.groups.values().next())
            .map(|g| g.id.clone())
    }
}

/// What a node has from launch, its primary address first; all or nothing.
fn take_for_launch(
    subnet: &mut SubnetState,
    node: &NodeSpec,
    how: Placement,
    rng: &mut Rng,
) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>, GotV6), Refusal> {
    let wanted = WantedV4 {
        addresses: node.primary_ip.into_iter().collect(),
        address_count: Some(node.launch_addresses + u32::from(node.primary_ip.is_none())),
        prefix_count: Some(node.launch_prefixes),
        ..WantedV4::default()
    };
    let GotV4 {
        addresses,
        prefixes,
    } = take_v4(subnet, &wanted, how, rng)?;
    let v6 = WantedV6 {
        address_count: Some(node.launch_ipv6_addresses),
        prefix_count: Some(node.launch_ipv6_prefixes),
        ..WantedV6::default()
    };
    let six = match take_v6(subnet, &v6, how, rng) {
        Ok(six) => six,
        Err(why) => {
            addresses.into_iter().for_each(|a| subnet.space4.release(a));
            prefixes
                .into_iter()
                .for_each(|p| subnet.space4.release_block(p));
            return Err(why);
        }
    };
    Ok((addresses, prefixes, six))
}

fn check_launch_limits(node: &NodeSpec, kind: &InstanceType) -> Result<(), (&'static str, String)> {
    let slots = 1 + node.launch_prefixes + node.launch_addresses;
    if slots > kind.ipv4_per_eni {
        let why = format!(
            "{slots} IPv4 slots, but {} has {} an interface",
            kind.name, kind.ipv4_per_eni
        );
        return Err(("launch_prefixes", why));
    }
    let slots = node.launch_ipv6_prefixes + node.launch_ipv6_addresses;
    if slots > kind.ipv6_per_eni {
        let why = format!(
            "{slots} IPv6 slots, but {} has {} an interface",
            kind.name, kind.ipv6_per_eni
        );
        return Err(("launch_ipv6_prefixes", why));
    }
    if node.launch_prefixes + node.launch_ipv6_prefixes > 0 && !kind.has_prefixes() {
        return Err((
            "launch_prefixes",
            format!("{} can't have prefixes: it is not Nitro", kind.name),
        ));
    }
    Ok(())
}
