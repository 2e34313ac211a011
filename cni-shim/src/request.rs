//! Environment and stdin, as a typed request; or everything that is wrong with them, at once.

mod args;
mod conf;
mod duration;
mod valid;

pub use conf::{Conf, LogFile, PrevInterface, PrevResult, SOCKET, Version};
pub use valid::ValidAttachment;

use crate::Process;
use crate::error::{CniError, code};
use crate::trust::Trust;
use args::Args;
use ipam_core::{AttachmentKey, PodRef};
use std::io::Read as _;

/// What the runtime wants (CNI spec 1.1.0, section 2, "CNI operations").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Give a container an interface.
    Add,
    /// Take it away.
    Del,
    /// Is it as it should be?
    Check,
    /// Forget attachments that are not named.
    Gc,
    /// Can ADDs be served?
    Status,
    /// Which versions of the spec are spoken?
    Version,
}

impl Verb {
    const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Version,
    ];

    /// As in `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The spec version that brought it.
    const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_3_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }
}

/// The attachment that a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub key: AttachmentKey,
    /// What `CNI_ARGS` says of the pod.
    pub pod: PodRef,
    /// `CNI_NETNS`; empty if the runtime gave none (DEL only).
    pub netns: String,
}

/// A request that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// ADD, DEL or CHECK of an attachment.
    Attachment(Verb, Box<Attachment>, Box<Conf>),
    /// GC or STATUS of a network.
    Network(Verb, Box<Conf>),
    /// VERSION, with the `cniVersion` that was asked with, if we speak it.
    Version(Option<Version>),
    /// No runtime's: somebody runs the plugin to see what it is.
    About,
}

/// A request that is not: with the version to say so in, and the log file if one was named.
pub(crate) type Refused = (Version, CniError);

/// Which command needs a variable, and whether its text is good.
struct Variable {
    name: &'static str,
    needed_by: &'static [Verb],
    problem: fn(&str) -> Option<&'static str>,
}

/// CNI spec 1.1.0, section 2, "Parameters" and each operation's "Required environment parameters".
/// `CNI_PATH` is for plugins that run other plugins.
const VARIABLES: [Variable; 3] = [
    Variable {
        name: "CNI_CONTAINERID",
        needed_by: &[Verb::Add, Verb::Del, Verb::Check],
        problem: |id| (!conf::is_identifier(id)).then_some("not letters, digits and _.- only"),
    },
    Variable {
        name: "CNI_NETNS",
        needed_by: &[Verb::Add, Verb::Check],
        problem: |_| None,
    },
    Variable {
        name: "CNI_IFNAME",
        needed_by: &[Verb::Add, Verb::Del, Verb::Check],
        problem: if_name_problem,
    },
];

fn if_name_problem(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        Some("longer than 15 characters")
    } else if name == "." || name == ".." {
        Some("not a name")
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        Some("with a slash, colon or space in it")
    } else if name.contains('%') {
        Some("with a % in it, which the kernel would replace")
    } else {
        None
    }
}

/// A configuration is some kB; with a prevResult of many interfaces a few more.
const STDIN_MAX: u64 = 4 << 20;

/// Reads the request.
///
/// # Errors
/// Everything that is wrong with the environment together (code 4), else with stdin (5, 6), its
/// version (1), its fields (2, 7).
pub(crate) fn read(process: &mut Process<'_>) -> Result<Request, Refused> {
    if is_by_hand(process) {
        return Ok(Request::About);
    }
    let verb = verb(process);
    let mut stdin = Vec::new();
    let map = match (&mut *process.stdin)
        .take(STDIN_MAX)
        .read_to_end(&mut stdin)
    {
        Ok(_) => conf::object(&stdin),
        Err(e) => Err(CniError::new(
            code::IO_FAILURE,
            format!("network configuration: {e}"),
        )),
    };
    let asked = map
        .as_ref()
        .ok()
        .and_then(|map| map.get("cniVersion")?.as_str());
    let asked = asked.and_then(Version::parse);
    let refuse = |error: CniError| (asked.unwrap_or(Version::LATEST), error);
    let verb = verb.map_err(refuse)?;
    if verb == Verb::Version {
        return Ok(Request::Version(asked));
    }
    let (attachment, mut problems) = attachment(process, verb);
    let trust = Trust::new(process.env);
    match map.and_then(|map| Conf::parse(&map, verb, &trust)) {
        Ok(conf) if problems.is_empty() => Ok(match (verb, attachment) {
            (Verb::Add | Verb::Del | Verb::Check, mut attachment) => {
                attachment.key.network.clone_from(&conf.name);
                Request::Attachment(verb, Box::new(attachment), Box::new(conf))
            }
            (verb, _) => Request::Network(verb, Box::new(conf)),
        }),
        Err(error) if problems.is_empty() => Err(refuse(error)),
        conf => {
            problems.extend(conf.err().map(|error| error.to_string()));
            Err(refuse(CniError::new(
                code::INVALID_ENVIRONMENT,
                problems.join("; "),
            )))
        }
    }
}

/// A runtime that forgets the command still says which container it means. Whoever runs the plugin by hand waits at
/// a terminal, so stdin is not read for this.
fn is_by_hand(process: &Process<'_>) -> bool {
    let is_set = |name| (process.env)(name).is_some_and(|value| !value.is_empty());
    let of_attachment = VARIABLES.iter().map(|variable| variable.name);
    !of_attachment.chain(["CNI_COMMAND"]).any(is_set)
}

fn verb(process: &Process<'_>) -> Result<Verb, CniError> {
    let refuse = |why: &str| {
        let known = Verb::ALL.map(Verb::as_str).join(", ");
        CniError::new(
            code::INVALID_ENVIRONMENT,
            format!("CNI_COMMAND {why}; known: {known}"),
        )
    };
    let Some(said) = variable(process, "CNI_COMMAND").map_err(|why| refuse(&why))? else {
        return Err(refuse("is missing"));
    };
    let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == said);
    verb.ok_or_else(|| refuse(&format!("{said:?} is unknown")))
}

/// An empty variable counts as missing.
fn variable(process: &Process<'_>, name: &str) -> Result<Option<String>, String> {
    match (process.env)(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// The attachment, still without its network's name, and what is wrong with the environment.
fn attachment(process: &Process<'_>, verb: Verb) -> (Attachment, Vec<String>) {
    let mut problems = Vec::new();
    let mut values = [const { String::new() }; VARIABLES.len()];
    for (value, wanted) in values.iter_mut().zip(&VARIABLES) {
        let needed = wanted.needed_by.contains(&verb);
        match variable(process, wanted.name) {
            Ok(Some(text)) => {
                if let Some(problem) = (wanted.problem)(&text).filter(|_| needed) {
                    problems.push(format!("{} {text:?} is {problem}", wanted.name));
                }
                *value = text;
            }
            Ok(None) if needed => problems.push(format!("{} is missing", wanted.name)),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let mut args_problems = Vec::new();
    let args = match variable(process, "CNI_ARGS") {
        Ok(text) => Args::parse(text.as_deref().unwrap_or_default(), &mut args_problems),
        Err(problem) => {
            args_problems.push(problem);
            Args::default()
        }
    };
    if verb == Verb::Add {
        // A DEL needs none of them, and must not fail for them.
        problems.append(&mut args_problems);
    }
    let [container_id, netns, if_name] = values;
    let key = AttachmentKey {
        network: String::new(),
        container_id,
        if_name,
    };
    (
        Attachment {
            key,
            pod: args.pod,
            netns,
        },
        problems,
    )
}
