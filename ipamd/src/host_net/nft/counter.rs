//! Reads a named counter by netlink (linux/netfilter/nf_tables.h): for each scrape, so no program is run for it.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io;

/// `NFNL_SUBSYS_NFTABLES << 8`, with `NFT_MSG_NEWOBJ` and `NFT_MSG_GETOBJ`.
const NEW_OBJECT: u16 = 10 << 8 | 18;
const GET_OBJECT: u16 = 10 << 8 | 19;
/// `NFPROTO_INET`
const INET: u8 = 1;
/// `NFTA_OBJ_TABLE` to `NFTA_OBJ_DATA`
const TABLE: u16 = 1;
const NAME: u16 = 2;
const TYPE: u16 = 3;
const DATA: u16 = 4;
/// `NFT_OBJECT_COUNTER`
const COUNTER: u32 = 1;
/// `NFTA_COUNTER_PACKETS`
const PACKETS: u16 = 2;
/// `struct nlmsghdr`, and `struct nfgenmsg` after it.
const HEADER: usize = 16;
const FAMILY: usize = 4;

/// The packets that a counter of a table for both families has counted.
///
/// # Errors
/// There is no such counter, or no right to look.
pub(crate) fn packets(table: &str, counter: &str) -> io::Result<u64> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    // The kernel has answered when the question is sent.
    socket.set_non_blocking(true)?;
    socket.send(&question(table, counter), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    read(&answer).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn question(table: &str, counter: &str) -> Vec<u8> {
    let named = |text: &str| [text.as_bytes(), &[0]].concat();
    let attributes = [
        attribute(TABLE, &named(table)),
        attribute(NAME, &named(counter)),
        attribute(TYPE, &COUNTER.to_be_bytes()),
    ]
    .concat();
    let length = u32::try_from(HEADER + FAMILY + attributes.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GET_OBJECT.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([INET, 0, 0, 0]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn read(answer: &[u8]) -> Option<u64> {
    let header = NetlinkBuffer::new_checked(answer).ok()?;
    if header.message_type() != NEW_OBJECT {
        return None;
    }
    let data = find(answer.get(HEADER + FAMILY..)?, DATA)?;
    let packets = find(data.value(), PACKETS)?;
    let bytes = <[u8; 8]>::try_from(packets.value()).ok()?;
    Some(u64::from_be_bytes(bytes))
}

fn find(attributes: &[u8], kind: u16) -> Option<NlaBuffer<&[u8]>> {
    let mut all = NlasIterator::new(attributes).map_while(Result::ok);
    all.find(|attribute| attribute.kind() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(packets: u64) -> Vec<u8> {
        let counted = [
            attribute(1, &9_u64.to_be_bytes()),
            attribute(PACKETS, &packets.to_be_bytes()),
        ];
        let mut message = question("t", "c");
        message[4..6].copy_from_slice(&NEW_OBJECT.to_ne_bytes());
        message.extend(attribute(DATA | 0x8000, &counted.concat()));
        let length = u32::try_from(message.len()).expect("fits");
        message[..4].copy_from_slice(&length.to_ne_bytes());
        message
    }

    #[test]
    fn a_counter_is_read_and_nothing_else() {
        assert_eq!(read(&answer(7)), Some(7));
        assert_eq!(read(&question("t", "c")), None);
        for cut in 0..answer(7).len() {
            assert_eq!(read(&answer(7)[..cut]), None);
        }
    }
}
