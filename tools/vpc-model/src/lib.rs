//! A VPC as a value: the semantics of EC2's network interfaces and of the instance metadata
//! service, with time as an argument and without any input or output.
//!
//! It owns: subnets and their address space, ENIs, attachments, tags, limits, throttling,
//! latencies, eventual consistency, faults, the audit log and the books. It never opens a socket,
//! reads a clock, sleeps, starts a thread or touches the kernel; `vpc-sim` does that around it.
//! It shares no code with the daemon that it judges.
//!
//! Each rule is marked in its doc comment: *documented* (AWS documentation says so), *recorded*
//! (seen in real answers or logs that others published) or *assumed*.
//!
//! # Layers
//!
//! Each layer is a directory (or file) of `src` and imports only those that its arrow points at; a
//! test reads the sources and holds them to this drawing:
//!
//! ```text
//! vpc -> books imds hands admission calls views state words
//! imds -> views state words
//! hands -> calls state words
//! calls -> views state words
//! views -> state words
//! books -> state words
//! admission -> state words
//! state -> words
//! ```
//!
//! - `words`: what is said. Requests, answers, errors, ids, faults, policies and the spec, as plain
//!   values that know no VPC.
//! - `state`: what is. ENIs with their past, subnets with their free addresses, instances, and what
//!   must hold of them whoever changes them.
//! - `views`: what shows. State and a point in time make what EC2 describes, and the wires.
//! - `calls`: what EC2 does. One function for each action, over the state.
//! - `hands`: what happens without a call. Building, launching, terminating, others' ENIs.
//! - `admission`: what becomes of a call before and after its work, by latency, faults, request
//!   tokens and policy. It knows who calls what, and not how the work is done.
//! - `imds`: the instance metadata service, which is a server of its own beside EC2.
//! - `books`: what went wrong, recounted from the state alone, and who called what. Reads only.
//! - `vpc`: the façade, [`Vpc`]. It asks the layers in order; nothing below knows it.
//!
//! A call goes through three steps, so that a server can sleep between them and a simulation can
//! put them on its own clock:
//!
//! ```
//! use vpc_model::request::{Action, Describe};
//! use vpc_model::{Caller, Fate, NodeSpec, Response, SubnetSpec, Time, Vpc, VpcSpec};
//!
//! let spec = VpcSpec {
//!     subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
//!     nodes: vec![NodeSpec::new("node-1", "m5.large")],
//!     ..VpcSpec::default()
//! };
//! let now = Time::from_unix_millis(0);
//! let mut vpc = Vpc::new(spec, now).unwrap();
//! let caller = Caller::node("node-1");
//! let admission = vpc.begin(&caller, "DescribeNetworkInterfaces", now);
//! assert_eq!(admission.fate, Fate::Proceed);
//! let now = now + admission.before;
//! let request = Action::DescribeNetworkInterfaces(Describe::default()).into();
//! let answer = vpc.execute(&admission, &caller, &request, now).unwrap();
//! let Response::Enis(page) = answer else { panic!("another answer") };
//! assert_eq!(page.items.len(), 1);
//! // ... and the caller has it at `now + admission.after`.
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admission;
pub mod books;
mod calls;
mod hands;
pub mod imds;
mod state;
mod views;
mod vpc;
mod words;

pub use admission::{Admission, Fate, FaultState};
pub use books::{Violation, ViolationClass, audit};
pub use hands::{mirror, place};
pub use views::wires::{self, Wire};
pub use vpc::{NodeInfo, UnknownNode, Vpc};
pub use words::caller::Caller;
pub use words::error::{ApiError, SpecError};
pub use words::fault::{Effect, Fault, Omission};
pub use words::request::Request;
pub use words::response::Response;
pub use words::spec::{Latencies, Latency, Limits, NodeSpec, Placement, SubnetSpec, VpcSpec};
pub use words::time::Time;
pub use words::{error, fault, ids, policy as iam, request, response, spec};
