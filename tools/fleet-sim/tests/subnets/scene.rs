//! A VPC of some subnets in one zone with a node in the first, and an operator's hands.

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use futures_util::future::join_all;
use ipam_core::plan::Policy;
use ipam_engine::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use vpc_model::ids::EniId;
use vpc_model::request::{
    Action, CreateNetworkInterface, CreateTags, DeleteTags, UnassignPrivateIpAddresses, Wanted,
};
use vpc_model::{Admission, Caller, NodeSpec, Response, SubnetSpec, VpcSpec};

pub(crate) const WAIT: Duration = Duration::from_secs(30);
pub(crate) const ROLE: &str = "kubernetes.io/role/cni";

/// A subnet of the node's zone; its name is its id without `subnet-`.
pub(crate) fn subnet(name: &str, cidr: &str, tags: &[(&str, &str)]) -> SubnetSpec {
    let mut spec = SubnetSpec::new(cidr.parse().unwrap());
    spec.id = Some(format!("subnet-{name}"));
    spec.tags = tags
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    spec
}

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) node: Node,
    /// Pods that are up, with their addresses.
    pub(crate) pods: BTreeMap<u32, IpAddr>,
}

impl Scene {
    pub(crate) fn new(instance_type: &str, subnets: Vec<SubnetSpec>) -> Self {
        Self::of(VpcSpec {
            subnets,
            nodes: vec![NodeSpec::new("a", instance_type)],
            ..VpcSpec::default()
        })
    }

    /// The same with addresses given from the lowest on: so the node's own don't fragment all else.
    pub(crate) fn in_order(instance_type: &str, subnets: Vec<SubnetSpec>) -> Self {
        Self::of(VpcSpec {
            subnets,
            nodes: vec![NodeSpec::new("a", instance_type)],
            placement: vpc_model::spec::Placement::Lowest,
            ..VpcSpec::default()
        })
    }

    pub(crate) fn of(spec: VpcSpec) -> Self {
        let world = World::new(spec).unwrap();
        let node = Node::new(&world, "a").unwrap();
        Self {
            world,
            node,
            pods: BTreeMap::new(),
        }
    }

    pub(crate) fn start(&mut self, policy: &Policy) {
        self.node.start(settings(policy.clone()));
    }

    /// ADDs at once; all must succeed. Returns the time that the slowest took.
    pub(crate) async fn add(&mut self, pods: std::ops::Range<u32>) -> Duration {
        let begin = self.world.elapsed();
        let node = &self.node;
        let adds: Vec<_> = pods
            .map(|n| async move { (n, node.add(n, WAIT).await) })
            .collect();
        for (n, done) in join_all(adds).await {
            let wiring = done.unwrap_or_else(|e| panic!("pod {n}: {e:?}"));
            let ip = wiring.pod_addresses[0].addr();
            assert!(
                self.pods.iter().all(|(m, other)| *m == n || *other != ip),
                "{ip} twice"
            );
            self.pods.insert(n, ip);
        }
        self.world.elapsed() - begin
    }

    pub(crate) async fn del(&mut self, pods: std::ops::Range<u32>) {
        for n in pods {
            if self.pods.remove(&n).is_some() {
                assert!(self.node.del(n).await.unwrap().released, "pod {n}");
            }
        }
    }

    pub(crate) async fn snapshot(&self) -> Snapshot {
        self.node.snapshot().await.unwrap()
    }

    /// Every pod still has its address, and EC2 has it on an ENI of this node.
    pub(crate) async fn pods_are_whole(&self) {
        let given = self.blocks();
        let pool = self.snapshot().await;
        let leased: BTreeSet<IpAddr> = pool
            .enis
            .iter()
            .flat_map(|e| &e.blocks)
            .flat_map(|b| b.used.iter().map(|(ip, _)| *ip))
            .collect();
        for (n, ip) in &self.pods {
            assert!(leased.contains(ip), "pod {n} lost its lease of {ip}");
            assert!(
                given.iter().any(|net| net.contains(ip)),
                "EC2 gave {ip} of pod {n} to this node no more"
            );
        }
        assert_eq!(leased.len(), self.pods.len(), "leases of nobody");
    }

