//! A naive EC2 for tests of the core: every call works at once, addresses never run out, and virtual
//! time passes only when nothing else can happen.
// Each test file uses its own part, and tests fail by panicking.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

pub mod parts;
mod time;

use ipam_core::datastore::{Datastore, Request};
use ipam_core::limits::{InstanceLimits, limits_of};
use ipam_core::outcome::{Done, begin, finish, resume};
use ipam_core::plan::{Action, Input, Memory, Plan, Policy, plan};
use ipam_core::reconcile::Drift;
use ipam_core::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub struct World {
    pub store: Datastore,
    pub memory: Memory,
    pub policy: Policy,
    pub limits: InstanceLimits,
    pub now: Timestamp,
    pub calls: BTreeMap<&'static str, u32>,
    pub waiting: u32,
    /// When the first of them gives up.
    pub deadline: Option<Timestamp>,
    pub in_flight: BTreeSet<EniHandle>,
    pub subnet: SubnetId,
    /// EC2 refuses every Attach so.
    pub attach_refused: Option<cloud::ErrorClass>,
    /// An ENI takes no more blocks than this, whatever the table says.
    pub slots_max: Option<u32>,
    /// That is found out when it is attached, not when it is made.
    pub slots_by_attach: bool,
    /// EC2's own books.
    pub ec2: BTreeMap<EniId, EniView>,
    /// Differs from run to run of the daemon.
    pub run: String,
    tokens: BTreeMap<String, (EniId, Action)>,
    next_address: u32,
    next_prefix: u32,
    next_id: u32,
    pods: u32,
}

pub fn key(n: u32) -> AttachmentKey {
    AttachmentKey {
        network: "n".into(),
        container_id: format!("c{n}"),
        if_name: "eth0".into(),
    }
}

impl World {
    pub fn new(instance_type: &str, policy: Policy) -> Self {
        let mut world = Self {
            store: Datastore::new(policy.cooldown),
            memory: Memory::new(false, 7, Timestamp(1_000_000)),
            limits: limits_of(instance_type),
            policy,
            now: Timestamp(1_000_000),
            calls: BTreeMap::new(),
            waiting: 0,
            deadline: None,
            in_flight: BTreeSet::new(),
            subnet: "subnet-1".into(),
            attach_refused: None,
            slots_max: None,
            slots_by_attach: false,
            ec2: BTreeMap::new(),
            run: "run".into(),
            tokens: BTreeMap::new(),
            next_address: 0,
            next_prefix: 0,
            next_id: 0,
            pods: 0,
        };
        let primary = world.new_eni();
        world.attach(&primary, 0);
        world
    }

