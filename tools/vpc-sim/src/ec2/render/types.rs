//! Instance types: what the model knows of them. What it does not know is left out.

use crate::ec2::xml::Xml;
use vpc_model::response::InstanceType;

pub(super) fn instance_type(xml: &mut Xml, t: &InstanceType) {
    xml.put("instanceType", &t.name);
    xml.put("bareMetal", t.bare_metal);
    xml.put_some("hypervisor", t.hypervisor.as_ref());
    if !t.architectures.is_empty() {
        xml.nest("processorInfo", |xml| {
            xml.values("supportedArchitectures", &t.architectures);
        });
    }
    if let Some(vcpus) = t.vcpus {
        xml.nest("vCpuInfo", |xml| xml.put("defaultVCpus", vcpus));
    }
    if let Some(memory) = t.memory_mib {
        xml.nest("memoryInfo", |xml| xml.put("sizeInMiB", memory));
    }
    xml.nest("networkInfo", |xml| {
        xml.put("maximumNetworkInterfaces", t.max_enis());
        xml.put("maximumNetworkCards", t.card_enis.len());
        xml.put("defaultNetworkCardIndex", t.default_card);
        xml.list(
            "networkCards",
            t.card_enis.iter().enumerate(),
            |xml, (index, enis)| {
                xml.put("networkCardIndex", index);
                xml.put("maximumNetworkInterfaces", enis);
            },
        );
        xml.put("ipv4AddressesPerInterface", t.ipv4_per_eni);
        xml.put("ipv6AddressesPerInterface", t.ipv6_per_eni);
        xml.put("ipv6Supported", t.ipv6_per_eni > 0);
    });
}
