use crate::world::{spec, subnet};
use vpc_model::{NodeSpec, Time, Vpc, VpcSpec};

#[test]
fn a_file_says_it_all() {
    let text = r#"
        account_id = "210987654321"
        region = "us-east-1"
        cidrs = ["10.0.0.0/16"]
        ipv6_cidr = "2001:db8::/56"
        leak_after_ms = 60000
        [[subnets]]
        cidr = "10.0.0.0/18"
        ipv6_cidr = "2001:db8::/64"
        reservations = [{ cidr = "10.0.32.0/20", type = "prefix" }]
        tags = { "kubernetes.io/role/cni" = "1" }
        [[security_groups]]
        id = "sg-1"
        name = "nodes"
        [[nodes]]
        name = "node-a"
        instance_type = "t3.small"
        namespace = "ns-a"
        launch_prefixes = 2
        link_name = "eth0"
        security_groups = ["nodes"]
        [latencies]
        ec2_ms = { p50 = 200, p99 = 900 }
        eni_in_imds_ms = 5000
        [limits]
        network_interfaces = 10
        [limits.types."t3.small"]
        ipv4_per_eni = 6
        [limits.buckets]
        mutate = { capacity = 10, refill = 1 }
        [[faults]]
        action = "Attach*"
        effect = { kind = "delay", ms = 100 }
        [iam]
        Statement = [{ Effect = "Allow", Action = "*" }]
    "#;
    let spec: VpcSpec = toml::from_str(text).unwrap();
    let vpc = Vpc::new(spec, Time::default()).unwrap();
    let node = &vpc.nodes()[0];
    assert_eq!(
        (node.namespace.as_str(), node.instance_type.as_str()),
        ("ns-a", "t3.small")
    );
    let wire = &vpc.wires(Time::default())[0];
    assert_eq!((wire.link.as_str(), wire.allowed.len()), ("eth0", 3));
    assert_eq!(vpc.faults().len(), 1);
    assert_eq!(vpc.subnets()[0].zone, "us-east-1a");
}

#[test]
fn a_wrong_field_is_named() {
    for (text, name) in [
        ("colour = 1", "colour"),
        ("[[subnets]]\ncidr = \"10.0.0.0/18\"\nsize = 3", "size"),
        ("[[nodes]]\ninstance_type = \"m5.large\"", "name"),
        ("[latencies]\nec2 = 3", "ec2"),
        ("[[subnets]]\ncidr = \"10.0.0/18\"", "cidr"),
    ] {
        let error = toml::from_str::<VpcSpec>(text).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn every_contradiction_is_told_at_once() {
    let mut spec = spec();
    spec.account_id = "12".into();
    spec.subnets
        .push(subnet("subnet-x", "10.0.1.0/24", "eu-west-1a"));
    spec.subnets
        .push(subnet("subnet-y", "192.168.0.0/24", "eu-west-1a"));
    spec.nodes.push(NodeSpec {
        hop_limit: 0,
        ..NodeSpec::new("n1", "m5.large")
    });
    spec.latencies.ec2_ms = vpc_model::Latency::fixed(-1.0);
    let problems = Vpc::new(spec, Time::default()).unwrap_err().problems;
    for field in [
        "account_id: ",
        "subnets[3].cidr: 10.0.1.0/24 overlaps with subnets[0]",
        "subnets[4].cidr: 192.168.0.0/24 is in no block of the VPC",
        "nodes[3].name: \"n1\" is there twice",
        "nodes[3].hop_limit: ",
        "latencies.ec2_ms: ",
    ] {
        assert!(
            problems.iter().any(|p| p.starts_with(field)),
            "{field}: {problems:?}"
        );
    }
}

#[test]
fn a_node_that_cannot_launch_says_why() {
    let launch = |change: &dyn Fn(&mut NodeSpec)| {
        let mut spec = spec();
        change(&mut spec.nodes[0]);
        Vpc::new(spec, Time::default()).unwrap_err().to_string()
    };
    for (text, error) in [
        (
            "nodes[0].instance_type",
            launch(&|n| n.instance_type = "x9.huge".into()),
        ),
        (
            "nodes[0].subnet",
            launch(&|n| n.subnet = Some("subnet-none".into())),
        ),
        (
            "nodes[0].launch_prefixes",
            launch(&|n| n.launch_prefixes = 10),
        ),
        (
            "nodes[0].security_groups",
            launch(&|n| n.security_groups = vec!["none".into()]),
        ),
        (
            "Reserved(10.0.0.1)",
            launch(&|n| n.primary_ip = Some("10.0.0.1".parse().unwrap())),
        ),
    ] {
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn nodes_come_and_go() {
    let now = Time::default();
    let mut vpc = Vpc::new(spec(), now).unwrap();
    let free = vpc.subnets()[0].available;
    vpc.launch(NodeSpec::new("n9", "m5.large"), now).unwrap();
    assert_eq!(
        (vpc.nodes().len(), vpc.subnets()[0].available),
        (4, free - 1)
    );
    assert!(vpc.launch(NodeSpec::new("n9", "m5.large"), now).is_err());
    vpc.terminate_instance("n9", now).unwrap();
    assert_eq!(vpc.subnets()[0].available, free);
    assert!(vpc.terminate_instance("n10", now).is_err());
    assert_eq!(vpc.books(now), []);
}