    fn new_eni(&mut self) -> EniId {
        self.next_id += 1;
        let id = EniId(format!("eni-{}", self.next_id));
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + 10 + self.next_id));
        let view = EniView {
            id: id.clone(),
            mac: Mac([2, 0, 0, 0, 0, self.next_id as u8]),
            attachment: None,
            subnet: self.subnet.clone(),
            address: Some(ipnet::IpNet::new(address, 16).unwrap()),
            blocks: vec![],
            unmanaged: None,
            ours: self.next_id > 1,
        };
        self.ec2.insert(id.clone(), view);
        id
    }

    pub fn attach(&mut self, id: &EniId, device_index: u32) {
        self.ec2.get_mut(id).unwrap().attachment = Some(AttachmentView {
            id: Some(format!("attach-{id}")),
            device_index,
            card: 0,
            delete_on_termination: Some(device_index == 0),
        });
    }

    pub fn give(&mut self, id: &EniId, kind: BlockKind, count: u32) -> Vec<Block> {
        let blocks: Vec<Block> = (0..count)
            .map(|_| match kind {
                BlockKind::Address => {
                    self.next_address += 1;
                    Block::address(Ipv4Addr::from(0x0a00_4000 + self.next_address).into())
                }
                BlockKind::Prefix => {
                    self.next_prefix += 1;
                    Block::prefix_of(Ipv4Addr::from(0x0a00_8000 + 16 * self.next_prefix).into())
                }
            })
            .collect();
        self.ec2.get_mut(id).unwrap().blocks.extend(&blocks);
        blocks
    }

    /// An m5.large that has settled with so many addresses at least.
    pub fn with_minimum(minimum_ip: u32) -> Self {
        let policy = Policy {
            minimum_ip: Some(minimum_ip),
            ..Policy::default()
        };
        let mut world = Self::new("m5.large", policy);
        world.settle();
        world
    }

    /// What the plan asks for of this kind, once it knows which subnets there are.
    pub fn planned(&mut self, wanted: impl Fn(&Action) -> bool) -> Action {
        let asks = |a: &&Action| matches!(a, Action::DescribeSubnets { .. });
        if let Some(asks) = self.plan().actions.iter().find(asks) {
            self.carry_out(asks);
        }
        let plan = self.plan();
        let found = plan.actions.iter().find(|a| wanted(a)).cloned();
        found.unwrap_or_else(|| panic!("not planned: {plan:?}"))
    }

    pub fn plan(&self) -> Plan {
        let input = Input {
            policy: &self.policy,
            limits: &self.limits,
            memory: &self.memory,
            waiting: self.waiting,
            deadline: self.deadline,
            in_flight: &self.in_flight,
            describing: false,
            asking_subnets: false,
            provisioning: true,
            finishing: false,
            token_prefix: &self.run,
        };
        plan(&self.store, &input, self.now)
    }

    fn count(&mut self, call: &'static str) {
        *self.calls.entry(call).or_default() += 1;
    }

    /// Does what EC2 would, and tells the core.
    pub fn carry_out(&mut self, action: &Action) {
        begin(&mut self.store, action, self.now);
        let named = match action {
            Action::Attach { eni, .. }
            | Action::SetDeleteOnTermination { eni, .. }
            | Action::Assign { eni, .. }
            | Action::Unassign { eni, .. } => Some(eni),
            _ => None,
        };
        // Deleted before, and the answer was lost.
        if named.is_some_and(|eni| !self.ec2.contains_key(eni)) {
            return self.not_found(action);
        }
        let done = match action {
            Action::Describe => {
                self.count("describe");
                self.attached()
            }
            Action::DescribeSubnets { .. } => {
                self.count("subnets");
                Done::Subnets(vec![SubnetView {
                    id: self.subnet.clone(),
                    cidr: None,
                    available: 60_000,
                    tags: BTreeMap::new(),
                }])
            }
            Action::Create {
                kind, count, token, ..
            } => {
                self.count("create");
                if !self.slots_by_attach && self.slots_max.is_some_and(|max| *count > max) {
                    return self.refuse(action, cloud::ErrorClass::EniFull);
                }
                let known = self.tokens.get(token).cloned();
                if let Some((_, first)) = &known {
                    assert_eq!(
                        action, first,
                        "EC2 knows a token with its very request only"
                    );
                }
                let id = known.map(|(id, _)| id).unwrap_or_else(|| {
                    let id = self.new_eni();
                    self.give(&id, *kind, *count);
                    id
                });
                self.tokens
                    .insert(token.clone(), (id.clone(), action.clone()));
                Done::Created(self.ec2[&id].clone())
            }
            Action::Attach {
                eni, device_index, ..
            } => {
                self.count("attach");
                if let Some(class) = self.attach_refused {
                    return self.refuse(action, class);
                }
                let held = u32::try_from(self.ec2[eni].blocks.len()).unwrap();
                if self.slots_max.is_some_and(|max| held > max) {
                    return self.refuse(action, cloud::ErrorClass::EniFull);
                }
                let others = self.ec2.iter().filter(|(id, _)| *id != eni);
                let mut places = others.filter_map(|(_, v)| v.attachment.as_ref());
                if places.any(|a| a.device_index == *device_index) {
                    return self.refuse(action, cloud::ErrorClass::IndexTaken);
                }
                if self.ec2[eni].attachment.is_some() {
                    return self.refuse(action, cloud::ErrorClass::WrongState);
                }
                self.attach(eni, *device_index);
                Done::Attached(format!("attach-{eni}"))
            }
            Action::SetDeleteOnTermination { eni, .. } => {
                self.count("modify");
                let Some(attachment) = self.ec2.get_mut(eni).and_then(|v| v.attachment.as_mut())
                else {
                    return self.not_found(action);
                };
                attachment.delete_on_termination = Some(true);
                Done::Modified
            }
            Action::Assign {
                eni, kind, count, ..
            } => {
                self.count("assign");
                let held = u32::try_from(self.ec2[eni].blocks.len()).unwrap();
                if self.slots_max.is_some_and(|max| held + *count > max) {
                    return self.refuse(action, cloud::ErrorClass::EniFull);
                }
                Done::Assigned(self.give(eni, *kind, *count))
            }
            Action::Unassign { eni, blocks, .. } => {
                self.count("unassign");
                self.ec2
                    .get_mut(eni)
                    .unwrap()
                    .blocks
                    .retain(|b| !blocks.contains(b));
                Done::Unassigned
            }
            Action::Detach { attachment, .. } => {
                self.count("detach");
                let eni = self.ec2.values_mut().find(|v| {
                    v.attachment
                        .as_ref()
                        .is_some_and(|a| a.id.as_ref() == Some(attachment))
                });
                // Detached before, and the answer was lost.
                let Some(eni) = eni else {
                    return self.not_found(action);
                };
                eni.attachment = None;
                Done::Detached
            }
            Action::Delete { eni, .. } => {
                self.count("delete");
                if self.ec2.get(eni).is_some_and(|v| v.attachment.is_some()) {
                    return self.refuse(action, cloud::ErrorClass::WrongState);
                }
                if self.ec2.remove(eni).is_none() {
                    return self.not_found(action);
                }
                Done::Deleted
            }
        };
        finish(
            &mut self.store,
            &mut self.memory,
            action,
            Ok(done),
            self.now,
            self.now,
        );
        self.wire();
    }

    /// As after kill -9 and a start in the same boot: what was durable comes back, what was learned does
    /// not.
    pub fn restart(&mut self) {
        let mut enis: Vec<Eni> = self.store.enis().values().cloned().collect();
        for state in enis.iter_mut().flat_map(|e| e.blocks.values_mut()) {
            if *state == BlockState::Confirmed {
                *state = BlockState::Unconfirmed;
            }
        }
        let leases = self.store.leases().values().cloned().collect();
        self.store = Datastore::restore(self.policy.cooldown, enis, leases, BTreeMap::new());
        self.memory = Memory::new(true, 11, self.now);
        resume(&mut self.store, &mut self.memory, self.now);
        self.run.push('x');
        self.wire();
    }

    fn attached(&self) -> Done {
        let attached = self.ec2.values().filter(|v| v.attachment.is_some());
        Done::Described(attached.cloned().collect())
    }

    /// Lets time pass, then asks EC2; the host's side stays as it is.
    pub fn look(&mut self, seconds: u64) -> Vec<Drift> {
        self.now = self.now + Duration::from_secs(seconds);
        let (action, done) = (Action::Describe, self.attached());
        finish(
            &mut self.store,
            &mut self.memory,
            &action,
            Ok(done),
            self.now,
            self.now,
        )
    }

    /// Lets time pass, then asks EC2.
    pub fn describe_after(&mut self, seconds: u64) -> Vec<Drift> {
        let drift = self.look(seconds);
        self.wire();
        drift
    }

    /// A Create whose token EC2 knows already.
    pub fn made_before(&self, action: &Action) -> bool {
        matches!(action, Action::Create { token, .. } if self.tokens.contains_key(token))
    }

    fn not_found(&mut self, action: &Action) {
        self.refuse(action, cloud::ErrorClass::NotFound);
    }

    /// EC2 says no.
    pub fn refuse(&mut self, action: &Action, class: cloud::ErrorClass) {
        let error = cloud::CloudError {
            action: "x",
            class,
            code: "c".into(),
            message: "m".into(),
        };
        finish(
            &mut self.store,
            &mut self.memory,
            action,
            Err(error),
            self.now,
            self.now,
        );
    }

    /// The host's side is always done at once here.
    pub fn wire(&mut self) {
        let enis: Vec<Eni> = self.store.enis().values().cloned().collect();
        for eni in enis {
            self.store.set_ready(eni.handle);
            self.store.set_wired(eni.blocks.keys().copied());
        }
    }

    /// The kernel forgets at once, here.
    pub fn forget(&mut self) {
        let due = self.store.to_forget(self.now);
        self.store.forgotten(&due);
    }

    /// A pod comes, waiting if it must; `false` if it gets no address.
    pub fn add_pod(&mut self) -> bool {
        let n = self.pods;
        self.pods += 1;
        for _ in 0..2 {
            if self.assign(n) {
                self.waiting = 0;
                return true;
            }
            self.waiting = 1;
            self.settle();
        }
        self.waiting = 0;
        false
    }

    /// A pod comes that gets an address at once, or none.
    pub fn add_without_growth(&mut self) -> bool {
        let n = self.pods;
        self.pods += 1;
        self.assign(n)
    }

    /// An address for the pod of this number, if there is one.
    fn assign(&mut self, n: u32) -> bool {
        let pod = PodRef {
            namespace: "d".into(),
            name: format!("p{n}"),
            uid: String::new(),
        };
        let key = key(n);
        let request = Request {
            key: &key,
            pod: &pod,
            families: &[Family::V4],
            local: None,
            veth_prefix: "eni",
            prefixes: self.policy.prefixes,
        };
        self.store.assign(&request, self.now).is_ok()
    }

    pub fn del_pod(&mut self, n: u32) {
        self.store.release(&key(n), self.now);
    }

    pub fn total(&self) -> u32 {
        self.store.tally(ipam_core::Family::V4, self.now).addresses
    }

    pub fn used(&self) -> u32 {
        self.store.tally(ipam_core::Family::V4, self.now).used
    }

    /// Blocks per ENI, in the order of the ENIs.
    pub fn per_eni(&self) -> Vec<u32> {
        let mut enis: Vec<&Eni> = self.store.enis().values().collect();
        enis.sort_by_key(|e| e.device_index);
        enis.iter().map(|e| e.blocks.len() as u32).collect()
    }
}

/// Addresses that could be leased.
pub fn free_in_pool(world: &World) -> Vec<IpAddr> {
    let serving = world.store.enis().values().filter(|e| e.serves());
    let usable = |s: &BlockState| matches!(s, BlockState::Confirmed | BlockState::Unconfirmed);
    let blocks = serving.flat_map(|e| e.blocks.iter().filter(|(_, s)| usable(s)));
    blocks
        .flat_map(|(b, _)| (0..b.capacity()).filter_map(|n| b.nth(n)))
        .filter(|ip| world.store.is_free(*ip, world.now))
        .collect()
}
