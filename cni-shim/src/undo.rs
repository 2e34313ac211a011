//! What a failed ADD takes back: only what it made itself.

use crate::error::CniError;
use crate::netlink::{Batch, Socket, verbs};
use ipam_core::wiring::Rule;
use nix::errno::Errno;

/// The steps that were done. Addresses, routes and neighbours go with the link.
#[derive(Debug)]
pub(crate) struct Undo {
    link: u32,
    pub(crate) rules: Vec<Rule>,
}

impl Undo {
    pub(crate) const fn of_link(link: u32) -> Self {
        Self {
            link,
            rules: Vec::new(),
        }
    }

    /// Takes it all back, goes on where that fails, and adds those failures to `error`. Tells
    /// whether the link was gone already.
    pub(crate) fn run(self, host: &mut Socket, mut error: CniError) -> (CniError, bool) {
        let mut gone = false;
        let mut batch = Batch::default();
        for rule in &self.rules {
            verbs::rule(&mut batch, verbs::Change::Delete, rule);
        }
        verbs::delete_link(&mut batch, self.link);
        match host.exchange(batch) {
            Ok(answers) => {
                gone = answers
                    .last()
                    .is_some_and(|a| a.error == Some(Errno::ENODEV));
                let failed = answers.iter().filter_map(|a| a.error);
                for errno in failed.filter(|&e| e != Errno::ENODEV && e != Errno::ENOENT) {
                    error = error.with(format_args!("undoing it failed too: {}", errno.desc()));
                }
            }
            Err(errno) => {
                error = error.with(format_args!("undoing it failed too: {}", errno.desc()));
            }
        }
        (error, gone)
    }
}
