use super::table::{self, TYPES};
use super::*;
use alloc::format;
use alloc::string::{String, ToString};

fn input(flags: &str) -> MaxPodsInput {
    let mut input = MaxPodsInput::default();
    for flag in flags.split_whitespace() {
        match flag.split_once('=') {
            Some(("max-eni", n)) => input.max_eni = Some(n.parse().unwrap()),
            None if flag == "pd" => input.prefixes = true,
            None if flag == "custom" => input.custom_networking = true,
            None if flag == "uncapped" => input.show_max_allowed = true,
            _ => panic!("{flag}"),
        }
    }
    input
}

fn pods(instance_type: &str, flags: &str) -> u32 {
    max_pods(&lookup(instance_type).unwrap(), &input(flags)).pods
}

/// A field of a line by plain search: shares nothing with the reader that it judges.
fn field<'a>(line: &'a str, key: &str) -> &'a str {
    let at = line.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
    let rest = &line[at..];
    let end = match rest.as_bytes()[0] {
        b'[' => rest.find(']').unwrap() + 1,
        _ => rest.find([',', '}']).unwrap(),
    };
    rest[..end].trim_matches('"')
}

#[test]
fn every_line_is_read_as_it_is_written_and_found() {
    let mut before = "";
    let mut count = 0;
    for line in TYPES.lines() {
        let name = table::name_of(line).unwrap();
        assert!(before < name, "{before} and {name} are not in order");
        let limits = table::parse(line).unwrap_or_else(|| panic!("not read: {line}"));
        assert_eq!(field(line, "type"), name);
        let (default_card, enis) = (limits.default_card, &limits.card_enis);
        assert_eq!(field(line, "default_card"), default_card.to_string());
        assert_eq!(
            field(line, "card_enis"),
            format!("{enis:?}").replace(' ', "")
        );
        assert_eq!(field(line, "ipv4_per_eni"), limits.ipv4_per_eni.to_string());
        match field(line, "ipv6_per_eni") {
            "null" if limits.prefixes => assert_eq!(limits.ipv6_per_eni, limits.ipv4_per_eni),
            "null" => assert_eq!(limits.ipv6_per_eni, 0),
            n => assert_eq!(n, limits.ipv6_per_eni.to_string()),
        }
        assert_eq!(
            field(line, "vcpus"),
            limits
                .vcpus
                .map_or_else(|| "null".into(), |n| n.to_string())
        );
        let virtualised = field(line, "bare_metal") == "false";
        assert_eq!(
            limits.prefixes,
            !virtualised || field(line, "hypervisor") == "nitro",
            "{name}"
        );
        assert_eq!(lookup(name), Some(limits), "{name}");
        before = name;
        count += 1;
    }
    assert_eq!(count, 1418);
}

#[test]
fn what_is_not_there_is_not_found() {
    for name in [
        "",
        "a",
        "a1",
        "a1.2xlarg",
        "a1.2xlargeX",
        "m5.larg",
        "M5.large",
        "m5.large ",
        "zzz",
    ] {
        assert_eq!(lookup(name), None, "{name:?}");
        assert_eq!(limits_of(name), conservative(), "{name:?}");
    }
}

#[test]
fn tables_of_any_length_are_searched() {
    let lines: Vec<&str> = TYPES.lines().take(9).collect();
    for len in 0..lines.len() {
        for end in ["", "\n"] {
            let table = lines[..len].join("\n") + if len == 0 { "" } else { end };
            for (i, line) in lines.iter().enumerate() {
                let found = table::find(&table, table::name_of(line).unwrap());
                assert_eq!(found.is_some(), i < len, "line {i} of {len}, end {end:?}");
            }
        }
    }
}

