//! A small VPC to call: two zones, a small subnet, three nodes, no latency but what a test sets.

use vpc_model::ids::{AttachmentId, EniId, InstanceId, SubnetId};
use vpc_model::request::{
    Action, AssignPrivateIpAddresses, AttachNetworkInterface, CreateNetworkInterface, Describe,
    WantedV4,
};
use vpc_model::response::Eni;
use vpc_model::{
    Admission, ApiError, Caller, Latencies, NodeSpec, Request, Response, SubnetSpec, Time, Vpc,
    VpcSpec,
};

pub(crate) struct World {
    pub(crate) vpc: Vpc,
    pub(crate) now: Time,
    pub(crate) caller: Caller,
}

pub(crate) fn subnet(id: &str, cidr: &str, az: &str) -> SubnetSpec {
    let mut subnet = SubnetSpec::new(cidr.parse().unwrap());
    subnet.id = Some(id.to_owned());
    subnet.az = Some(az.to_owned());
    subnet
}

/// `subnet-a` 10.0.0.0/20 with IPv6 and `subnet-s` 10.0.16.0/28 in zone a, `subnet-b` in zone b;
/// m5.large `n1` and `n2`, t2.small `old` (Xen), all in subnet-a, with instance ids `i-…`.
pub(crate) fn spec() -> VpcSpec {
    let mut a = subnet("subnet-a", "10.0.0.0/20", "eu-west-1a");
    a.ipv6_cidr = Some("2001:db8::/64".parse().unwrap());
    let node = |name: &str, kind: &str| {
        let mut node = NodeSpec::new(name, kind);
        node.instance_id = Some(format!("i-{name}"));
        node
    };
    let mut spec = VpcSpec {
        ipv6_cidr: Some("2001:db8::/56".parse().unwrap()),
        subnets: vec![
            a,
            subnet("subnet-s", "10.0.16.0/28", "eu-west-1a"),
            subnet("subnet-b", "10.0.32.0/20", "eu-west-1b"),
        ],
        nodes: vec![
            node("n1", "m5.large"),
            node("n2", "m5.large"),
            node("old", "t2.small"),
        ],
        latencies: Latencies::zero(),
        ..VpcSpec::default()
    };
    spec.limits.throttling = false;
    spec
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(spec())
    }

    pub(crate) fn with(spec: VpcSpec) -> Self {
        let now = Time::from_unix_millis(1_700_000_000_000);
        Self {
            vpc: Vpc::new(spec, now).unwrap(),
            now,
            caller: Caller::node("n1"),
        }
    }

    pub(crate) fn call(&mut self, request: impl Into<Request>) -> Result<Response, ApiError> {
        let now = self.now;
        self.vpc
            .execute(&Admission::immediate(), &self.caller, &request.into(), now)
    }

    /// The error's code and message.
    pub(crate) fn refused(&mut self, request: impl Into<Request>) -> (String, String) {
        match self.call(request) {
            Ok(answer) => panic!("not refused: {answer:?}"),
            Err(e) => (e.code, e.message),
        }
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) {
        self.now = self.now + std::time::Duration::from_millis(ms);
    }

    pub(crate) fn create(&mut self, subnet: &str) -> EniId {
        self.create_with(subnet, WantedV4::default())
    }

    pub(crate) fn create_with(&mut self, subnet: &str, v4: WantedV4) -> EniId {
        let r = CreateNetworkInterface {
            subnet: Some(SubnetId::from(subnet)),
            v4,
            ..CreateNetworkInterface::default()
        };
        let Response::Created { eni, .. } = self.call(r).unwrap() else {
            panic!("other answer")
        };
        eni.id
    }

    pub(crate) fn attach(&mut self, eni: &EniId, instance: &str, index: u32) -> AttachmentId {
        let Response::Attached { attachment, .. } =
            self.call(attach(eni, instance, index)).unwrap()
        else {
            panic!("other answer")
        };
        attachment
    }

    pub(crate) fn eni(&self, id: &EniId) -> Eni {
        self.vpc
            .enis(self.now)
            .into_iter()
            .find(|e| e.id == *id)
            .unwrap()
    }

    pub(crate) fn primary(&self, node: &str) -> Eni {
        let nodes = self.vpc.nodes();
        let id = nodes
            .into_iter()
            .find(|n| n.name.as_str() == node)
            .unwrap()
            .primary_eni
            .unwrap();
        self.eni(&id)
    }

    pub(crate) fn free(&self, subnet: &str) -> u32 {
        self.vpc
            .subnets()
            .into_iter()
            .find(|s| s.id.as_str() == subnet)
            .unwrap()
            .available
    }

    pub(crate) fn list(&mut self, by: Describe<EniId>) -> Vec<Eni> {
        match self.call(Action::DescribeNetworkInterfaces(by)).unwrap() {
            Response::Enis(page) => page.items,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn attach(eni: &EniId, instance: &str, index: u32) -> AttachNetworkInterface {
    AttachNetworkInterface {
        eni: eni.clone(),
        instance: InstanceId::from(instance),
        device_index: index,
        card: None,
    }
}

pub(crate) fn addresses(count: u32) -> WantedV4 {
    WantedV4 {
        address_count: Some(count),
        ..WantedV4::default()
    }
}

pub(crate) fn prefixes(count: u32) -> WantedV4 {
    WantedV4 {
        prefix_count: Some(count),
        ..WantedV4::default()
    }
}

pub(crate) fn named(list: &[&str]) -> WantedV4 {
    let addresses = list.iter().map(|a| a.parse().unwrap()).collect();
    WantedV4 {
        addresses,
        ..WantedV4::default()
    }
}

pub(crate) fn assign(eni: &EniId, wanted: WantedV4) -> AssignPrivateIpAddresses {
    AssignPrivateIpAddresses {
        eni: eni.clone(),
        wanted,
        allow_reassignment: false,
    }
}
