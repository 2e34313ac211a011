use crate::world::{World, addresses, prefixes, spec};
use vpc_model::imds::{ImdsAnswer, ImdsRequest};
use vpc_model::{Caller, Effect, Fault, Latency, NodeSpec, VpcSpec};

fn ask(w: &mut World, node: &str, request: &ImdsRequest<'_>) -> ImdsAnswer {
    w.vpc.imds(node, request, w.now).unwrap().answer.unwrap()
}

fn token(w: &mut World, node: &str, ttl: &str) -> ImdsAnswer {
    let path = "/latest/api/token";
    let request = ImdsRequest {
        method: "PUT",
        path,
        ttl: Some(ttl),
        ..ImdsRequest::default()
    };
    ask(w, node, &request)
}

/// Status and body of a GET with a fresh token.
fn get(w: &mut World, path: &str) -> (u16, String) {
    let token = token(w, "n1", "60").body;
    let answer = ask(w, "n1", &ImdsRequest::get(path, &token));
    (answer.status, answer.body)
}

fn value(w: &mut World, path: &str) -> String {
    let (status, body) = get(w, &format!("/latest/meta-data/{path}"));
    assert_eq!(status, 200, "{path}");
    body
}

fn rich() -> VpcSpec {
    let mut spec = spec();
    let n1 = &mut spec.nodes[0];
    n1.primary_ip = Some("10.0.1.5".parse().unwrap());
    n1.public_ip = Some("198.51.100.7".parse().unwrap());
    n1.launch_prefixes = 1;
    n1.launch_addresses = 1;
    n1.launch_ipv6_prefixes = 1;
    n1.launch_ipv6_addresses = 1;
    n1.tags = [("Name".to_owned(), "web".to_owned())].into();
    n1.tags_in_imds = true;
    spec.placement = vpc_model::Placement::Lowest;
    spec
}

#[test]
fn tokens_are_required_bound_to_the_instance_and_run_out() {
    let mut w = World::new();
    let no_token = ImdsRequest {
        method: "GET",
        path: "/latest/meta-data/",
        ..Default::default()
    };
    assert_eq!(ask(&mut w, "n1", &no_token).status, 401);
    for (ttl, status) in [
        ("0", 400),
        ("21601", 400),
        ("", 400),
        ("x", 400),
        ("1", 200),
        ("21600", 200),
    ] {
        assert_eq!(token(&mut w, "n1", ttl).status, status, "{ttl:?}");
    }
    let forwarded = ImdsRequest {
        method: "PUT",
        path: "/latest/api/token",
        ttl: Some("60"),
        forwarded: true,
        ..Default::default()
    };
    assert_eq!(ask(&mut w, "n1", &forwarded).status, 403);
    let issued = token(&mut w, "n1", "10");
    assert_eq!(issued.token_ttl, Some(10));
    let get = ImdsRequest::get("/latest/meta-data/instance-id", &issued.body);
    assert_eq!(ask(&mut w, "n1", &get).body, "i-n1");
    assert_eq!(ask(&mut w, "n2", &get).status, 401);
    w.wait_ms(9_999);
    assert_eq!(ask(&mut w, "n1", &get).status, 200);
    w.wait_ms(1);
    assert_eq!(ask(&mut w, "n1", &get).status, 401);
    let garbage = ImdsRequest::get("/latest/meta-data/", "AQAEAgarbage==");
    assert_eq!(ask(&mut w, "n1", &garbage).status, 401);
    let post = ImdsRequest {
        method: "POST",
        ..no_token
    };
    assert_eq!(ask(&mut w, "n1", &post).status, 405);
}

#[test]
fn version_one_works_where_it_is_allowed() {
    let mut spec = spec();
    spec.nodes[0].http_tokens = vpc_model::spec::HttpTokens::Optional;
    let mut w = World::with(spec);
    let plain = ImdsRequest {
        method: "GET",
        path: "/latest/meta-data/mac",
        ..Default::default()
    };
    assert_eq!(ask(&mut w, "n1", &plain).status, 200);
    let wrong = ImdsRequest {
        token: Some("nonsense"),
        ..plain
    };
    assert_eq!(ask(&mut w, "n1", &wrong).status, 401);
}

