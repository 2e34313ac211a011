//! One rtnetlink socket: dumps and changes, each with a deadline and the kernel's own error.

use futures_util::StreamExt;
use futures_util::stream::Stream;
use ipam_engine::ports::HostNetError;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::Handle;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The kernel answers at once; this is for a kernel that is stuck.
const DEADLINE: Duration = Duration::from_secs(10);

/// The thing is there already.
pub(super) const EEXIST: i32 = 17;
/// No such thing: rules and routes are told so by these.
pub(super) const ENOENT: i32 = 2;
pub(super) const ESRCH: i32 = 3;
/// No such link.
pub(super) const ENODEV: i32 = 19;
/// The link is down.
pub(super) const ENETDOWN: i32 = 100;
/// No such address.
pub(super) const EADDRNOTAVAIL: i32 = 99;
/// The kernel has no such family (IPv6 switched off).
pub(super) const EAFNOSUPPORT: i32 = 97;
pub(super) const EOPNOTSUPP: i32 = 95;

/// What the kernel said, or that it said nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Kernel(io::Error),
    #[error("the kernel does not answer")]
    Silent,
    #[error("the netlink socket is closed")]
    Closed,
    #[error("a dump was interrupted by changes, again and again")]
    Interrupted,
}

impl Refused {
    /// Whether the kernel said one of these.
    pub(super) fn is(&self, codes: &[i32]) -> bool {
        matches!(self, Self::Kernel(error) if error.raw_os_error().is_some_and(|n| codes.contains(&n)))
    }

    /// For the engine.
    pub(super) fn while_doing(self, what: impl Into<String>) -> HostNetError {
        HostNetError {
            what: what.into(),
            cause: self.to_string(),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    handle: Handle,
    /// The kernel takes one dump a socket at a time (EBUSY).
    dumping: Arc<Mutex<()>>,
    /// Changes that the kernel made for us.
    changes: Arc<AtomicU64>,
}

impl Netlink {
    /// Opens the socket in the current network namespace. Must be called within the runtime.
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        // It ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(Self {
            handle,
            dumping: Arc::default(),
            changes: Arc::default(),
        })
    }

    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>, Refused> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        self.handle
            .clone()
            .request(request)
            .map_err(|_| Refused::Closed)
    }

    /// Everything of one kind. A dump that the kernel marks as torn by changes is taken again.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refused> {
        /// `NLM_F_DUMP_INTR` (linux/netlink.h).
        const TORN: u16 = 0x10;
        let _alone = self.dumping.lock().await;
        for _ in 0..5 {
            let mut answers = Box::pin(self.request(message.clone(), NLM_F_DUMP)?);
            let mut found = Vec::new();
            let mut torn = false;
            let read = async {
                while let Some(answer) = answers.next().await {
                    torn |= answer.header.flags & TORN != 0;
                    match answer.payload {
                        NetlinkPayload::InnerMessage(message) => found.push(message),
                        NetlinkPayload::Error(error) => return Err(Refused::Kernel(error.to_io())),
                        NetlinkPayload::Overrun(_) => torn = true,
                        _ => {}
                    }
                }
                Ok(())
            };
            timeout(DEADLINE, read)
                .await
                .map_err(|_| Refused::Silent)??;
            if !torn {
                return Ok(found);
            }
        }
        Err(Refused::Interrupted)
    }

    /// One thing.
    pub(super) async fn ask(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Refused> {
        let mut answers = Box::pin(self.request(message, 0)?);
        let read = async {
            while let Some(answer) = answers.next().await {
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => return Ok(Some(message)),
                    NetlinkPayload::Error(error) => return Err(Refused::Kernel(error.to_io())),
                    _ => {}
                }
            }
            Ok(None)
        };
        timeout(DEADLINE, read).await.map_err(|_| Refused::Silent)?
    }

    /// One change, acknowledged. `flags` are `NLM_F_CREATE` and the like.
    pub(super) async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), Refused> {
        let mut answers = Box::pin(self.request(message, NLM_F_ACK | flags)?);
        let read = async {
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload
                    && error.code.is_some()
                {
                    return Err(Refused::Kernel(error.to_io()));
                }
            }
            Ok(())
        };
        timeout(DEADLINE, read)
            .await
            .map_err(|_| Refused::Silent)??;
        self.changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many changes the kernel has made for us so far.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A change after which `fine` errors mean that it was so already.
    pub(super) async fn change_unless(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        fine: &[i32],
    ) -> Result<(), Refused> {
        match self.change(message, flags).await {
            Err(error) if error.is(fine) => Ok(()),
            other => other,
        }
    }
}
