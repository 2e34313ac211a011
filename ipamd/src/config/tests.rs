use super::*;
use ipam_core::plan::Subnets;
use std::collections::BTreeMap;

fn load(settings: &[(&str, &str)]) -> Loaded {
    let map: BTreeMap<String, String> = settings
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    Config::load(&map)
}

fn worst(loaded: &Loaded) -> Option<Severity> {
    loaded.findings.iter().map(|finding| finding.severity).max()
}

#[test]
fn nothing_set_means_safe_defaults_and_no_words() {
    let loaded = load(&[]);
    assert_eq!(loaded.findings, []);
    let config = loaded.config;
    assert_eq!(config.engine.policy, Policy::default());
    assert_eq!(config.engine.veth_prefix, "eni");
    assert_eq!((config.engine.eni_mtu, config.engine.pod_mtu), (9001, 9001));
    assert!(config.engine.snat && config.engine.provisioning);
    assert_eq!(config.engine.add_timeout, Duration::from_secs(30));
    assert_eq!(config.ec2.timeout, Duration::from_secs(10));
    assert!(config.ec2.manage_untagged && config.host.node_port);
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/ipamd"));
    assert_eq!(config.socket, PathBuf::from("/run/ipamd/ipamd.sock"));
    assert_eq!(
        config.log,
        Log {
            level: tracing::Level::INFO,
            json: false
        }
    );
}

/// The `env` of the container in Amazon's own manifest (v1.23): it must start.
#[test]
fn the_peers_manifest_starts() {
    let loaded = load(&[
        ("ADDITIONAL_ENI_TAGS", "{}"),
        ("ANNOTATE_POD_IP", "false"),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "true"),
        ("AWS_VPC_ENI_MTU", "9001"),
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "false"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
        (
            "AWS_VPC_K8S_CNI_LOG_FILE",
            "/host/var/log/aws-routed-eni/ipamd.log",
        ),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
        (
            "AWS_VPC_K8S_PLUGIN_LOG_FILE",
            "/var/log/aws-routed-eni/plugin.log",
        ),
        ("AWS_VPC_K8S_PLUGIN_LOG_LEVEL", "DEBUG"),
        ("CLUSTER_ENDPOINT", ""),
        ("CLUSTER_NAME", ""),
        ("DISABLE_INTROSPECTION", "false"),
        ("DISABLE_METRICS", "false"),
        ("DISABLE_NETWORK_RESOURCE_PROVISIONING", "false"),
        ("DISABLE_TCP_EARLY_DEMUX", "false"),
        ("ENABLE_IMDS_ONLY_MODE", "false"),
        ("ENABLE_IPv4", "true"),
        ("ENABLE_IPv6", "false"),
        ("ENABLE_MULTI_NIC", "false"),
        ("ENABLE_POD_ENI", "false"),
        ("ENABLE_PREFIX_DELEGATION", "false"),
        ("ENABLE_SUBNET_DISCOVERY", "true"),
        ("NETWORK_POLICY_ENFORCING_MODE", "standard"),
        ("POD_SECURITY_GROUP_ENFORCING_MODE", "strict"),
        ("VPC_CNI_VERSION", "v1.23.1"),
        ("WARM_ENI_TARGET", "1"),
        ("WARM_PREFIX_TARGET", "1"),
    ]);
    assert_eq!(
        worst(&loaded),
        Some(Severity::Note),
        "{:#?}",
        loaded.findings
    );
    assert_eq!(loaded.config.log.level, tracing::Level::DEBUG);
}

#[test]
fn values_are_read_as_the_peer_reads_them() {
    let targets = |settings: &[(&str, &str)]| {
        let loaded = load(settings);
        (loaded.config.engine.policy.clone(), worst(&loaded))
    };
    let mistake = Some(Severity::Mistake);
    for (value, want, finding) in [
        ("7", 7, None),
        ("0", 0, None),
        ("", 1, mistake),
        ("-3", 1, mistake),
        ("ten", 1, mistake),
        ("99999999999", 1, mistake),
    ] {
        let (policy, worst) = targets(&[("WARM_ENI_TARGET", value)]);
        assert_eq!((policy.warm_eni, worst), (want, finding), "{value:?}");
    }
    for (value, want) in [("5", Some(5)), ("0", None), ("", None), ("-1", None)] {
        assert_eq!(
            targets(&[("WARM_IP_TARGET", value)]).0.warm_ip,
            want,
            "{value:?}"
        );
        assert_eq!(
            targets(&[("MINIMUM_IP_TARGET", value)]).0.minimum_ip,
            want,
            "{value:?}"
        );
    }
    for (value, want) in [("3", Some(3)), ("0", None), ("-1", None)] {
        assert_eq!(targets(&[("MAX_ENI", value)]).0.max_eni, want, "{value:?}");
    }
    assert_eq!(
        targets(&[("ENABLE_PREFIX_DELEGATION", "T")]).0.warm_prefix,
        1
    );
    for (value, want, finding) in [
        ("1", true, None),
        ("t", true, None),
        ("TRUE", true, None),
        ("True", true, None),
        ("F", false, None),
        ("0", false, None),
        ("yes", false, mistake),
        ("tRUE", false, mistake),
        ("", false, mistake),
    ] {
        let (policy, worst) = targets(&[("ENABLE_PREFIX_DELEGATION", value)]);
        assert_eq!((policy.prefixes, worst), (want, finding), "{value:?}");
    }
}

