//! A call on its way to EC2 and back: it belongs to nobody once it is sent.

use crate::life::Life;
use crate::oracle;
use crate::world::World;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use vpc_model::request::Action;
use vpc_model::{ApiError, Caller, Fate, Response};

/// As the daemon's default: who waits for an answer gives up after this long.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The way to EC2: calls may be held up on it before EC2 has seen them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Road(Arc<Mutex<Vec<Duration>>>);

impl Road {
    /// The next calls are held up for so long each, the last one first.
    pub(crate) fn hold_up(&self, times: impl IntoIterator<Item = Duration>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(times);
    }

    /// Nothing is held up any more.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub(crate) fn late(&self) -> Duration {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) world: World,
    pub(crate) node: String,
    /// Whose call it is: it may end at the moment at which EC2 has done it.
    pub(crate) life: Life,
    pub(crate) late: Duration,
    pub(crate) action: Action,
    pub(crate) sent: Duration,
}

impl Parcel {
    /// Has EC2 do it; `None`: the answer is lost.
    pub(crate) async fn deliver(self) -> Option<Result<Response, ApiError>> {
        tokio::time::sleep(self.late).await;
        let name = self.action.name();
        let caller = Caller::node(&self.node);
        let now = self.world.time();
        let admission = self.world.vpc().begin(&caller, name, now);
        tokio::time::sleep(admission.before).await;
        if matches!(admission.fate, Fate::Unreached { .. }) {
            return None;
        }
        let writes = !name.starts_with("Describe");
        if writes && admission.fate == Fate::Proceed || admission.fate == Fate::Drop {
            let enis = oracle::enis(&self.world);
            let now = self.world.elapsed();
            self.world
                .oracle()
                .does(now, &self.node, &self.action, &enis);
        }
        let now = self.world.time();
        let request = self.action.clone().into();
        let result = self.world.vpc().execute(&admission, &caller, &request, now);
        self.note(&result, &admission.fate);
        if let Some(response) = result.as_ref().ok().filter(|_| writes) {
            let enis = oracle::enis(&self.world);
            let now = self.world.elapsed();
            let did = (&self.action, response);
            self.world
                .oracle()
                .did(now, &self.node, did, self.sent, &enis);
        }
        if let Err(error) = &result {
            let now = self.world.elapsed();
            let mut oracle = self.world.oracle();
            oracle.did_not(now, &self.node, &self.action, &error.code);
        }
        self.life.burn("after EC2 has done it");
        tokio::time::sleep(admission.after).await;
        (admission.fate != Fate::Drop).then_some(result)
    }

    fn note(&self, result: &Result<Response, ApiError>, fate: &Fate) {
        if let Some(call) = oracle::grows(&self.action) {
            let gave = match result {
                Ok(Response::AssignedV4 {
                    addresses,
                    prefixes,
                    ..
                }) => addresses
                    .iter()
                    .map(ToString::to_string)
                    .chain(prefixes.iter().map(ToString::to_string))
                    .collect(),
                Ok(Response::AssignedV6 { prefixes, .. }) => {
                    prefixes.iter().map(ToString::to_string).collect()
                }
                _ => Vec::new(),
            };
            self.world
                .oracle()
                .assigned(self.sent, &self.node, call, gave);
        }
        self.world.tell(&self.node, || {
            let outcome = match result {
                Ok(response) => words(response),
                Err(error) => error.code.clone(),
            };
            let lost = if *fate == Fate::Drop {
                " (the answer is lost)"
            } else {
                ""
            };
            format!("EC2 {}: {outcome}{lost}", request_words(&self.action))
        });
    }
}

fn request_words(action: &Action) -> String {
    let name = action.name();
    match action {
        Action::CreateNetworkInterface(r) => format!(
            "{name} {:?}+{:?}",
            r.v4.address_count.unwrap_or(0),
            r.v4.prefix_count.unwrap_or(0)
        ),
        Action::AttachNetworkInterface(r) => format!("{name} {} at {}", r.eni, r.device_index),
        Action::ModifyNetworkInterfaceAttribute(r) => format!("{name} {}", r.eni),
        Action::AssignPrivateIpAddresses(r) => format!(
            "{name} {} {}+{}",
            r.eni,
            r.wanted.address_count.unwrap_or(0),
            r.wanted.prefix_count.unwrap_or(0)
        ),
        Action::UnassignPrivateIpAddresses(r) => {
            format!("{name} {} {:?}{:?}", r.eni, r.addresses, r.prefixes)
        }
        Action::DetachNetworkInterface(r) => format!("{name} {}", r.attachment),
        Action::DeleteNetworkInterface(r) => format!("{name} {}", r.eni),
        _ => name.to_owned(),
    }
}

fn words(response: &Response) -> String {
    match response {
        Response::Created { eni, .. } => {
            let blocks: Vec<_> = eni.addresses.iter().map(|a| a.address).collect();
            format!("{} {blocks:?} {:?}", eni.id, eni.v4_prefixes)
        }
        Response::Attached { attachment, .. } => attachment.to_string(),
        Response::AssignedV4 {
            addresses,
            prefixes,
            ..
        } => format!("{addresses:?} {prefixes:?}"),
        Response::Enis(page) => {
            let enis: Vec<String> = page
                .items
                .iter()
                .map(|e| {
                    let held: Vec<_> = e.addresses.iter().map(|a| a.address).collect();
                    format!("{} {held:?} {:?}", e.id, e.v4_prefixes)
                })
                .collect();
            enis.join("; ")
        }
        _ => "done".into(),
    }
}
