//! The ranges, to the last address.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ranges_are_those_of_amazons_cni() {
    for (family, net, first, last) in [
        (
            Family::V4,
            "169.254.172.0/22",
            "169.254.172.1",
            "169.254.175.254",
        ),
        (Family::V6, "fd00::ac:0/118", "fd00::ac:1", "fd00::ac:3fe"),
    ] {
        assert_eq!(range(family), net.parse().unwrap());
        let mut all = addresses(family);
        assert_eq!(all.next(), Some(ip(first)));
        assert_eq!(all.last(), Some(ip(last)));
        // 1,024 without the first and the last.
        assert_eq!(addresses(family).count(), 1022);
        assert!(addresses(family).all(|ip| is_local(ip) && Family::of(ip) == family));
    }
}

#[test]
fn its_edges_and_others_link_local_addresses() {
    for (text, local) in [
        ("169.254.171.255", false),
        ("169.254.172.0", true),
        ("169.254.175.255", true),
        ("169.254.176.0", false),
        ("fd00::ab:ffff", false),
        ("fd00::ac:0", true),
        ("fd00::ac:3ff", true),
        ("fd00::ac:400", false),
        // The pods' gateways, IMDS, the VPC's router and resolver.
        ("169.254.1.1", false),
        ("fe80::1", false),
        ("169.254.169.254", false),
        ("fe80:ec2::1", false),
        ("169.254.169.253", false),
        // The same bits as of the other family.
        ("::ffff:169.254.172.1", false),
        ("10.0.0.17", false),
    ] {
        assert_eq!(is_local(ip(text)), local, "{text}");
    }
}