    /// What EC2 has on this node's ENIs besides their own addresses.
    pub(crate) fn blocks(&self) -> Vec<ipnet::IpNet> {
        let enis = self.world.vpc().enis(self.world.time());
        let mine = enis.iter().filter(|e| e.attachment.is_some());
        mine.flat_map(|e| {
            let singles = e.addresses.iter().filter(|a| !a.primary);
            let singles = singles.map(|a| ipnet::IpNet::from(IpAddr::V4(a.address)));
            let prefixes = e.v4_prefixes.iter().map(|p| ipnet::IpNet::V4(*p));
            singles.chain(prefixes).collect::<Vec<_>>()
        })
        .collect()
    }

    pub(crate) fn count_of(&self, prefix_len: u8) -> usize {
        let blocks = self.blocks();
        blocks
            .iter()
            .filter(|b| b.prefix_len() == prefix_len)
            .count()
    }

    /// Subnets of this node's ENIs by device index, without `subnet-`.
    pub(crate) async fn subnets(&self) -> Vec<String> {
        let enis = self.snapshot().await.enis;
        let names = enis.iter().map(|e| e.subnet.trim_start_matches("subnet-"));
        names.map(str::to_owned).collect()
    }

    pub(crate) fn calls(&self, action: &str) -> u64 {
        let vpc = self.world.vpc();
        let mine = vpc.ec2_calls().get("a");
        mine.and_then(|calls| calls.get(action))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn operator(&self, action: Action) -> Response {
        let now = self.world.time();
        self.world
            .vpc()
            .execute(
                &Admission::immediate(),
                &Caller::Operator,
                &action.into(),
                now,
            )
            .unwrap()
    }

    pub(crate) fn tag(&self, subnet: &str, key: &str, value: Option<&str>) {
        let resources = vec![format!("subnet-{subnet}")];
        drop(self.operator(match value {
            Some(value) => Action::CreateTags(CreateTags {
                resources,
                tags: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            }),
            None => Action::DeleteTags(DeleteTags {
                resources,
                tags: vec![(key.to_owned(), None)],
            }),
        }));
    }

    /// Somebody takes one address of every free /28 of a /24: plenty is free, and no prefix.
    pub(crate) fn fragment(&self, name: &str, net: [u8; 3]) -> EniId {
        let at = |lane: u8| Ipv4Addr::new(net[0], net[1], net[2], lane * 16 + 8);
        let held = self.blocks();
        let own: Vec<Ipv4Addr> = {
            let enis = self.world.vpc().enis(self.world.time());
            enis.iter().map(|e| e.private_ip).collect()
        };
        let lanes = (0..16).filter(|lane| {
            let ip = IpAddr::V4(at(*lane));
            !held.iter().any(|b| b.contains(&ip)) && !own.contains(&at(*lane))
        });
        let mut addresses: Vec<Ipv4Addr> = lanes.map(at).collect();
        let primary = addresses.pop();
        let request = CreateNetworkInterface {
            subnet: Some(format!("subnet-{name}").as_str().into()),
            primary,
            v4: Wanted {
                addresses,
                ..Wanted::default()
            },
            ..CreateNetworkInterface::default()
        };
        match self.operator(Action::CreateNetworkInterface(request)) {
            Response::Created { eni, .. } => eni.id,
            other => panic!("{other:?}"),
        }
    }

    /// Gives some of them back.
    pub(crate) fn defragment(&self, eni: &EniId, count: usize) {
        let all = self.world.vpc().enis(self.world.time());
        let held = all.iter().find(|e| e.id == *eni).unwrap();
        let secondary = held.addresses.iter().filter(|a| !a.primary);
        drop(self.operator(Action::UnassignPrivateIpAddresses(
            UnassignPrivateIpAddresses {
                eni: eni.clone(),
                // From the end, where the lowest free addresses come last.
                addresses: secondary.rev().map(|a| a.address).take(count).collect(),
                prefixes: Vec::new(),
            },
        )));
    }
}

pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
