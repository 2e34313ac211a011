//! A small synchronous rtnetlink client: requests go out in batches, each is acknowledged by the
//! kernel before `send` returns. Works in the network namespace in which it was opened.

mod change;

pub(crate) use change::{Change, Route, Veth};

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc::MSG_DONTWAIT;
use std::io;
use thiserror::Error;

/// Requests in one datagram: their acknowledgements must fit into the receive buffer.
const BATCH: usize = 64;

/// The kernel refused a request.
#[derive(Debug, Error)]
#[error("{doing}: {source}")]
pub struct NetlinkError {
    /// What was asked for.
    pub doing: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl NetlinkError {
    /// What it wanted to remove was not there.
    pub(crate) fn is_gone(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(
            self.source.raw_os_error(),
            Some(ESRCH | ENODEV | ENOENT | EADDRNOTAVAIL)
        )
    }
}

/// A socket to the kernel's routing part.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            io::Result::Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError {
            doing: "opening a netlink socket".into(),
            source,
        })?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes one change.
    pub(crate) fn make(&mut self, change: Change) -> Result<(), NetlinkError> {
        self.make_all(vec![change]).pop().map_or(Ok(()), Err)
    }

    /// Makes each change in order, also after one failed; returns the failures.
    pub(crate) fn make_all(&mut self, changes: Vec<Change>) -> Vec<NetlinkError> {
        let mut failures = Vec::new();
        for batch in changes.chunks(BATCH) {
            if let Err(source) = self.make_batch(batch, &mut failures) {
                let doing = batch.first().map(|c| c.doing.clone()).unwrap_or_default();
                failures.push(NetlinkError { doing, source });
            }
        }
        failures
    }

    /// The link of that name.
    pub(crate) fn index(&mut self, name: &str) -> Result<u32, NetlinkError> {
        let failed = |source| NetlinkError {
            doing: format!("looking for link {name}"),
            source,
        };
        let mut get = LinkMessage::default();
        get.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.sequence += 1;
        let request = bytes_of(
            RouteNetlinkMessage::GetLink(get),
            NLM_F_REQUEST,
            self.sequence,
        );
        self.socket.send(&request, 0).map_err(failed)?;
        let mut found = Err(io::Error::other("no answer"));
        for (_, payload) in self.receive().map_err(failed)? {
            match payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    found = Ok(link.header.index);
                }
                NetlinkPayload::Error(e) => found = Err(e.to_io()),
                _ => {}
            }
        }
        found.map_err(failed)
    }

    fn make_batch(&mut self, batch: &[Change], failures: &mut Vec<NetlinkError>) -> io::Result<()> {
        let first = self.sequence + 1;
        let mut request = Vec::new();
        for change in batch {
            self.sequence += 1;
            let flags = change.flags | NLM_F_REQUEST | NLM_F_ACK;
            request.extend(bytes_of(change.message.clone(), flags, self.sequence));
        }
        self.socket.send(&request, 0)?;
        let mut acknowledged = 0;
        while acknowledged < batch.len() {
            // The kernel works inside send(): whatever it has to say is there already.
            for (sequence, payload) in self.receive()? {
                let NetlinkPayload::Error(answer) = payload else {
                    continue;
                };
                let Some(change) = sequence
                    .checked_sub(first)
                    .and_then(|i| batch.get(i as usize))
                else {
                    continue;
                };
                acknowledged += 1;
                if answer.code.is_some() {
                    let doing = change.doing.clone();
                    failures.push(NetlinkError {
                        doing,
                        source: answer.to_io(),
                    });
                }
            }
        }
        Ok(())
    }

    /// One datagram's messages, each with its sequence number.
    fn receive(&self) -> io::Result<Vec<(u32, NetlinkPayload<RouteNetlinkMessage>)>> {
        let mut buffer = Vec::with_capacity(1 << 16);
        self.socket.recv(&mut buffer, MSG_DONTWAIT)?;
        let mut messages = Vec::new();
        let mut rest = buffer.as_slice();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
            messages.push((message.header.sequence_number, message.payload));
        }
        Ok(messages)
    }
}

fn bytes_of(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}
