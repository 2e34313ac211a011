//! rtnetlink, as little of it as a pod needs, without a crate: the plugin's size and start time are
//! every pod's. Owns the wire format; knows nothing of pods or CNI.

mod batch;
mod news;
mod parse;
mod socket;
pub(crate) mod uapi;
pub(crate) mod verbs;

pub(crate) use batch::Batch;
pub(crate) use news::News;
pub(crate) use parse::{Address, FibRoute, FibRule, Link, Neighbour};
pub(crate) use socket::{Answer, Socket};

use nix::errno::Errno;
use std::net::IpAddr;
use std::os::fd::RawFd;

impl Socket {
    /// Carries out a batch; the first failure of any of its requests is the result, with the
    /// request's place in the batch.
    pub(crate) fn run(&mut self, batch: Batch) -> Result<Vec<Answer>, (usize, Errno)> {
        let answers = self.exchange(batch).map_err(|errno| (0, errno))?;
        match answers
            .iter()
            .enumerate()
            .find_map(|(n, a)| a.error.map(|errno| (n, errno)))
        {
            Some(failed) => Err(failed),
            None => Ok(answers),
        }
    }

    /// The interface of this name; `None` if there is none.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, Errno> {
        self.one_link(|batch| verbs::get_link(batch, name))
    }

    /// The interface of this index; `None` if there is none.
    pub(crate) fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, Errno> {
        self.one_link(|batch| verbs::get_link_by_index(batch, index))
    }

    fn one_link(&mut self, ask: impl FnOnce(&mut Batch)) -> Result<Option<Link>, Errno> {
        let mut batch = Batch::default();
        ask(&mut batch);
        let answers = self.exchange(batch)?;
        match answers.first() {
            Some(Answer {
                error: Some(Errno::ENODEV),
                ..
            })
            | None => Ok(None),
            Some(Answer {
                error: Some(errno), ..
            }) => Err(*errno),
            Some(answer) => Ok(link_of(answer)),
        }
    }

    /// The route to `ip` as it stands in its table; `None` if there is no way.
    pub(crate) fn route_to(&mut self, ip: IpAddr) -> Result<Option<FibRoute>, Errno> {
        let mut batch = Batch::default();
        verbs::get_route(&mut batch, ip);
        let answers = self.exchange(batch)?;
        match answers.first() {
            Some(Answer {
                error: Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH),
                ..
            })
            | None => Ok(None),
            Some(Answer {
                error: Some(errno), ..
            }) => Err(*errno),
            Some(answer) => Ok(answer.records.iter().find_map(parse::route)),
        }
    }

    /// All addresses of this namespace.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Address>, Errno> {
        self.dump(uapi::RTM_GETADDR, uapi::AF_UNSPEC, parse::address)
    }

    /// All routes of this namespace, of both families and all tables.
    pub(crate) fn routes(&mut self) -> Result<Vec<FibRoute>, Errno> {
        let mut routes = self.dump(uapi::RTM_GETROUTE, uapi::AF_INET, parse::route)?;
        routes.extend(self.dump(uapi::RTM_GETROUTE, uapi::AF_INET6, parse::route)?);
        Ok(routes)
    }

    /// All routing rules of this namespace, of both families.
    pub(crate) fn rules(&mut self) -> Result<Vec<FibRule>, Errno> {
        self.dump(uapi::RTM_GETRULE, uapi::AF_UNSPEC, parse::rule)
    }

    /// All neighbour entries of this namespace.
    pub(crate) fn neighbours(&mut self) -> Result<Vec<Neighbour>, Errno> {
        self.dump(uapi::RTM_GETNEIGH, uapi::AF_UNSPEC, parse::neighbour)
    }

    /// The id that this namespace has for another, if it has one.
    pub(crate) fn netns_id(&mut self, netns: RawFd) -> Result<Option<i32>, Errno> {
        let mut batch = Batch::default();
        verbs::get_nsid(&mut batch, netns);
        let answers = self.run(batch).map_err(|(_, errno)| errno)?;
        let mut records = answers.iter().flat_map(|answer| &answer.records);
        Ok(records.find_map(parse::netns_id).filter(|&id| id >= 0))
    }

    fn dump<T>(
        &mut self,
        kind: u16,
        family: u8,
        parse: fn(&socket::Record) -> Option<T>,
    ) -> Result<Vec<T>, Errno> {
        let mut batch = Batch::default();
        verbs::dump(&mut batch, kind, family);
        let answers = self.run(batch).map_err(|(_, errno)| errno)?;
        Ok(answers
            .iter()
            .flat_map(|answer| &answer.records)
            .filter_map(parse)
            .collect())
    }
}

/// The interface that a `RTM_GETLINK` was answered with.
pub(crate) fn link_of(answer: &Answer) -> Option<Link> {
    answer.records.iter().find_map(parse::link)
}
