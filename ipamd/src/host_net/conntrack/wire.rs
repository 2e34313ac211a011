//! The bytes of ctnetlink (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h). Knows nothing of
//! sockets.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlaBuffer,
    NlasIterator, parse_ip,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

/// `NFNL_SUBSYS_CTNETLINK << 8`
const CTNETLINK: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_NEW`: an entry, in a dump.
const CT_NEW: u16 = CTNETLINK;
/// `IPCTNL_MSG_CT_GET`
const CT_GET: u16 = CTNETLINK | 1;
/// `IPCTNL_MSG_CT_DELETE`
const CT_DELETE: u16 = CTNETLINK | 2;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, resource id.
const FAMILY: usize = 4;
/// `CTA_TUPLE_ORIG`
const TUPLE_ORIG: u16 = 1;
/// `CTA_TUPLE_REPLY`
const TUPLE_REPLY: u16 = 2;
/// `CTA_ID`
const ID: u16 = 12;
/// `CTA_ZONE`
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP`
const TUPLE_IP: u16 = 1;
/// `CTA_IP_V4_SRC` to `CTA_IP_V6_DST`
const IP_FIRST: u16 = 1;
const IP_LAST: u16 = 4;

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    family: u8,
    attributes: &'a [u8],
}

/// One message of the kernel.
#[derive(Clone, Debug)]
pub(super) enum Answer<'a> {
    Entry(Entry<'a>),
    /// Of a dump.
    End,
    /// Zero, or an error number.
    Code(i32),
}

/// The messages of one datagram; `None` for what can't be read, after which nothing follows.
pub(super) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Option<Answer<'_>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((message, rest)) = split(bytes) else {
            bytes = &[];
            return Some(None);
        };
        bytes = rest;
        Some(answer(message))
    })
}

/// The first message, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = NetlinkBuffer::new_checked(bytes).ok()?;
    let length = usize::try_from(header.length()).ok()?;
    let message = bytes.get(..length).filter(|m| m.len() >= HEADER)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((message, rest))
}

fn answer(message: &[u8]) -> Option<Answer<'_>> {
    let payload = message.get(HEADER..)?;
    match NetlinkBuffer::new_checked(message).ok()?.message_type() {
        NLMSG_DONE => Some(Answer::End),
        NLMSG_ERROR => {
            let code = payload.first_chunk::<4>()?;
            Some(Answer::Code(i32::from_ne_bytes(*code)))
        }
        CT_NEW => Some(Answer::Entry(Entry {
            family: *payload.first()?,
            attributes: payload.get(FAMILY..)?,
        })),
        _ => None,
    }
}

impl Entry<'_> {
    /// Whether it names one of `addresses`, at either end, in either direction.
    pub(super) fn names(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        attributes(self.attributes)
            .filter(|a| matches!(a.kind(), TUPLE_ORIG | TUPLE_REPLY))
            .any(|tuple| {
                attributes(tuple.value())
                    .filter(|a| a.kind() == TUPLE_IP)
                    .any(|ip| attributes(ip.value()).any(|end| is_one_of(&end, addresses)))
            })
    }
}

fn is_one_of(end: &NlaBuffer<&[u8]>, addresses: &BTreeSet<IpAddr>) -> bool {
    (IP_FIRST..=IP_LAST).contains(&end.kind())
        && parse_ip(end.value()).is_ok_and(|ip| addresses.contains(&ip))
}

/// As far as they can be read.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(bytes).map_while(Result::ok)
}

/// The request for every connection of a family.
pub(super) fn dump(family: u8) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, CT_GET, NLM_F_REQUEST | NLM_F_DUMP, family, &[]);
    out
}

