//! Where new ENIs go: tags, room, refusals, and what happens when EC2 won't tell.

use crate::scene::{ROLE, Scene, WAIT, pass, subnet};
use ipam_core::plan::{Policy, Subnets};
use vpc_model::{Effect, Fault};

fn secondary() -> Policy {
    Policy {
        subnets: Subnets::Tagged {
            cluster: Some("blue".into()),
        },
        ..Policy::default()
    }
}

fn prefixes() -> Policy {
    Policy {
        prefixes: true,
        max_pods: Some(110),
        ..secondary()
    }
}

/// The best of those that the tags admit, by one question.
#[tokio::test(start_paused = true)]
async fn tags_and_room_decide() {
    let mine = ("cni.networking.k8s.aws/cluster/blue", "1");
    let other = ("cni.networking.k8s.aws/cluster/green", "1");
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/26", &[]),
            subnet("small", "10.0.1.0/24", &[(ROLE, "1")]),
            subnet("large", "10.0.4.0/22", &[(ROLE, "1"), mine]),
            subnet("untagged", "10.0.16.0/20", &[]),
            subnet("excluded", "10.0.32.0/20", &[(ROLE, "0")]),
            subnet("theirs", "10.0.48.0/20", &[(ROLE, "1"), other]),
        ],
    );
    scene.start(&secondary());
    scene.add(0..27).await;
    assert_eq!(scene.subnets().await, ["own", "large", "large"]);
    assert_eq!(scene.calls("DescribeSubnets"), 1);
    scene.pods_are_whole().await;
}

/// With discovery off nothing is asked, and everything goes to the node's own subnet.
#[tokio::test(start_paused = true)]
async fn without_discovery_nothing_is_asked() {
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/24", &[(ROLE, "0")]),
            subnet("large", "10.0.4.0/22", &[(ROLE, "1")]),
        ],
    );
    scene.start(&Policy {
        subnets: Subnets::Primary,
        ..Policy::default()
    });
    scene.add(0..27).await;
    assert_eq!(scene.subnets().await, ["own", "own", "own"]);
    assert_eq!(scene.calls("DescribeSubnets"), 0);
}

/// A subnet that refuses is passed over at once, and nobody waits for a back-off.
#[tokio::test(start_paused = true)]
async fn a_refusing_subnet_is_passed_over_at_once() {
    let mut scene = Scene::new(
        "m5.large",
        vec![
            // Room for the node and a few addresses more.
            subnet("own", "10.0.0.0/28", &[]),
            // Most free addresses, and no prefix: fragmented below.
            subnet("split", "10.0.1.0/24", &[(ROLE, "1")]),
            subnet("whole", "10.0.2.0/25", &[(ROLE, "1")]),
        ],
    );
    scene.fragment("split", [10, 0, 1]);
    scene.start(&prefixes());
    let took = scene.add(0..30).await;
    assert!(took.as_secs() < 12, "{took:?}");
    let subnets = scene.subnets().await;
    assert!(subnets.contains(&"whole".to_owned()), "{subnets:?}");
    scene.pods_are_whole().await;
    assert!(scene.count_of(28) >= 1);
}

/// One subnet without rights is not the node's end.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_create_holds_one_subnet() {
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/25", &[]),
            subnet("large", "10.0.4.0/22", &[(ROLE, "1")]),
        ],
    );
    scene.world.vpc().add_fault(
        Fault::new(
            "CreateNetworkInterface",
            Effect::Fail {
                code: "UnauthorizedOperation".into(),
                message: "You are not authorized to perform this operation.".into(),
                http_status: 403,
            },
        )
        .times(1),
    );
    scene.start(&secondary());
    let took = scene.add(0..18).await;
    assert!(took.as_secs() < 8, "{took:?}");
    // The larger subnet refused, and the other one was next.
    assert_eq!(scene.subnets().await[..2], ["own", "own"]);
}

/// DescribeSubnets refused (IAM): the node's own subnet serves, and that is said.
#[tokio::test(start_paused = true)]
async fn without_the_right_to_list_the_own_subnet_serves() {
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/24", &[]),
            subnet("large", "10.0.4.0/22", &[(ROLE, "1")]),
        ],
    );
    let denied = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation.".into(),
        http_status: 403,
    };
    let fault = scene
        .world
        .vpc()
        .add_fault(Fault::new("DescribeSubnets", denied));
    scene.start(&secondary());
    let took = scene.add(0..18).await;
    assert!(took.as_secs() < 8, "{took:?}");
    assert_eq!(scene.subnets().await, ["own", "own", "own"]);
    // A minute of wanting more than there is: few questions, and the reason is told.
    scene.add(18..27).await;
    let refusal = scene.node.add(99, WAIT).await.unwrap_err().unwrap();
    assert!(refusal.cause == "instance_limit", "{refusal:?}");
    pass(600).await;
    assert!(scene.calls("DescribeSubnets") < 8);
    assert!(scene.world.vpc().remove_fault(fault));
    scene.pods_are_whole().await;
}

/// A shared VPC: the owner's tags can't be seen, a list of ids works; one of another zone is passed
/// over, and one that does not exist, too.
#[tokio::test(start_paused = true)]
async fn listed_subnets_need_no_tags() {
    let mut far = subnet("far", "10.0.64.0/20", &[]);
    far.az = Some("eu-west-1b".into());
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/26", &[]),
            subnet("large", "10.0.4.0/22", &[]),
            far,
        ],
    );
    scene.start(&Policy {
        subnets: Subnets::Listed(vec![
            "subnet-far".into(),
            "subnet-gone".into(),
            "subnet-large".into(),
        ]),
        ..Policy::default()
    });
    scene.add(0..27).await;
    assert_eq!(scene.subnets().await, ["own", "large", "large"]);
    assert_eq!(scene.calls("DescribeSubnets"), 1);
}

