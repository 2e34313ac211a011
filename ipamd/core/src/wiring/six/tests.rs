//! IPv6 and egress on the host.

use super::super::{Nat, host_wiring, written};
use super::*;
use alloc::string::String;
use alloc::vec;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One rule for all local pods of IPv6, whose host routes are /128; nothing of IPv4 changes. Where the node does
/// not forward IPv6 there is none: a kernel without IPv6 would refuse it.
#[test]
fn one_rule_finds_local_pods() {
    let plain = host_wiring(&[], 9001, Nat::default(), &[]);
    let lines =
        |wiring: &HostWiring| -> Vec<String> { wiring.rules.iter().map(written::rule).collect() };
    let v4 = [
        "512: from all lookup 254 suppress_prefixlength 31",
        "1024: from all fwmark 0x80/0x80 lookup 254",
    ];
    let both = [
        v4[0],
        "-6 512: from all lookup 254 suppress_prefixlength 127",
        v4[1],
    ];
    let egress = || vec![Egress::by(ip("10.0.0.11"))];
    for (forwards, egress, wanted) in [
        (false, vec![], &v4[..]),
        (false, egress(), &v4[..]),
        (true, vec![], &both[..]),
        (true, egress(), &both[..]),
    ] {
        let six = Six { forwards, egress };
        let wiring = plain.clone().with_six(six.clone());
        assert_eq!(lines(&wiring), wanted, "{six:?}");
        assert_eq!(wiring.six, six);
        assert_eq!(
            (wiring.nat, wiring.enis, wiring.pods),
            (plain.nat.clone(), vec![], vec![])
        );
    }
}

/// What is translated is the range of the source's own family: 169.254.172.0/22 and fd00::ac:0/118, as in
/// Amazon's CNI.
#[test]
fn egress_translates_the_range_of_the_nodes_address() {
    for (source, range) in [
        ("10.0.0.11", "169.254.172.0/22"),
        ("2001:db8::11", "fd00::ac:0/118"),
    ] {
        let egress = Egress::by(ip(source));
        assert_eq!(
            (egress.range, egress.source),
            (range.parse().unwrap(), ip(source))
        );
    }
}