#[test]
fn a_line_of_another_form_is_refused() {
    let good = TYPES.lines().next().unwrap();
    assert!(table::parse(good).is_some());
    let broken: [(&str, &str); 10] = [
        ("\"vcpus\":8", "\"vcpus\":-8"),
        ("\"vcpus\":8", "\"vcpus\":08"),
        ("\"vcpus\":8", "\"vcpus\": 8"),
        ("\"vcpus\":8", "\"vcpus\":"),
        ("\"vcpus\":8", "\"vcpus\":4294967296"),
        ("\"default_card\":0", "\"default_card\":1"),
        ("[4]", "[]"),
        ("[4]", "[4,]"),
        ("false", "no"),
        ("}", "} "),
    ];
    for (from, to) in broken {
        let line = good.replacen(from, to, 1);
        assert_ne!(line, good);
        assert_eq!(table::parse(&line), None, "{line}");
    }
    for len in 0..good.len() {
        assert_eq!(table::parse(&good[..len]), None, "{}", &good[..len]);
    }
}

/// Numbers that EKS's own lists and tests give.
#[test]
fn max_pods_by_table() {
    let rows: &[(&str, &str, u32)] = &[
        ("t3.nano", "", 4),
        ("t2.micro", "", 4),
        ("c7g.medium", "", 8),
        ("t3.small", "", 11),
        ("t3.medium", "", 17),
        ("m5.large", "", 29),
        ("t3.large", "", 35),
        ("m4.xlarge", "", 58),
        ("m5.8xlarge", "", 234),
        ("m5.8xlarge", "pd", 250),
        ("m4.4xlarge", "uncapped", 234),
        ("m4.4xlarge", "", 110),
        ("x1.32xlarge", "", 234),
        ("p5.48xlarge", "", 100),
        ("p6-b200.48xlarge", "", 198),
        ("trn1.32xlarge", "", 247),
        ("inf1.24xlarge", "uncapped", 321),
        ("c6in.32xlarge", "uncapped", 394),
        ("c8gn.48xlarge", "uncapped", 590),
        ("p4d.24xlarge", "uncapped", 737),
        ("p3dn.24xlarge", "uncapped", 737),
        ("c5n.18xlarge", "uncapped", 737),
        ("m5.metal", "uncapped", 737),
        ("m7i.48xlarge", "uncapped", 737),
        ("m7i.48xlarge", "", 250),
        ("c7g.medium", "pd", 98),
        ("t3.medium", "custom", 12),
        ("t3.medium", "pd uncapped", 242),
        ("t3.medium", "pd", 110),
        // Bare metal takes prefixes, whatever the script says.
        ("m5.metal", "pd uncapped", 11_762),
        ("m5.metal", "pd", 250),
        // Xen doesn't: as without.
        ("m4.xlarge", "pd", 58),
        ("c1.medium", "pd uncapped", 12),
        // An ENI maximum counts the primary, and is never more than the instance takes.
        ("m5.large", "max-eni=2", 20),
        ("m5.large", "max-eni=3", 29),
        ("m5.large", "max-eni=99", 29),
        ("m5.large", "max-eni=2 custom", 11),
        ("m5.large", "max-eni=1 pd uncapped", 146),
        ("m5.large", "max-eni=1 custom", 2),
        ("m5.large", "max-eni=0", 2),
        ("m5.large", "max-eni=0 custom pd", 2),
        ("hpc6id.32xlarge", "custom", 2),
        // vCPUs unknown: the small cap.
        ("u-24tb1.metal", "", 110),
    ];
    for &(instance_type, flags, expected) in rows {
        assert_eq!(
            pods(instance_type, flags),
            expected,
            "{instance_type} {flags}"
        );
    }
}

#[test]
fn caps_change_between_30_and_31_vcpus() {
    for (vcpus, cap) in [(None, 110), (Some(30), 110), (Some(31), 250)] {
        let limits = InstanceLimits {
            enis: 15,
            ipv4_per_eni: 50,
            vcpus,
            ..conservative()
        };
        assert_eq!(max_pods(&limits, &input("")).pods, cap, "{vcpus:?}");
        assert_eq!(max_pods(&limits, &input("uncapped")).pods, 737, "{vcpus:?}");
    }
}