#[test]
fn what_would_change_the_datapath_is_refused() {
    let refused = [
        ("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"),
        ("ENABLE_POD_ENI", "1"),
        ("ENABLE_MULTI_NIC", "t"),
        ("ENABLE_IMDS_ONLY_MODE", "true"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100"),
        ("NETWORK_POLICY_ENFORCING_MODE", "strict"),
        ("ENABLE_IPv4", "false"),
        ("IPAMD_SUBNET_IDS", "subnet-1,sg-2"),
        ("IPAMD_SUBNET_IDS", "subnet-"),
        ("IPAMD_ENI_SUBNET", "10.0.0.0/24"),
        ("AWS_VPC_ENI_MTU", "575"),
        ("AWS_VPC_ENI_MTU", "9002"),
        ("POD_MTU", "big"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "prefix"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "vlan"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "lo"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "a/b"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "ens"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "en"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth0"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "enX"),
        ("IP_COOLDOWN_PERIOD", "-1"),
        ("IP_COOLDOWN_PERIOD", "half"),
    ];
    for (name, value) in refused {
        let loaded = load(&[(name, value)]);
        let findings: Vec<_> = loaded.at_least(Severity::Refusal).collect();
        assert_eq!(findings.len(), 1, "{name}={value}: {:?}", loaded.findings);
        assert!(findings[0].setting.contains(name) && !findings[0].text.is_empty());
    }
    let fine = [
        ("AWS_VPC_K8S_CNI_CONNMARK", "128"),
        ("NETWORK_POLICY_ENFORCING_MODE", "None"),
        ("ENABLE_POD_ENI", "0"),
        ("AWS_EXTERNAL_SERVICE_CIDRS", ""),
        (
            "AWS_EXTERNAL_SERVICE_CIDRS",
            "192.0.2.0/24, 198.51.100.7/32",
        ),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x40"),
        ("IP_COOLDOWN_PERIOD", "0"),
        ("AWS_VPC_ENI_MTU", "576"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "cali"),
    ];
    for (name, value) in fine {
        assert_eq!(worst(&load(&[(name, value)])), None, "{name}={value}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let loaded = load(&[
        ("ENABLE_POD_ENI", "true"),
        ("AWS_VPC_ENI_MTU", "1"),
        ("ENABLE_IPv4", "false"),
        ("ENABLE_PREFIX_DELEGATION", "true"),
        ("WARM_PREFIX_TARGET", "0"),
        ("WARM_ENI_TARGET", "many"),
    ]);
    assert_eq!(
        loaded.at_least(Severity::Refusal).count(),
        4,
        "{:#?}",
        loaded.findings
    );
    assert_eq!(loaded.at_least(Severity::Mistake).count(), 5);
}

#[test]
fn strict_checking_refuses_what_the_daemon_only_warns_of() {
    let loaded = load(&[("WARM_IP_TARGET", "-1")]);
    let (text, good) = crate::report::check_config(&loaded);
    assert!(!good && text.contains("WARM_IP_TARGET"), "{text}");
    assert!(loaded.at_least(Severity::Refusal).next().is_none());
    let (text, good) = crate::report::check_config(&load(&[("ANNOTATE_POD_IP", "true")]));
    assert!(good, "{text}");
    assert!(text.contains("\nWARM_ENI_TARGET=1 (default)\n"), "{text}");
    // The daemon starts with a misspelt name, and the check does not pass.
    let misspelt = load(&[("WARM_IP_TARGT", "7")]);
    assert!(misspelt.at_least(Severity::Refusal).next().is_none());
    assert!(!crate::report::check_config(&misspelt).1);
    let (json, good) = crate::report::check_config_json(&misspelt).expect("is written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert!(!good && json["good"] == false, "{json}");
    assert_eq!(json["findings"][0]["setting"], "WARM_IP_TARGT");
    assert_eq!(json["settings"], serde_json::json!([]));
    let (json, good) = crate::report::check_config_json(&load(&[])).expect("is written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("is JSON");
    assert!(
        good && json["settings"]
            .as_array()
            .is_some_and(|all| all.len() > 40)
    );
}

#[test]
fn lists_and_tags_skip_what_they_must() {
    let loaded = load(&[
        (
            "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS",
            "192.168.1.7/24, fd00::/8,,nonsense,172.16.0.0/12",
        ),
        (
            "ADDITIONAL_ENI_TAGS",
            r#"{"team": "net", "node.k8s.amazonaws.com/x": "1"}"#,
        ),
        ("IPAMD_ENI_SECURITY_GROUPS", "sg-1, sg-2"),
    ]);
    let everything = load(&[("AWS_EXTERNAL_SERVICE_CIDRS", "0.0.0.0/0,192.0.2.0/24")]);
    let services = everything.config.engine.services.iter();
    let services: Vec<String> = services.map(ToString::to_string).collect();
    assert_eq!(services, ["0.0.0.0/1", "128.0.0.0/1", "192.0.2.0/24"]);
    let nets: Vec<String> = loaded
        .config
        .engine
        .snat_exclude
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(nets, ["192.168.1.0/24", "172.16.0.0/12"]);
    assert_eq!(
        loaded.config.ec2.tags,
        [("team".into(), "net".into())].into()
    );
    assert_eq!(loaded.at_least(Severity::Mistake).count(), 3);
    assert_eq!(
        loaded
            .config
            .engine
            .security_groups
            .map(|groups| groups.len()),
        Some(2)
    );
    let bad = load(&[("ADDITIONAL_ENI_TAGS", "{")]);
    assert_eq!(worst(&bad), Some(Severity::Mistake));
}

#[test]
fn subnets_are_listed_or_found() {
    let subnets = |settings: &[(&str, &str)]| {
        let loaded = load(settings);
        assert!(loaded.at_least(Severity::Mistake).next().is_none());
        loaded.config.engine.policy.subnets
    };
    let listed = |ids: &[&str]| Subnets::Listed(ids.iter().map(|id| (*id).into()).collect());
    let tagged = |cluster: Option<&str>| Subnets::Tagged {
        cluster: cluster.map(Into::into),
    };
    assert_eq!(subnets(&[]), tagged(None));
    assert_eq!(subnets(&[("CLUSTER_NAME", "blue")]), tagged(Some("blue")));
    let off = ("ENABLE_SUBNET_DISCOVERY", "false");
    assert_eq!(subnets(&[off]), Subnets::Primary);
    let list = ("IPAMD_SUBNET_IDS", " subnet-0a, subnet-1b,,subnet-0a");
    assert_eq!(subnets(&[list, off]), listed(&["subnet-0a", "subnet-1b"]));
    let one = ("IPAMD_ENI_SUBNET", "subnet-2c");
    assert_eq!(subnets(&[one]), listed(&["subnet-2c"]));
    assert_eq!(subnets(&[one, list]), listed(&["subnet-0a", "subnet-1b"]));
}

#[test]
fn sdk_settings_go_before_the_peers() {
    let endpoint = |settings: &[(&str, &str)]| load(settings).config.ec2.endpoint;
    assert_eq!(
        endpoint(&[("AWS_EC2_ENDPOINT", "http://e")]),
        Some("http://e".into())
    );
    assert_eq!(
        endpoint(&[
            ("AWS_EC2_ENDPOINT", "http://e"),
            ("AWS_ENDPOINT_URL_EC2", "http://f")
        ]),
        None
    );
    let proxy = load(&[("https_proxy", "p:1"), ("NO_PROXY", "a,b")])
        .config
        .http;
    assert_eq!(proxy.https_proxy.as_deref(), Some("p:1"));
    assert_eq!(proxy.http_proxy, None);
    assert_eq!(
        load(&[("ALL_PROXY", "q")])
            .config
            .http
            .http_proxy
            .as_deref(),
        Some("q")
    );
}

/// Bytes that are no text, in every setting at once.
#[test]
fn values_that_are_no_text_are_mistakes() {
    struct Bytes;
    impl Source for Bytes {
        fn get(&self, _: &str) -> Result<Option<String>, NotText> {
            Err(NotText)
        }

        fn names(&self) -> Vec<String> {
            all().map(|knob| knob.name.to_owned()).collect()
        }
    }
    let loaded = Config::load(&Bytes);
    assert!(loaded.at_least(Severity::Refusal).next().is_none());
    assert!(loaded.findings.len() > 20);
}

#[test]
fn each_setting_has_one_row_and_a_default_that_can_be_read() {
    let mut names: Vec<&str> = all().map(|knob| knob.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for knob in all() {
        if knob.kind == Kind::Bool && !knob.default.is_empty() {
            assert!(read::parse_bool(knob.default).is_some(), "{}", knob.name);
        }
        if let Kind::Number(_) = knob.kind {
            let good = knob.default.is_empty() || read::parse_number(knob.default).is_some();
            assert!(good, "{}", knob.name);
        }
        assert!(knob.meaning.ends_with('.'), "{}", knob.name);
    }
    assert_eq!(markdown().lines().count(), count + 2);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    /// Whatever is set, reading it neither panics nor hangs, and bounds hold.
    #[test]
    fn anything_can_be_read(
        name in proptest::sample::select(all().map(|knob| knob.name).collect::<Vec<_>>()),
        value in "\\PC{0,40}",
    ) {
        let config = load(&[(name, &value)]).config;
        proptest::prop_assert!((576..=9001).contains(&config.engine.eni_mtu));
        proptest::prop_assert!((1..=4).contains(&config.engine.veth_prefix.len()));
        proptest::prop_assert!(config.engine.add_timeout > Duration::ZERO);
    }
}
