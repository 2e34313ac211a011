//! Instance types: what EC2 says of them in DescribeInstanceTypes, with the spec's overrides.

use crate::words::response::InstanceType;
use crate::words::spec::TypeOverride;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One type a line, collected from DescribeInstanceTypes. Data only: no code is shared with the
/// daemon that uses the same file.
const DATA: &str = include_str!("../../../../ipamd/core/data/instance-types.jsonl");

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    name: String,
    vcpus: Option<u32>,
    hypervisor: Option<String>,
    bare_metal: bool,
    ipv4_per_eni: u32,
    ipv6_per_eni: Option<u32>,
    default_card: u32,
    card_enis: Vec<u32>,
    memory_mib: Option<u64>,
    arch: Option<Vec<String>>,
}

fn all() -> &'static BTreeMap<String, InstanceType> {
    static ALL: OnceLock<BTreeMap<String, InstanceType>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lines = DATA
            .lines()
            .filter_map(|l| serde_json::from_str::<Line>(l).ok());
        lines.map(|l| (l.name.clone(), l.into())).collect()
    })
}

impl From<Line> for InstanceType {
    fn from(l: Line) -> Self {
        Self {
            name: l.name,
            hypervisor: l.hypervisor,
            bare_metal: l.bare_metal,
            vcpus: l.vcpus,
            memory_mib: l.memory_mib,
            architectures: l.arch.unwrap_or_default(),
            ipv4_per_eni: l.ipv4_per_eni,
            ipv6_per_eni: l.ipv6_per_eni.unwrap_or(0),
            default_card: l.default_card,
            card_enis: l.card_enis,
        }
    }
}

/// The data file as changed by the spec.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    changed: BTreeMap<String, InstanceType>,
    /// Counted once: every Create asks.
    largest_eni: (u32, u32),
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new(&BTreeMap::new())
    }
}

impl Catalog {
    pub(crate) fn new(overrides: &BTreeMap<String, TypeOverride>) -> Self {
        let changed = overrides
            .iter()
            .map(|(name, o)| (name.clone(), apply(name, o)))
            .collect();
        let mut catalog = Self {
            changed,
            largest_eni: (0, 0),
        };
        catalog.largest_eni = catalog.iter().fold((0, 0), |(v4, v6), t| {
            (v4.max(t.ipv4_per_eni), v6.max(t.ipv6_per_eni))
        });
        catalog
    }

    pub(crate) fn get(&self, name: &str) -> Option<&InstanceType> {
        self.changed.get(name).or_else(|| all().get(name))
    }

    /// All types by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &InstanceType> {
        let mut merged: BTreeMap<&str, &InstanceType> =
            all().iter().map(|(name, t)| (name.as_str(), t)).collect();
        merged.extend(self.changed.iter().map(|(name, t)| (name.as_str(), t)));
        merged.into_values()
    }

    /// Slots of the largest interface there is: the bound for an ENI that is attached nowhere.
    pub(crate) const fn largest_eni(&self) -> (u32, u32) {
        self.largest_eni
    }
}

fn apply(name: &str, o: &TypeOverride) -> InstanceType {
    let t = all().get(name).cloned().unwrap_or_else(|| InstanceType {
        name: name.to_owned(),
        hypervisor: Some("nitro".into()),
        bare_metal: false,
        vcpus: Some(2),
        memory_mib: Some(8192),
        architectures: vec!["x86_64".into()],
        ipv4_per_eni: 10,
        ipv6_per_eni: 10,
        default_card: 0,
        card_enis: vec![3],
    });
    change(t, o)
}

/// A type with some of its facts replaced.
pub(crate) fn change(mut t: InstanceType, o: &TypeOverride) -> InstanceType {
    if let Some(cards) = &o.card_enis {
        t.card_enis.clone_from(cards);
    }
    t.ipv4_per_eni = o.ipv4_per_eni.unwrap_or(t.ipv4_per_eni);
    t.ipv6_per_eni = o.ipv6_per_eni.unwrap_or(t.ipv6_per_eni);
    t.bare_metal = o.bare_metal.unwrap_or(t.bare_metal);
    if o.hypervisor.is_some() {
        t.hypervisor.clone_from(&o.hypervisor);
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_data_is_read() {
        assert_eq!(all().len(), DATA.lines().count());
        let catalog = Catalog::default();
        for (name, enis, ips, cards, prefixes) in [
            ("m5.large", 3, 10, 1, true),
            ("t3.small", 3, 4, 1, true),
            ("t2.micro", 2, 2, 1, false),
            ("p5.48xlarge", 64, 50, 32, true),
            ("m5.metal", 15, 50, 1, true),
        ] {
            let t = catalog.get(name).unwrap();
            assert_eq!(
                (t.max_enis(), t.ipv4_per_eni, t.card_enis.len()),
                (enis, ips, cards),
                "{name}"
            );
            assert_eq!(t.has_prefixes(), prefixes, "{name}");
        }
    }

    #[test]
    fn overrides_change_and_add() {
        let small = TypeOverride {
            ipv4_per_eni: Some(3),
            ..TypeOverride::default()
        };
        let catalog = Catalog::new(&BTreeMap::from([
            ("m5.large".to_owned(), small.clone()),
            ("new.type".to_owned(), small),
        ]));
        assert_eq!(catalog.get("m5.large").unwrap().ipv4_per_eni, 3);
        assert_eq!(catalog.get("m5.large").unwrap().max_enis(), 3);
        assert_eq!(catalog.get("new.type").unwrap().ipv4_per_eni, 3);
        assert_eq!(catalog.iter().count(), all().len() + 1);
    }
}
