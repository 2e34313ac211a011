//! What a node can have, by the model alone: the instance type as EC2 knows it, the ENIs that are
//! really attached, the subnet's free addresses counted one by one, and what pods and the kernel have.
//! Shares no code with the planner or the datastore.

use super::books::{self, Eni};
use super::ledger::Run;
use super::six;
use crate::kernel::Kernel;
use crate::scenario::places::admitted;
use crate::store::Memory;
use crate::world::World;
use ipam_core::{BlockState, Family, Intent, Mac, Phase};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vpc_model::response::InstanceType;
use vpc_model::spec::{ReservationKind, ReservationSpec};

/// A node, as an oracle may look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) world: &'a World,
    pub(crate) node: &'a str,
    pub(crate) kernel: &'a Kernel,
    pub(crate) store: &'a Memory,
}

/// What a subnet could give now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Free {
    /// Single addresses that nobody named.
    pub(crate) addresses: u32,
    /// Aligned /28s.
    pub(crate) prefixes: u32,
}

/// One ENI on the node.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(crate) subnet: String,
    /// The daemon may put blocks on it.
    pub(crate) managed: bool,
    /// IPv4 slots that hold a block.
    pub(crate) taken: u32,
    /// IPv4 slots for which a call is under way, by what is on the disk.
    pub(crate) coming: u32,
}

/// See the module. IPv4 but where another family is named.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) kind: InstanceType,
    /// ENIs that the node may have, at its settings.
    pub(crate) enis_max: u32,
    /// ENIs that take a place on card 0, by the model or by the disk, whichever knows more.
    pub(crate) enis: u32,
    /// Slots of one ENI besides its own address.
    pub(crate) slots: u32,
    pub(crate) on: Vec<Slots>,
    pub(crate) subnets: BTreeMap<String, Free>,
    /// Where new ENIs may go, by the subnets' tags.
    pub(crate) homes: Vec<String>,
    /// Addresses that a pod could have now: nothing stands against any of them.
    pub(crate) free: BTreeSet<IpAddr>,
    /// Addresses that rest, and until when at least.
    pub(crate) resting: BTreeMap<IpAddr, Duration>,
    /// The primary ENI has an IPv6 prefix that the daemon knows.
    pub(crate) six: bool,
    /// EC2 would give it one.
    pub(crate) six_grows: bool,
    pub(crate) prefixes: bool,
    /// The primary ENI's subnet gives pods no addresses.
    pub(crate) shut: bool,
    /// EC2 said to this run of late that an ENI is full.
    pub(crate) full_said: bool,
    /// Pods that have addresses, by the disk or by what they were told.
    pub(crate) used: u32,
}

/// A pod's veth goes up to 50 s after its DEL, and what the kernel remembers of it with the next look:
/// an address that was let go of is sure to be free only so long after its rest.
const LET_GO: Duration = Duration::from_secs(60);

impl Room {
    /// The account of a node now; `None` if it is no more.
    pub(crate) fn of(place: &Place<'_>, run: &Run) -> Option<Self> {
        let world = place.world;
        let enis = books::enis(world);
        let on: Vec<&Eni> = enis
            .iter()
            .filter(|e| e.node.as_deref() == Some(place.node))
            .collect();
        let first = on.iter().find(|e| e.first)?;
        let kind = kind_of(world, place.node)?;
        let carries = world.oracle().pools.carries.get(place.node).copied();
        let (enis_max, ipv4) = carries.unwrap_or((u32::MAX, kind.ipv4_per_eni));
        let records = place.store.enis();
        let record = |id: &str| {
            let same = |e: &&ipam_core::Eni| e.id.as_ref().is_some_and(|i| i.as_str() == id);
            records.iter().find(same)
        };
        let forgetful = world.oracle().forgetful.contains_key(place.node);
        let slots: Vec<Slots> = on
            .iter()
            .map(|eni| {
                let mut slots = slots_of(eni, record(&eni.id));
                // A store that lost something knows of it by IMDS alone until EC2 shows it.
                slots.managed &= !forgetful || run.shown.contains(&eni.id);
                slots
            })
            .collect();
        // Those that only the disk knows: asked for, or gone by hand and not missed yet.
        let more = records.iter().filter(|e| {
            let known = |id: &ipam_core::EniId| on.iter().any(|o| o.id == id.as_str());
            e.phase != Phase::Detached && !e.id.as_ref().is_some_and(known)
        });
        let max = run.policy.max_eni.map_or(u32::MAX, |max| max.max(1));
        let mut room = Self {
            enis_max: kind
                .card_enis
                .first()
                .copied()
                .unwrap_or(1)
                .min(max)
                .min(enis_max),
            enis: count(on.len() + more.count()),
            slots: ipv4.saturating_sub(1),
            on: slots,
            subnets: subnets(world, &enis),
            homes: admitted(world, &run.policy.subnets, first),
            free: BTreeSet::new(),
            resting: BTreeMap::new(),
            six: false,
            six_grows: six::grows(world, &kind, first, record(&first.id)),
            shut: record(&first.id).is_some_and(|e| e.excluded),
            full_said: full_said(run, world.elapsed()),
            used: 0,
            prefixes: run.policy.prefixes && kind.has_prefixes(),
            kind,
        };
        room.look_at_addresses(place, run, &on, &records);
        Some(room)
    }