#[test]
fn the_instance_keys() {
    let mut w = World::with(rich());
    for (path, want) in [
        ("instance-id", "i-n1"),
        ("instance-type", "m5.large"),
        ("local-ipv4", "10.0.1.5"),
        ("public-ipv4", "198.51.100.7"),
        (
            "public-hostname",
            "ec2-198-51-100-7.eu-west-1.compute.amazonaws.com",
        ),
        ("local-hostname", "ip-10-0-1-5.eu-west-1.compute.internal"),
        ("hostname", "ip-10-0-1-5.eu-west-1.compute.internal"),
        ("ipv6", "2001:db8::4"),
        ("security-groups", "default"),
        ("placement/availability-zone", "eu-west-1a"),
        ("placement/availability-zone-id", "euw1-az1"),
        ("placement/region", "eu-west-1"),
        (
            "placement",
            "availability-zone\navailability-zone-id\nregion",
        ),
        (
            "placement/",
            "availability-zone\navailability-zone-id\nregion",
        ),
        ("services/domain", "amazonaws.com"),
        ("tags/instance", "Name"),
        ("tags/instance/Name", "web"),
        ("iam/security-credentials/", "vpc-sim-node"),
        ("iam/security-credentials", "vpc-sim-node"),
    ] {
        assert_eq!(value(&mut w, path), want, "{path}");
    }
    let root = value(&mut w, "");
    for entry in [
        "ami-id",
        "iam/",
        "mac",
        "network/",
        "placement/",
        "services/",
        "tags/",
    ] {
        assert!(root.lines().any(|l| l == entry), "{entry} is not in {root}");
    }
    let mut sorted: Vec<&str> = root.lines().collect();
    sorted.sort_unstable();
    assert_eq!(root.lines().collect::<Vec<_>>(), sorted);
    let (_, versions) = get(&mut w, "/");
    assert!(versions.starts_with("1.0\n2007-01-19\n") && versions.ends_with("\nlatest"));
    assert_eq!(get(&mut w, "/2021-03-23/meta-data/instance-id").1, "i-n1");
    assert_eq!(get(&mut w, "/1999-01-01/meta-data/instance-id").0, 404);
    for absent in [
        "latest/meta-data/spot/instance-action",
        "latest/user-data",
        "latest/meta-data/mac/x",
    ] {
        assert_eq!(get(&mut w, &format!("/{absent}")).0, 404, "{absent}");
    }
    let (status, document) = get(&mut w, "/latest/dynamic/instance-identity/document");
    assert_eq!(status, 200);
    for pair in [
        "\"region\": \"eu-west-1\"",
        "\"instanceId\": \"i-n1\"",
        "\"privateIp\": \"10.0.1.5\"",
    ] {
        assert!(document.contains(pair), "{document}");
    }
}

#[test]
fn the_interface_keys() {
    let mut w = World::with(rich());
    let eni = w.primary("n1");
    let mac = value(&mut w, "mac");
    assert_eq!(mac, eni.mac.to_string());
    assert_eq!(value(&mut w, "network/interfaces/macs/"), format!("{mac}/"));
    let group = eni.groups[0].0.to_string();
    for (key, want) in [
        ("device-number", "0"),
        ("interface-id", eni.id.as_str()),
        ("ipv4-associations/198.51.100.7", "10.0.1.5"),
        ("ipv4-prefix", "10.0.0.16/28"),
        ("ipv6-prefix", "2001:db8:0:0:1::/80"),
        ("ipv6s", "2001:db8::4"),
        ("local-ipv4s", "10.0.1.5\n10.0.0.4"),
        ("mac", mac.as_str()),
        ("owner-id", "123456789012"),
        ("public-ipv4s", "198.51.100.7"),
        ("security-group-ids", group.as_str()),
        ("subnet-id", "subnet-a"),
        ("subnet-ipv4-cidr-block", "10.0.0.0/20"),
        ("subnet-ipv6-cidr-blocks", "2001:db8::/64"),
        ("vpc-ipv4-cidr-block", "10.0.0.0/16"),
        ("vpc-ipv4-cidr-blocks", "10.0.0.0/16"),
        ("vpc-ipv6-cidr-blocks", "2001:db8::/56"),
    ] {
        assert_eq!(
            value(&mut w, &format!("network/interfaces/macs/{mac}/{key}")),
            want,
            "{key}"
        );
    }
    let keys = value(&mut w, &format!("network/interfaces/macs/{mac}"));
    assert!(
        keys.contains("ipv4-associations/\n") && !keys.contains("network-card"),
        "{keys}"
    );
    // What an interface has none of is not there at all.
    let mut w = World::new();
    let mac = value(&mut w, "mac");
    for key in [
        "ipv4-prefix",
        "ipv6-prefix",
        "ipv6s",
        "public-ipv4s",
        "ipv4-associations/",
    ] {
        let path = format!("/latest/meta-data/network/interfaces/macs/{mac}/{key}");
        assert_eq!(get(&mut w, &path).0, 404, "{key}");
    }
}

