//! What people do by hand, with all rights and without telling the daemon.

use super::dice::Plan;
use crate::oracle::{self, Eni};
use crate::rng::Rng;
use crate::world::World;
use ipnet::IpNet;
use vpc_model::request::{
    Action, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface,
    DeleteNetworkInterface, DetachNetworkInterface, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, WantedV4,
};
use vpc_model::{Admission, ApiError, Caller, Response};

/// One call, at once.
pub(super) fn call(world: &World, action: Action) -> Result<Response, ApiError> {
    let now = world.time();
    let request = action.into();
    world
        .vpc()
        .execute(&Admission::immediate(), &Caller::Operator, &request, now)
}

/// Others have ENIs in the subnet, too, here and there.
pub(super) fn fragment(world: &World, plan: &Plan, rng: &mut Rng) {
    let cidr = plan.spec.subnets[0].cidr;
    let Some(subnet) = world.vpc().subnets().first().map(|s| s.id.clone()) else {
        return;
    };
    let size = 1u64 << (32 - cidr.prefix_len());
    for _ in 0..plan.strangers {
        let at = u32::try_from(rng.range(4, size - 2)).unwrap_or(4);
        let request = CreateNetworkInterface {
            subnet: Some(subnet.clone()),
            primary: Some((u32::from(cidr.network()) + at).into()),
            ..CreateNetworkInterface::default()
        };
        // The address may be taken: then there is one stranger less.
        let _ = call(world, Action::CreateNetworkInterface(request));
    }
}

/// Does one thing to the ENIs of a node.
pub(super) fn meddle(world: &World, node: &str, rng: &mut Rng) {
    let all = oracle::enis(world);
    let on: Vec<&Eni> = all
        .iter()
        .filter(|e| e.node.as_deref() == Some(node) && !e.no_manage && !e.foreign)
        .collect();
    if on.is_empty() {
        return;
    }
    let eni = *rng.pick(&on);
    match rng.range(0, 6) {
        0..=2 => unassign(world, node, eni, rng),
        3 => assign(world, eni, rng),
        4 => detach(world, node, eni, rng, false),
        5 => detach(world, node, eni, rng, true),
        _ => plug_in(world, node, eni, rng),
    }
}

fn tell(world: &World, what: impl FnOnce() -> String) {
    world.tell("operator", what);
}

fn unassign(world: &World, node: &str, eni: &Eni, rng: &mut Rng) {
    if eni.blocks.is_empty() {
        return;
    }
    let block = *rng.pick(&eni.blocks);
    let id = eni.id.as_str().into();
    let action = match block {
        IpNet::V4(net) => {
            let single = net.prefix_len() == 32;
            Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses {
                eni: id,
                addresses: single.then(|| net.addr()).into_iter().collect(),
                prefixes: (!single).then_some(net).into_iter().collect(),
            })
        }
        IpNet::V6(net) => Action::UnassignIpv6Addresses(UnassignIpv6Addresses {
            eni: id,
            addresses: Vec::new(),
            prefixes: Vec::from([net]),
        }),
    };
    if call(world, action).is_ok() {
        tell(world, || format!("takes {block} from {}", eni.id));
        world.oracle().taken_by_hand(node, &[block]);
    }
}

fn assign(world: &World, eni: &Eni, rng: &mut Rng) {
    let wanted = if rng.percent(50) {
        WantedV4 {
            address_count: Some(rng.count(1, 4)),
            ..WantedV4::default()
        }
    } else {
        WantedV4 {
            prefix_count: Some(1),
            ..WantedV4::default()
        }
    };
    let request = AssignPrivateIpAddresses {
        eni: eni.id.as_str().into(),
        wanted,
        allow_reassignment: false,
    };
    if let Ok(response) = call(world, Action::AssignPrivateIpAddresses(request)) {
        tell(world, || format!("gives {} {response:?}", eni.id));
        let all = oracle::enis(world);
        let mut oracle = world.oracle();
        oracle.given_by_hand(&eni.id);
        oracle.counts_slots(world.elapsed(), &all);
    }
}

fn detach(world: &World, node: &str, eni: &Eni, rng: &mut Rng, delete: bool) {
    let Some(attachment) = eni.attachment.as_deref().filter(|_| !eni.first) else {
        return;
    };
    let request = DetachNetworkInterface {
        attachment: attachment.into(),
        force: rng.percent(50),
    };
    if call(world, Action::DetachNetworkInterface(request)).is_err() {
        return;
    }
    tell(world, || format!("detaches {}", eni.id));
    {
        let mut oracle = world.oracle();
        oracle.taken_by_hand(node, &eni.blocks);
        oracle.pools.unplugged.insert(eni.id.clone());
    }
    if delete {
        let (world, id) = (world.clone(), eni.id.clone());
        let wait = rng.millis(6_000, 20_000);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let request = DeleteNetworkInterface {
                eni: id.as_str().into(),
            };
            if call(&world, Action::DeleteNetworkInterface(request)).is_ok() {
                tell(&world, || format!("deletes {id}"));
            }
        });
    }
}

/// An ENI of somebody else at a place that the daemon may have in mind.
fn plug_in(world: &World, node: &str, like: &Eni, rng: &mut Rng) {
    let request = CreateNetworkInterface {
        subnet: Some(like.subnet.as_str().into()),
        description: "by hand".into(),
        ..CreateNetworkInterface::default()
    };
    let Ok(Response::Created { eni, .. }) = call(world, Action::CreateNetworkInterface(request))
    else {
        return;
    };
    let Some(instance) = world
        .vpc()
        .nodes()
        .into_iter()
        .find(|n| n.name.as_str() == node)
        .map(|n| n.instance)
    else {
        return;
    };
    let request = AttachNetworkInterface {
        eni: eni.id.clone(),
        instance,
        device_index: rng.count(1, 4),
        card: Some(0),
    };
    match call(world, Action::AttachNetworkInterface(request)) {
        Ok(_) => tell(world, || format!("plugs {} into {node}", eni.id)),
        Err(_) => {
            let request = DeleteNetworkInterface { eni: eni.id };
            let _ = call(world, Action::DeleteNetworkInterface(request));
        }
    }
}