    /// Which addresses of what EC2 gave are free, and which rest.
    fn look_at_addresses(
        &mut self,
        place: &Place<'_>,
        run: &Run,
        on: &[&Eni],
        records: &[ipam_core::Eni],
    ) {
        let now = place.world.elapsed();
        let cooldown = run.policy.cooldown;
        let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
        let leases = place.store.leases();
        self.used = count(leases.len());
        for lease in leases {
            taken.extend(lease.addresses);
        }
        let links = place.kernel.links();
        taken.extend(place.kernel.routed());
        taken.extend(lingering(place));
        let resting = place.store.released();
        // A kernel in trouble forgets finished pods late: what it remembers is given to nobody.
        let troubled = place.world.oracle().ledger.trouble + super::refusals::PEACE_AFTER > now;
        if troubled {
            taken.extend(place.kernel.tracked());
        }
        let oracle = place.world.oracle();
        for living in oracle.living.values() {
            taken.extend(living.ips.iter().copied());
        }
        // Of pods that a damaged store forgot there are no leases.
        let living = oracle.living.keys().filter(|(on, _)| on == place.node);
        self.used = self.used.max(count(living.count()));
        for eni in on {
            let mac = Mac(eni.mac);
            let record = records.iter().find(|e| {
                let same = e.id.as_ref().is_some_and(|i| i.as_str() == eni.id);
                same && e.phase == Phase::Ready && e.unmanaged.is_none() && !e.excluded
            });
            let Some(record) = record.filter(|_| !eni.going && links.contains(&mac)) else {
                continue;
            };
            let usable = |net: &IpNet| {
                let state = record.blocks.iter().find(|(b, _)| b.net() == *net);
                let fine =
                    |s: &BlockState| matches!(s, BlockState::Confirmed | BlockState::Unconfirmed);
                state.is_some_and(|(_, s)| fine(s))
            };
            for net in eni.blocks.iter().filter(|net| usable(net)) {
                let IpNet::V4(net) = net else {
                    self.six |= eni.first;
                    continue;
                };
                for ip in addresses(*net) {
                    let ip = IpAddr::V4(ip);
                    if taken.contains(&ip) || oracle.is_by_hand(place.node, ip) {
                        continue;
                    }
                    let ended = oracle.ended.get(&(String::new(), ip)).map(|(at, _)| *at);
                    let until = ended
                        .into_iter()
                        .chain(resting.get(&ip).map(|at| run.time(*at)))
                        .max();
                    match until.map(|at| at + cooldown) {
                        Some(until) if until > now => drop(self.resting.insert(ip, until)),
                        // Nor is it sure when a kernel in trouble is heard of it.
                        Some(until) if troubled || until + LET_GO > now => {}
                        // What an earlier run wired this one has not seen yet.
                        // Nor is what the last try to wire was to serve, if that failed.
                        _ if eni.first
                            || run.serves.contains(&IpNet::V4(*net))
                                && place.kernel.serves(ip, mac) =>
                        {
                            self.free.insert(ip);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether `MAX_ENI` is lower than what the instance takes.
    pub(crate) fn by_setting(&self) -> bool {
        self.enis_max < self.kind.card_enis.first().copied().unwrap_or(1)
    }

    /// IPv4 slots that neither hold a block nor wait for one, on ENIs of the daemon's.
    pub(crate) fn open_slots(&self) -> u32 {
        let managed = self.on.iter().filter(|e| e.managed);
        managed.map(|e| self.open(e)).sum()
    }

    fn open(&self, eni: &Slots) -> u32 {
        self.slots.saturating_sub(eni.taken + eni.coming)
    }

    fn free_in(&self, subnet: &str) -> Free {
        self.subnets.get(subnet).copied().unwrap_or_default()
    }

    /// Whether EC2 would give one more address now: on an ENI that is there, or by a new one.
    pub(crate) fn grows(&self) -> bool {
        let by_slot = |eni: &Slots| {
            let free = self.free_in(&eni.subnet);
            eni.managed
                && !self.full_said
                && self.open(eni) > 0
                && (free.addresses > 0 || self.prefixes && free.prefixes > 0)
        };
        self.on.iter().any(by_slot) || self.grows_by_eni()
    }

    fn grows_by_eni(&self) -> bool {
        let gives = |home: &String| {
            let free = self.free_in(home);
            let block = free.addresses > 1 || self.prefixes && free.prefixes > 0;
            free.addresses > 0 && block
        };
        self.enis < self.enis_max && self.homes.iter().any(gives)
    }

    /// Whether every subnet that the node may draw from could give so many addresses.
    pub(crate) fn holds(&self, addresses: u32) -> bool {
        let on = self.on.iter().map(|eni| &eni.subnet);
        let mut all = self.homes.iter().chain(on);
        all.all(|subnet| self.free_in(subnet).addresses >= addresses)
    }

    /// More addresses than this the node can't take from its subnets, whatever its targets are.
    pub(crate) fn most(&self) -> u32 {
        let unit = if self.prefixes { 16 } else { 1 };
        self.enis_max * (self.slots * unit + 1)
    }

    /// Addresses that EC2 would surely give besides those that are free, one by one, if nobody else
    /// took any. With several subnets: as if all drew from the one that has least.
    pub(crate) fn more(&self) -> u32 {
        if self.full_said {
            return 0;
        }
        let new = match self.homes.is_empty() {
            true => 0,
            false => self.enis_max.saturating_sub(self.enis),
        };
        let wanted = self.open_slots() + new * self.slots;
        let on = self.on.iter().filter(|eni| eni.managed);
        let subnets = self.homes.iter().chain(on.map(|eni| &eni.subnet));
        let least = subnets.map(|subnet| self.free_in(subnet).addresses).min();
        wanted.min(least.unwrap_or(0).saturating_sub(new))
    }
}

/// Addresses of pods whose links outlive them: a namespace may linger after its DEL, and one that no DEL came
/// for may have lost its routes alone.
fn lingering(place: &Place<'_>) -> Vec<IpAddr> {
    let oracle = place.world.oracle();
    let here = oracle.living.iter().filter(|((on, _), _)| on == place.node);
    let newer: BTreeSet<&str> = here.map(|(_, l)| l.host_if.as_str()).collect();
    let links = place.store.released_links().into_iter();
    let stands = |host_if: &str| !newer.contains(host_if) && place.kernel.has_veth(host_if);
    let linger = links.filter(|(_, host_if)| stands(host_if));
    linger.map(|(ip, _)| ip).collect()
}

/// An ENI that EC2 said is full is believed to be so for its back-off's longest time.
fn full_said(run: &Run, now: Duration) -> bool {
    const LONGEST: Duration = Duration::from_secs(300);
    let codes = [
        "PrivateIpAddressLimitExceeded",
        "InvalidInterface.IpAddressLimitExceeded",
    ];
    let actions = [
        "AssignPrivateIpAddresses",
        "CreateNetworkInterface",
        "AttachNetworkInterface",
    ];
    let said = actions
        .iter()
        .flat_map(|action| codes.iter().filter_map(|code| run.refused(action, code)));
    said.max().is_some_and(|at| now < at + LONGEST)
}

fn slots_of(eni: &Eni, record: Option<&ipam_core::Eni>) -> Slots {
    let coming = match record.and_then(|e| e.intent.as_ref()) {
        Some(Intent::Create { count, .. }) => *count,
        Some(Intent::Assign {
            family: Family::V4,
            count,
            ..
        }) => *count,
        _ => 0,
    };
    let managed = |e: &ipam_core::Eni| {
        let there = !matches!(e.phase, Phase::Leaving | Phase::Detached);
        there && e.unmanaged.is_none() && !e.excluded
    };
    let there = count(eni.blocks.iter().filter(|b| b.addr().is_ipv4()).count());
    let known =
        |e: &ipam_core::Eni| count(e.blocks.keys().filter(|b| b.family() == Family::V4).count());
    Slots {
        subnet: eni.subnet.clone(),
        managed: record.is_some_and(managed) && !eni.going,
        // What a person took or gave is not known at once.
        taken: there.max(record.map_or(0, known)),
        coming,
    }
}

pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn addresses(net: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(net.network())..=u32::from(net.broadcast())).map(Ipv4Addr::from)
}

/// The instance type of a node, as EC2 knows it.
pub(crate) fn kind_of(world: &World, node: &str) -> Option<InstanceType> {
    let vpc = world.vpc();
    let nodes = vpc.nodes();
    let info = nodes.iter().find(|n| n.name.as_str() == node)?;
    vpc.instance_type(&info.instance_type).cloned()
}

/// What each subnet could give now.
fn subnets(world: &World, enis: &[Eni]) -> BTreeMap<String, Free> {
    let (all, spec) = {
        let vpc = world.vpc();
        (vpc.subnets(), vpc.spec().subnets.clone())
    };
    let free = |subnet: &vpc_model::response::Subnet| {
        let cidr = subnet.cidr;
        let of = spec.iter().find(|s| s.cidr == cidr);
        let reserved = of.map_or(&[][..], |s| &s.reservations);
        let held = enis.iter().filter(|e| e.subnet == subnet.id.as_str());
        let held = held.flat_map(|e| {
            let own = e.own.iter().copied().map(IpNet::from);
            own.chain(e.blocks.iter().copied()).collect::<Vec<_>>()
        });
        free_in(cidr, reserved, held)
    };
    let name = |s: &vpc_model::response::Subnet| s.id.as_str().to_owned();
    all.iter().map(|s| (name(s), free(s))).collect()
}

/// Counts a subnet's free addresses and prefixes. The first four addresses and the last are EC2's, and
/// a reserved range gives prefixes or nothing (VPC guide, "Subnet CIDR reservations").
fn free_in(cidr: Ipv4Net, reserved: &[ReservationSpec], held: impl Iterator<Item = IpNet>) -> Free {
    let base = u32::from(cidr.network());
    let size = 1_usize << (32 - cidr.prefix_len());
    let mut taken = vec![false; size];
    let at = |ip: Ipv4Addr| usize::try_from(u32::from(ip) - base).unwrap_or(usize::MAX);
    for edge in [0, 1, 2, 3, size - 1] {
        taken[edge] = true;
    }
    for net in held {
        if let IpNet::V4(net) = net {
            for ip in addresses(net).filter(|ip| cidr.contains(ip)) {
                taken[at(ip)] = true;
            }
        }
    }
    let kept = |n: usize| {
        let ip = Ipv4Addr::from(base + count(n));
        let by = |r: &&ReservationSpec| r.cidr.contains(&IpAddr::V4(ip));
        reserved.iter().find(by).map(|r| r.kind)
    };
    let mut free = Free::default();
    for lane in (0..size).step_by(16) {
        let ips = lane..(lane + 16).min(size);
        let open = |n: &usize| !taken[*n] && kept(*n).is_none();
        free.addresses += count(ips.clone().filter(open).count());
        let one_use = ips.clone().all(|n| kept(n) == kept(lane));
        let of_use = matches!(kept(lane), None | Some(ReservationKind::Prefix));
        if one_use && of_use && ips.clone().all(|n| !taken[n]) {
            free.prefixes += 1;
        }
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_counted_as_ec2_counts_it() {
        let cidr = |s: &str| s.parse::<Ipv4Net>().expect("is a block");
        let free = |reserved: &[ReservationSpec], held: &[&str]| {
            let held = held.iter().map(|s| s.parse::<IpNet>().expect("is a block"));
            free_in(cidr("10.0.0.0/26"), reserved, held)
        };
        let of = |addresses, prefixes| Free {
            addresses,
            prefixes,
        };
        // Blocks 1 and 2 of four: the first and the last hold what EC2 keeps.
        assert_eq!(free(&[], &[]), of(59, 2));
        assert_eq!(free(&[], &["10.0.0.20/32"]), of(58, 1));
        assert_eq!(free(&[], &["10.0.0.16/28"]), of(43, 1));
        let keep = |kind| ReservationSpec {
            cidr: IpNet::V4(cidr("10.0.0.16/28")),
            kind,
        };
        assert_eq!(free(&[keep(ReservationKind::Prefix)], &[]), of(43, 2));
        assert_eq!(free(&[keep(ReservationKind::Explicit)], &[]), of(43, 1));
    }
}