#[test]
fn an_eni_shows_when_imds_knows_it() {
    let mut spec = spec();
    spec.latencies.eni_in_imds_ms = Latency::fixed(3000.0);
    spec.latencies.eni_detach_ms = Latency::fixed(1000.0);
    let mut w = World::with(spec);
    let macs = |w: &mut World| value(w, "network/interfaces/macs/").lines().count();
    let eni = w.create_with("subnet-a", prefixes(1));
    let attachment = w.attach(&eni, "i-n1", 1);
    assert_eq!(macs(&mut w), 1);
    w.wait_ms(2999);
    assert_eq!(macs(&mut w), 1);
    w.wait_ms(1);
    assert_eq!(macs(&mut w), 2);
    let hide = |eni: Option<String>| Fault::new("*", Effect::HideEni { eni });
    for eni in [
        None,
        Some(eni.to_string()),
        Some(w.eni(&eni).mac.to_string()),
    ] {
        let id = w.vpc.add_fault(hide(eni));
        assert_eq!(macs(&mut w), 1);
        w.vpc.remove_fault(id);
        assert_eq!(macs(&mut w), 2);
    }
    w.wait_ms(5000);
    w.call(vpc_model::request::DetachNetworkInterface {
        attachment,
        force: false,
    })
    .unwrap();
    w.wait_ms(1000);
    assert_eq!(macs(&mut w), 1);
    let stale = w
        .vpc
        .add_fault(Fault::new("*", Effect::ImdsStale { ms: 1500 }));
    assert_eq!(macs(&mut w), 2);
    w.vpc.remove_fault(stale);
    assert_eq!(macs(&mut w), 1);
}

#[test]
fn addresses_may_lag() {
    let mut spec = spec();
    spec.latencies.address_in_imds_ms = Latency::fixed(2000.0);
    let mut w = World::with(spec);
    w.wait_ms(10_000);
    let eni = w.primary("n1");
    w.call(crate::world::assign(&eni.id, addresses(3))).unwrap();
    let path = format!("network/interfaces/macs/{}/local-ipv4s", eni.mac);
    assert_eq!(value(&mut w, &path).lines().count(), 1);
    w.wait_ms(2000);
    assert_eq!(value(&mut w, &path).lines().count(), 4);
}

#[test]
fn cards_are_named_where_there_are_many() {
    let mut spec = spec();
    spec.nodes[0] = NodeSpec::new("n1", "p5.48xlarge");
    let mut w = World::with(spec);
    let mac = value(&mut w, "mac");
    assert_eq!(
        value(
            &mut w,
            &format!("network/interfaces/macs/{mac}/network-card")
        ),
        "0"
    );
}

#[test]
fn credentials_turn_over_and_name_their_node() {
    let mut w = World::new();
    let path = "iam/security-credentials/vpc-sim-node";
    let key = |text: &str| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(json["Code"], "Success");
        (
            json["AccessKeyId"].as_str().unwrap().to_owned(),
            json["Expiration"].to_string(),
        )
    };
    let first = key(&value(&mut w, path));
    assert_eq!(first, key(&value(&mut w, path)));
    assert_eq!(
        w.vpc.caller_of_access_key(&first.0),
        Some(Caller::node("n1"))
    );
    assert_eq!(w.vpc.caller_of_access_key("AKIAOTHER"), None);
    w.wait_ms(3_600_000);
    let second = key(&value(&mut w, path));
    assert_ne!(first, second);
    assert_eq!(
        w.vpc.caller_of_access_key(&first.0),
        Some(Caller::node("n1"))
    );
    assert!(value(&mut w, "iam/info").contains("instance-profile/vpc-sim-node"));
}

#[test]
fn faults_reach_imds() {
    let mut w = World::new();
    let add = |w: &mut World, effect| {
        w.vpc
            .add_fault(Fault::new("meta-data/mac*", effect).times(1))
    };
    add(&mut w, Effect::ImdsFail { http_status: 503 });
    assert_eq!(get(&mut w, "/latest/meta-data/mac").0, 503);
    assert_eq!(get(&mut w, "/latest/meta-data/mac").0, 200);
    add(&mut w, Effect::ImdsDelay { ms: 800 });
    let token = token(&mut w, "n1", "60").body;
    let request = ImdsRequest::get("/latest/meta-data/mac", &token);
    let reply = w.vpc.imds("n1", &request, w.now).unwrap();
    assert_eq!(reply.delay, std::time::Duration::from_millis(800));
    add(&mut w, Effect::ImdsDrop);
    assert_eq!(w.vpc.imds("n1", &request, w.now).unwrap().answer, None);
    w.vpc.terminate_instance("n1", w.now).unwrap();
    assert_eq!(w.vpc.imds("n1", &request, w.now).unwrap().answer, None);
    assert!(w.vpc.imds("nobody", &request, w.now).is_err());
}
