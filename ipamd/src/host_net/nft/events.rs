//! Listens to changes of nftables, whoever makes them (linux/netfilter/nf_tables.h), and tells those of
//! our tables.

use super::{EGRESS_TABLE, SOURCES_TABLE, TABLE};
use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use std::io;

/// `NFNLGRP_NFTABLES`
const GROUP: u32 = 7;
/// `NFNL_SUBSYS_NFTABLES`
const NFTABLES: u16 = 10;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE` and
/// `NFTA_SET_ELEM_LIST_TABLE` are the same number.
const TABLE_NAME: u16 = 1;
/// `struct nlmsghdr`, and `struct nfgenmsg` after it.
const HEADER: usize = 16;
const FAMILY: usize = 4;
/// Receive buffer, bytes: kube-proxy writes some thousand rules at once.
const BUFFER: usize = 1 << 20;
/// The largest message that the kernel makes, bytes.
const PIECE: usize = 32 << 10;

/// The kernel's news of nftables.
pub(crate) struct Events {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribed when it returns. Must be called within the runtime.
    ///
    /// # Errors
    /// No socket, no right to listen, or no nftables in the kernel.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        let inner = socket.socket_mut();
        inner.bind_auto()?;
        inner.add_membership(GROUP)?;
        // A smaller buffer only means more overruns, which are handled.
        let _ = inner.set_rx_buf_sz(BUFFER);
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(PIECE),
        })
    }

    /// Waits until one of our tables was changed, or until news were lost that may have told so.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub(crate) async fn ours(&mut self) -> io::Result<()> {
        /// The buffer was too small: news were lost.
        const ENOBUFS: i32 = 105;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(()) if is_ours(&self.buffer) => return Ok(()),
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether one of a datagram's messages is about a table of ours.
fn is_ours(mut bytes: &[u8]) -> bool {
    while let Ok(header) = NetlinkBuffer::new_checked(bytes) {
        let length = usize::try_from(header.length()).unwrap_or(usize::MAX);
        let Some(message) = bytes.get(..length).filter(|m| m.len() >= HEADER) else {
            return false;
        };
        if header.message_type() >> 8 == NFTABLES && names_our_table(message) {
            return true;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn names_our_table(message: &[u8]) -> bool {
    let attributes = message.get(HEADER + FAMILY..).unwrap_or_default();
    let is_name = |attribute: NlaBuffer<&[u8]>| {
        let name = attribute.value().strip_suffix(b"\0");
        let ours = [TABLE, EGRESS_TABLE, SOURCES_TABLE].map(|name| Some(name.as_bytes()));
        attribute.kind() == TABLE_NAME && ours.contains(&name)
    };
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .any(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, table: &[u8]) -> Vec<u8> {
        let mut name = u16::try_from(4 + table.len())
            .expect("fits")
            .to_ne_bytes()
            .to_vec();
        name.extend(TABLE_NAME.to_ne_bytes());
        name.extend(table);
        name.resize(name.len().next_multiple_of(4), 0);
        let length = u32::try_from(HEADER + FAMILY + name.len()).expect("fits");
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(name);
        bytes
    }

    #[test]
    fn only_our_tables_names_count() {
        let delete_rule = NFTABLES << 8 | 8;
        let ours = message(delete_rule, b"ipamd\0");
        let other = message(delete_rule, b"ipamd2\0");
        assert!(is_ours(&ours));
        assert!(is_ours(&[other.clone(), ours.clone()].concat()));
        assert!(!is_ours(&other));
        assert!(!is_ours(&message(1 << 8, b"ipamd\0")));
    }

    /// Whatever the bytes are: no panic, and an end.
    #[test]
    fn bytes_that_make_no_sense_are_passed_over() {
        let good = message(NFTABLES << 8, b"ipamd\0");
        for cut in 0..good.len() {
            is_ours(&good[..cut]);
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[cut] = value;
                is_ours(&bad);
            }
        }
    }
}
