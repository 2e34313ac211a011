//! `ipamd-cni`, the CNI plugin: asks `ipamd` for a lease and carries out the wiring that comes with
//! it. It decides nothing.
//!
//! A plugin process is a function of its environment and stdin: [`run`] is the whole of it.
//!
//! ```text
//! request (environment + stdin) -> rpc (ipamd) -> wire (PodWiring -> netlink) -> reply
//!                                                   `-> undo, on a failure
//! spool: a DEL that finds no daemon      netns, netlink: the kernel's side
//! trust: how far a configuration may lead it
//! ```
//!
//! **Invariant**: it runs no other program, keeps no state but the spool, and asks nobody but
//! `ipamd`'s socket and the kernel.

mod command;
mod error;
#[cfg(feature = "floor")]
pub mod floor;
mod log;
mod netlink;
mod netns;
mod reply;
mod request;
mod rpc;
mod spool;
mod trust;
mod undo;
mod wire;

pub use error::{CniError, code};
pub use netns::NetnsError;
pub use request::{
    Attachment, Conf, LogFile, PrevInterface, PrevResult, Request, SOCKET, ValidAttachment, Verb,
    Version,
};
pub use rpc::RpcError;

use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::time::Instant;

/// All that a plugin process touches, but the kernel's network and the daemon's socket.
pub struct Process<'a> {
    /// An environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The network configuration.
    pub stdin: &'a mut dyn Read,
    /// Takes the result or error, one JSON object.
    pub stdout: &'a mut dyn Write,
    /// Takes a line when something fails.
    pub stderr: &'a mut dyn Write,
}

impl fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// Runs one command and gives the process's exit code: 0, or 1 with an error on stdout.
pub fn run(process: &mut Process<'_>) -> u8 {
    let began = Instant::now();
    let (version, log_file, what, result) = match request::read(process) {
        Err((version, error)) => (version, None, "request".to_owned(), Err(error)),
        Ok(Request::About) => {
            // Nobody is there to be told that nobody was told.
            let _ = process.stderr.write_all(reply::about().as_bytes());
            return 0;
        }
        Ok(Request::Version(asked)) => (
            Version::LATEST,
            None,
            "VERSION".to_owned(),
            Ok(Some(reply::versions(asked))),
        ),
        Ok(Request::Network(verb, conf)) => {
            let result = match verb {
                Verb::Status => command::status(&conf),
                _ => command::gc(&conf, began),
            };
            let what = format!("{} {}", verb.as_str(), conf.name);
            (conf.version, conf.log_file, what, result.map(|()| None))
        }
        Ok(Request::Attachment(verb, attachment, conf)) => {
            let result = match verb {
                Verb::Add => command::add(&attachment, &conf).map(Some),
                Verb::Check => command::check(&attachment, &conf).map(|()| None),
                _ => command::del(&attachment, &conf).map(|()| None),
            };
            let what = format!("{} {}", verb.as_str(), attachment.key);
            (conf.version, conf.log_file, what, result)
        }
    };
    let (text, failure) = match result {
        Ok(None) => return 0,
        Ok(Some(result)) => (result, None),
        Err(error) => (reply::error(version, &error), Some(error)),
    };
    // A runtime that does not take the answer counts it as failed; so do we.
    let told = process.stdout.write_all(format!("{text}\n").as_bytes());
    if let Some(error) = &failure {
        log::failure(log_file.as_ref(), process.stderr, &what, error);
    }
    u8::from(failure.is_some() || told.is_err())
}
