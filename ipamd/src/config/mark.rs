//! The mark of traffic that leaves by the primary ENI, and whose bits it must not share.

use super::finding::Severity;
use super::read::{Reader, parse_number};
use ipam_core::wiring::{MARK_ENI_MASK, MARK_MAIN};

const NAME: &str = "AWS_VPC_K8S_CNI_CONNMARK";

/// `0x4000` (masquerade this) and `0x8000` (drop this): kube-proxy's and the kubelet's defaults.
const KUBE_PROXY: u32 = 0xc000;
/// `FELIX_IPTABLESMARKMASK`, `FELIX_NFTABLESMARKMASK`: Calico's default.
const CALICO: u32 = 0xffff_0000;

/// A number that can't be read is a mistake, as in Amazon's CNI. One that says to another program
/// that a packet is to be dropped or translated, or to us that it is another ENI's, is a refusal.
pub(super) fn connmark(read: &mut Reader<'_>) -> u32 {
    let Some(text) = read.raw(NAME) else {
        return MARK_MAIN;
    };
    let number = parse_number(&text).and_then(|n| u32::try_from(n).ok());
    let Some(mark) = number else {
        let text = format!(
            "\"{}\" is not a 32-bit mark; using the default ({MARK_MAIN:#x})",
            text.escape_debug()
        );
        read.tell(Severity::Mistake, NAME, text);
        return MARK_MAIN;
    };
    let refusal = if mark == 0 {
        "has no bit, so nothing would be marked"
    } else if mark & KUBE_PROXY != 0 {
        "has bits of kube-proxy's (0xc000)"
    } else if mark & MARK_ENI_MASK != 0 {
        "has bits that name ENIs (0x3f00)"
    } else {
        if mark & CALICO != 0 {
            let text = format!("{mark:#x} has bits that Calico uses (0xffff0000)");
            read.tell(Severity::Note, NAME, text);
        }
        return mark;
    };
    read.tell(Severity::Refusal, NAME, format!("{mark:#x} {refusal}"));
    MARK_MAIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn marks_are_read_and_judged() {
        let read = |text: &str| {
            let map: BTreeMap<String, String> = [(NAME.into(), text.into())].into();
            let mut read = Reader::new(&map);
            let mark = connmark(&mut read);
            (mark, read.findings.first().map(|finding| finding.severity))
        };
        for (text, want) in [
            ("0x80", (0x80, None)),
            ("128", (0x80, None)),
            ("0x40", (0x40, None)),
            ("0xC0", (0xc0, None)),
            ("0x80000000", (0x8000_0000, Some(Severity::Note))),
            ("", (0x80, Some(Severity::Mistake))),
            ("-1", (0x80, Some(Severity::Mistake))),
            ("0x100000000", (0x80, Some(Severity::Mistake))),
            ("mark", (0x80, Some(Severity::Mistake))),
            ("0", (0x80, Some(Severity::Refusal))),
            ("0x4000", (0x80, Some(Severity::Refusal))),
            ("0x8080", (0x80, Some(Severity::Refusal))),
            ("0x200", (0x80, Some(Severity::Refusal))),
        ] {
            assert_eq!(read(text), want, "{text:?}");
        }
    }
}
