//! Who may ask for metrics: a bound for each source, so that one pod shuts nobody out.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Connections at once: of all, and of one source. A cluster has one or two Prometheus servers.
pub(super) const CONNECTIONS: usize = 64;
pub(super) const OF_ONE: usize = 4;
/// New connections of one source within a second.
pub(super) const A_SECOND: u32 = 20;
/// Sources that are remembered.
const SOURCES: usize = 1024;

/// Open connections, the oldest first, and how many each source has made in this second.
#[derive(Debug, Default)]
pub(super) struct Guests {
    open: VecDeque<(IpAddr, AbortHandle)>,
    made: BTreeMap<IpAddr, (Instant, u32)>,
}

impl Guests {
    /// Whether one more connection of this source is attended to. If so the oldest one makes room where there
    /// are too many: a scrape is over within milliseconds.
    pub(super) fn may(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = host(source);
        if self.made.len() >= SOURCES {
            self.made.retain(|_, (since, _)| now - *since < SECOND);
        }
        let (since, made) = self.made.entry(source).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= SECOND {
            (*since, *made) = (now, 0);
        }
        *made = made.saturating_add(1);
        if *made > A_SECOND {
            return false;
        }
        self.open.retain(|(_, task)| !task.is_finished());
        let of_source = |(of, _): &&(IpAddr, AbortHandle)| *of == source;
        if self.open.iter().filter(of_source).count() >= OF_ONE {
            let at = self.open.iter().position(|(of, _)| *of == source);
            self.end(at.unwrap_or(0));
        }
        if self.open.len() >= CONNECTIONS {
            self.end(0);
        }
        true
    }

    fn end(&mut self, at: usize) {
        if let Some((_, task)) = self.open.remove(at) {
            task.abort();
        }
    }

    /// It is attended to.
    pub(super) fn came(&mut self, source: IpAddr, task: AbortHandle) {
        self.open.push_back((host(source), task));
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// IPv4 by an IPv6 socket is IPv4, and a host has a /64 of IPv6.
fn host(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[tokio::test]
    async fn one_source_shuts_nobody_out() {
        let mut guests = Guests::default();
        let mut now = Instant::now();
        let mut tasks = Vec::new();
        let mut come = |guests: &mut Guests, from: IpAddr, now| {
            let may = guests.may(from, now);
            if may {
                let task = tokio::spawn(std::future::pending::<()>());
                guests.came(from, task.abort_handle());
                tasks.push(task);
            }
            may
        };
        // Within a second: so many, and no more; and of those four are left.
        let taken = (0..200).filter(|_| come(&mut guests, ip(1), now)).count();
        assert_eq!(taken, 20);
        assert_eq!(guests.open.len(), OF_ONE);
        assert!(come(&mut guests, ip(2), now));
        now += SECOND;
        assert!(come(&mut guests, ip(1), now));
        // However many sources: the newest is attended to.
        for n in 3..100 {
            assert!(come(&mut guests, ip(n), now));
        }
        assert_eq!(guests.open.len(), CONNECTIONS);
    }

    #[test]
    fn a_host_is_one_source() {
        let parse = |text: &str| -> IpAddr { text.parse().expect("parses") };
        assert_eq!(host(parse("::ffff:10.0.0.1")), ip(1));
        assert_eq!(host(parse("fd00::1:2")), host(parse("fd00::9:9:9:9")));
        assert_ne!(host(parse("fd00::1")), host(parse("fd00:0:0:1::1")));
    }
}
