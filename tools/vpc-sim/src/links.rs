//! Links, addresses and routes by hand, for probes and tests that build something inside a node.

use crate::error::SimError;
use crate::kernel::netlink::{Change, Netlink, Route, Veth};
use crate::netns::NetNs;
use crate::router::{MTU, first_failure};
use ipnet::IpNet;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

impl NetNs {
    /// Gives a link of the namespace an address; a /32 or /128 is given without a network.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses.
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<(), SimError> {
        let link = link.to_owned();
        self.run(move || {
            let mut netlink = Netlink::open()?;
            let index = netlink.index(&link)?;
            Ok(netlink.make(Change::add_address(index, address))?)
        })?
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses.
    pub fn set_up(&self, link: &str) -> Result<(), SimError> {
        let link = link.to_owned();
        self.run(move || {
            let mut netlink = Netlink::open()?;
            let index = netlink.index(&link)?;
            Ok(netlink.make(Change::set_up(index))?)
        })?
    }

    /// Adds a route in the main table, by a neighbour that is taken to be on the link, or by the
    /// link alone.
    ///
    /// # Errors
    /// There is no such link, or the kernel refuses.
    pub fn add_route(&self, to: IpNet, link: &str, via: Option<IpAddr>) -> Result<(), SimError> {
        let link = link.to_owned();
        self.run(move || {
            let mut netlink = Netlink::open()?;
            let index = netlink.index(&link)?;
            Ok(netlink.make(Change::add_route(&Route::new(to, index, via)))?)
        })?
    }

    /// Joins this namespace with another by a veth pair; both ends are set up.
    ///
    /// # Errors
    /// A name is taken, or the kernel refuses.
    pub fn join(&self, link: &str, other: &Self, other_link: &str) -> Result<(), SimError> {
        let (name, peer_name) = (link.to_owned(), other_link.to_owned());
        let there = other
            .as_fd()
            .try_clone_to_owned()
            .map_err(SimError::os("copying a handle"))?;
        self.run(move || {
            let mut netlink = Netlink::open()?;
            netlink.make(Change::add_veth(&Veth {
                name: &name,
                mac: None,
                peer_name: &peer_name,
                peer_mac: None,
                peer_net: there.as_fd(),
                mtu: MTU,
            }))?;
            let index = netlink.index(&name)?;
            first_failure(netlink.make_all(vec![Change::set_up(index)]))
        })??;
        other.set_up(other_link)
    }

    /// Names of all links but `lo`, sorted.
    ///
    /// # Errors
    /// The place is closed, or `/proc` can't be read.
    pub fn links(&self) -> Result<Vec<String>, SimError> {
        // /proc/net is the process's first thread's; this thread's own is meant.
        let text = self.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
        let text = text.map_err(SimError::os("reading /proc/thread-self/net/dev"))?;
        let names = text
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
        let mut names: Vec<String> = names.filter(|n| n != "lo").collect();
        names.sort();
        Ok(names)
    }

    /// Writes `net.<name>` in the namespace; the name uses slashes: `ipv4/ip_forward`.
    ///
    /// # Errors
    /// There is no such switch, or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), SimError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.run(move || crate::kernel::sysctl::set(&name, &value))?
    }

    /// The descriptor's number in this process, for `/proc/PID/fd/N`.
    pub fn raw_fd(&self) -> i32 {
        self.as_fd().as_raw_fd()
    }
}