/// Appends the request to delete this very connection: by the tuple that its first packet made, its
/// zone, and its id, so that a new one of the same tuple stays.
pub(super) fn delete(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    for attribute in attributes(entry.attributes)
        .filter(|a| matches!(a.kind(), TUPLE_ORIG | ZONE | ID))
        .map(NlaBuffer::into_inner)
    {
        let length = attribute
            .first_chunk::<2>()
            .map_or(0, |l| usize::from(u16::from_ne_bytes(*l)));
        body.extend_from_slice(attribute.get(..length).unwrap_or_default());
        body.resize(body.len().next_multiple_of(4), 0);
    }
    message(
        out,
        CT_DELETE,
        NLM_F_REQUEST | NLM_F_ACK,
        entry.family,
        &body,
    );
}

fn message(out: &mut Vec<u8>, kind: u16, flags: u16, family: u8, attributes: &[u8]) {
    let length = HEADER + FAMILY + attributes.len();
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    // Sequence number and port: one request at a time needs none.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, 0, 0, 0]);
    out.extend_from_slice(attributes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("fits");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    const NESTED: u16 = 0x8000;

    fn tuple(kind: u16, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
        let ip = [attribute(1, &src), attribute(2, &dst)].concat();
        let proto = attribute(1, &[17]);
        let inside = [attribute(1 | NESTED, &ip), attribute(2 | NESTED, &proto)].concat();
        attribute(kind | NESTED, &inside)
    }

    /// A connection to 10.1.0.1 that is translated to 10.0.3.17.
    fn translated() -> Vec<u8> {
        let attributes = [
            tuple(1, [10, 0, 3, 20], [10, 1, 0, 1]),
            attribute(3, &[0, 0, 1, 0x8e]),
            tuple(2, [10, 0, 3, 17], [10, 0, 3, 20]),
            attribute(12, &[1, 2, 3, 4]),
            attribute(18, &[0, 7]),
        ];
        let mut out = Vec::new();
        message(&mut out, CT_NEW, 2, AF_INET, &attributes.concat());
        out
    }

    fn set(text: &str) -> BTreeSet<IpAddr> {
        [text.parse().expect("parses")].into()
    }

    #[test]
    fn an_entry_is_found_by_any_of_its_addresses() {
        let bytes = [translated(), translated()].concat();
        let all: Vec<_> = answers(&bytes).collect();
        assert_eq!(all.len(), 2);
        let Some(Some(Answer::Entry(entry))) = all.first() else {
            panic!("{all:?}");
        };
        for named in ["10.0.3.20", "10.1.0.1", "10.0.3.17"] {
            assert!(entry.names(&set(named)), "{named}");
        }
        assert!(!entry.names(&set("10.0.3.18")));
        assert!(!entry.names(&set("::1")));
    }

    #[test]
    fn a_deletion_names_the_first_tuple_the_zone_and_the_id() {
        let bytes = translated();
        let Some(Some(Answer::Entry(entry))) = answers(&bytes).next() else {
            panic!("unreadable");
        };
        let mut request = Vec::new();
        delete(&entry, &mut request);
        let body = [
            tuple(1, [10, 0, 3, 20], [10, 1, 0, 1]),
            attribute(12, &[1, 2, 3, 4]),
            attribute(18, &[0, 7]),
        ]
        .concat();
        let mut want = Vec::new();
        message(&mut want, CT_DELETE, 5, AF_INET, &body);
        assert_eq!(request, want);
    }

    /// Whatever the bytes are: no panic, and an end.
    #[test]
    fn bytes_that_make_no_sense_are_passed_over() {
        let good = translated();
        for cut in 0..good.len() {
            for answer in answers(&good[..cut]).flatten() {
                if let Answer::Entry(entry) = answer {
                    entry.names(&set("10.0.3.17"));
                    delete(&entry, &mut Vec::new());
                }
            }
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 4, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                for answer in answers(&bad).take(100).flatten() {
                    if let Answer::Entry(entry) = answer {
                        entry.names(&set("10.0.3.17"));
                        delete(&entry, &mut Vec::new());
                    }
                }
            }
        }
        assert!(answers(&[1, 2, 3]).all(|answer| answer.is_none()));
    }
}
