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
mod alloc;
pub mod audit;
pub mod books;
mod brief;
mod bucket;
mod build;
mod calls;
mod catalog;
pub mod error;
pub mod fault;
mod filter;
pub mod iam;
pub mod ids;
pub mod imds;
mod latency;
mod launch;
pub mod mirror;
mod paging;
pub mod request;
pub mod response;
mod rng;
mod space4;
mod space6;
pub mod spec;
mod state;
mod store;
mod time;
mod views;
mod vpc;
pub mod wires;

pub use admission::{Admission, Caller, Fate};
pub use books::{Violation, ViolationClass};
pub use error::{ApiError, SpecError};
pub use fault::{Effect, Fault, FaultState};
pub use request::Request;
pub use response::Response;
pub use spec::{Latencies, Latency, Limits, NodeSpec, Placement, SubnetSpec, VpcSpec};
pub use time::Time;
pub use vpc::{NodeInfo, UnknownNode, Vpc};
pub use wires::Wire;