/// For every type and every setting: no more is asked of the addresses than there are, and each
/// setting moves the number only the way that it should.
#[test]
fn the_whole_table_makes_sense() {
    for line in TYPES.lines() {
        let name = table::name_of(line).unwrap();
        let limits = lookup(name).unwrap();
        let at = |flags: &str| max_pods(&limits, &input(flags)).pods;
        assert!(
            (1..=24).contains(&limits.enis) && (2..=64).contains(&limits.ipv4_per_eni),
            "{name}"
        );
        for flags in [
            "",
            "custom",
            "pd",
            "pd custom",
            "uncapped",
            "pd custom uncapped",
        ] {
            let mut before = 0;
            for most in 0..=limits.enis + 1 {
                let n_with = |extra: &str| at(&format!("{flags} max-eni={most} {extra}"));
                let n = n_with("");
                assert!(
                    n >= before,
                    "{name} {flags}: falls from {before} to {n} at {most}"
                );
                before = n;
                assert!(
                    n_with("custom") <= n && n <= n_with("pd"),
                    "{name} {flags} {most}"
                );
                assert!(n <= n_with("uncapped"), "{name} {flags} {most}");
                assert!(
                    flags.contains("uncapped") || n <= 250,
                    "{name} {flags} {most}"
                );
            }
            assert_eq!(before, at(flags), "{name} {flags}");
            let enis = limits.enis - u32::from(flags.contains("custom"));
            let slot = if flags.contains("pd") && limits.prefixes {
                16
            } else {
                1
            };
            let all = enis * (limits.ipv4_per_eni - 1) * slot + 2;
            assert_eq!(at(&format!("{flags} uncapped")), all, "{name} {flags}");
        }
    }
}

/// The guess is one that nearly every type can keep: only these could not.
#[test]
fn conservative_limits_hold_for_all_but_a_few() {
    let guess = conservative();
    assert!(!guess.known && guess.prefixes);
    let smaller: Vec<&str> = TYPES
        .lines()
        .filter_map(table::name_of)
        .filter(|name| !name.ends_with(".nano") && !name.ends_with(".micro"))
        .filter(|name| {
            let limits = lookup(name).unwrap();
            limits.enis < guess.enis || limits.ipv4_per_eni < guess.ipv4_per_eni
        })
        .collect();
    assert_eq!(smaller, ["d3.xlarge", "d3en.xlarge", "hpc6id.32xlarge"]);
    let at = |flags: &str| max_pods(&guess, &input(flags)).pods;
    assert_eq!((at(""), at("pd"), at("custom")), (8, 98, 5));
}

#[test]
fn steps_say_why() {
    let told = |limits: InstanceLimits, flags: &str| -> Vec<String> {
        max_pods(&limits, &input(flags))
            .steps
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(
        told(lookup("p5.48xlarge").unwrap(), "pd custom"),
        [
            "2 ENIs on the default network card (31 more not used)",
            "1 ENIs for pods: with custom networking the primary gives none",
            "49 slots per ENI besides its primary address",
            "16 addresses per slot: /28 prefixes",
            "784 addresses + 2 pods in the host's network = 786",
            "at most 250 recommended on 192 vCPUs",
        ]
    );
    assert_eq!(
        told(lookup("m4.xlarge").unwrap(), "pd max-eni=2 uncapped"),
        [
            "4 ENIs",
            "2 ENIs, as the ENI maximum is set",
            "14 slots per ENI besides its primary address",
            "1 address per slot: only Nitro and bare metal take prefixes",
            "28 addresses + 2 pods in the host's network = 30",
            "no cap by vCPUs, as asked",
        ]
    );
    let unknown = told(conservative(), "");
    assert_eq!(
        unknown[0],
        "instance type not in the table: conservative limits, not EC2's"
    );
    assert_eq!(
        unknown.last().unwrap(),
        "at most 110 recommended, as the number of vCPUs is not known"
    );
}