/// The same without the right to list: what can't be made or attached is left behind, nothing leaks.
#[tokio::test(start_paused = true)]
async fn listed_subnets_are_tried_where_they_cant_be_described() {
    let mut far = subnet("far", "10.0.64.0/20", &[]);
    far.az = Some("eu-west-1b".into());
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/26", &[]),
            subnet("large", "10.0.4.0/22", &[]),
            far,
        ],
    );
    let denied = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation.".into(),
        http_status: 403,
    };
    scene
        .world
        .vpc()
        .add_fault(Fault::new("DescribeSubnets", denied));
    scene.start(&Policy {
        warm_ip: Some(1),
        subnets: Subnets::Listed(vec![
            "subnet-gone".into(),
            "subnet-far".into(),
            "subnet-large".into(),
        ]),
        ..Policy::default()
    });
    scene.add(0..9).await;
    // In a subnet of another zone an ENI can be made and not attached: it goes again.
    pass(120).await;
    scene.add(9..18).await;
    pass(120).await;
    assert!(scene.subnets().await.contains(&"large".to_owned()));
    assert_eq!(scene.world.vpc().books(scene.world.time()), vec![]);
}

/// The node's own subnet is excluded: its ENI gives pods nothing, from the first pod on.
#[tokio::test(start_paused = true)]
async fn an_excluded_primary_subnet_gives_no_pod_addresses() {
    for policy in [secondary(), prefixes()] {
        let mut scene = Scene::new(
            "m5.large",
            vec![
                subnet("own", "10.0.0.0/24", &[(ROLE, "0")]),
                subnet("pods", "10.0.4.0/22", &[(ROLE, "1")]),
            ],
        );
        scene.start(&policy);
        scene.add(0..12).await;
        pass(60).await;
        let own: ipnet::IpNet = "10.0.0.0/24".parse().unwrap();
        assert!(scene.pods.values().all(|ip| !own.contains(ip)));
        assert!(
            scene.blocks().iter().all(|b| !own.contains(b)),
            "nothing was bought there"
        );
        // A restart knows it without asking.
        let asked = scene.calls("DescribeSubnets");
        scene.node.kill();
        scene.start(&policy);
        scene.add(12..15).await;
        assert!(scene.pods.values().all(|ip| !own.contains(ip)));
        pass(590).await;
        assert_eq!(scene.calls("DescribeSubnets"), asked);
        scene.pods_are_whole().await;
    }
}

/// A subnet is excluded while pods are in it: they stay, new ones go elsewhere, what is idle goes
/// back, and in the end the ENI.
#[tokio::test(start_paused = true)]
async fn a_subnet_that_is_excluded_drains() {
    let mut scene = Scene::new(
        "m5.large",
        vec![
            subnet("own", "10.0.0.0/24", &[]),
            subnet("old", "10.0.8.0/22", &[(ROLE, "1")]),
            subnet("new", "10.0.16.0/23", &[(ROLE, "1")]),
        ],
    );
    let policy = Policy {
        warm_ip: Some(2),
        ..secondary()
    };
    scene.start(&policy);
    scene.add(0..14).await;
    assert_eq!(scene.subnets().await, ["own", "old"]);
    scene.tag("old", ROLE, Some("0"));
    // The regular looks notice it, if nothing gives cause to look earlier.
    pass(2 * 3600 + 60).await;
    let pool = scene.snapshot().await;
    let old = pool.enis.iter().find(|e| e.subnet == "subnet-old").unwrap();
    assert!(old.excluded);
    assert!(old.blocks.iter().all(|b| !b.used.is_empty()), "{old:?}");
    scene.pods_are_whole().await;
    let before = scene.pods.clone();
    scene.add(14..20).await;
    let net: ipnet::IpNet = "10.0.8.0/22".parse().unwrap();
    let fresh = scene.pods.iter().filter(|(n, _)| !before.contains_key(n));
    assert!(fresh.clone().all(|(_, ip)| !net.contains(ip)), "{fresh:?}");
    assert!(scene.subnets().await.contains(&"new".to_owned()));
    // Its pods go, and it goes.
    let there: Vec<u32> = scene
        .pods
        .iter()
        .filter(|(_, ip)| net.contains(*ip))
        .map(|(n, _)| *n)
        .collect();
    assert!(!there.is_empty());
    for n in there {
        scene.del(n..n + 1).await;
    }
    pass(300).await;
    assert!(!scene.subnets().await.contains(&"old".to_owned()));
    scene.pods_are_whole().await;
    assert_eq!(scene.world.vpc().books(scene.world.time()), vec![]);
}

/// Growth that fits the ENIs that are there asks for no list, and neither does a warm restart.
#[tokio::test(start_paused = true)]
async fn the_list_is_asked_for_only_when_it_is_needed() {
    let mut scene = Scene::new(
        "m5.4xlarge",
        vec![
            subnet("own", "10.0.0.0/22", &[]),
            subnet("more", "10.0.4.0/22", &[(ROLE, "1")]),
        ],
    );
    let policy = Policy {
        warm_ip: Some(2),
        ..secondary()
    };
    scene.start(&policy);
    scene.add(0..10).await;
    assert_eq!(scene.calls("DescribeSubnets"), 1);
    pass(400).await;
    scene.add(10..25).await;
    assert_eq!(scene.calls("DescribeSubnets"), 1);
    for _ in 0..3 {
        scene.node.kill();
        scene.start(&policy);
        pass(590).await;
    }
    assert_eq!(scene.calls("DescribeSubnets"), 1);
    // One growth by new ENIs, one question.
    scene.add(25..60).await;
    assert_eq!(scene.calls("DescribeSubnets"), 2);
}
