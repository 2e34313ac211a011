//! EC2 for one node, by the model.

use crate::clock::SystemClock;
mod views;

use views::sighting;
pub(crate) use views::view;

use crate::life::Life;
use crate::oracle::{self, Answer};
use crate::parcel::{Parcel, Road, TIME_LIMIT};
use crate::store::Memory;
use crate::world::World;
use ipam_core::cloud::classify;
use ipam_core::eni::AttachmentId;
use ipam_core::{Block, BlockKind, EniId, EniView, Family, SubnetView, Timestamp};
use ipam_engine::ports::{Cloud, CloudError, CreateEni, EniTag, ErrorClass, Fut, Sighting};
use ipnet::IpNet;
use mutant::mutant;
use std::collections::BTreeMap;
use vpc_model::Response;
use vpc_model::request::{
    Action, AssignIpv6Addresses, AssignPrivateIpAddresses, AttachNetworkInterface,
    CreateNetworkInterface, CreateTags, DeleteNetworkInterface, Describe, DetachNetworkInterface,
    EniAttribute, ModifyNetworkInterfaceAttribute, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, Wanted,
};
use vpc_model::response::Eni;

/// The tag that says whose an ENI is, as the daemon sets it.
pub(crate) const OWNER_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// As the daemon's, but in milliseconds since the epoch.
pub(crate) const CREATED_TAG: &str = "node.k8s.amazonaws.com/createdAt";
/// As the daemon's.
const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";
/// As the daemon reads it.
const NO_MANAGE_TAG: &str = "node.k8s.amazonaws.com/no_manage";
/// All nodes of a world are one cluster.
pub(crate) const CLUSTER: &str = "sim";

/// See the module. What one run of a daemon asks of EC2.
#[derive(Debug)]
pub(crate) struct ModelCloud {
    pub(crate) world: World,
    pub(crate) node: String,
    pub(crate) instance: String,
    pub(crate) life: Life,
    /// What must be on the disk before a call is sent.
    pub(crate) disk: Memory,
    pub(crate) road: Road,
    pub(crate) clock: SystemClock,
}

impl ModelCloud {
    /// One call: what is sent goes on whatever becomes of the sender.
    async fn call(&self, action: Action) -> Result<Response, CloudError> {
        self.life.step("before a call is sent");
        let name = action.name();
        let sent = self.world.elapsed();
        let grows = oracle::grows(&action).map(|(eni, family)| (eni.to_owned(), family));
        self.judge(sent, &action);
        self.world.oracle().ledger.sent(&self.node, name);
        let parcel = Parcel {
            world: self.world.clone(),
            node: self.node.clone(),
            life: self.life.clone(),
            late: self.road.late(),
            action: action.clone(),
            sent,
        };
        let answer = tokio::time::timeout(TIME_LIMIT, tokio::spawn(parcel.deliver()));
        let answer = self.life.mortal(answer).await;
        self.life.step("when an answer has come");
        let lost = |code: &str, message: &str| CloudError {
            action: name,
            class: ErrorClass::UnknownOutcome,
            code: code.into(),
            message: message.into(),
        };
        let result = match answer {
            Err(_) => Err(lost("Timeout", "no answer within the time limit")),
            Ok(Err(_) | Ok(None)) => Err(lost(
                "ConnectionClosed",
                "the connection was closed before an answer came",
            )),
            Ok(Ok(Some(answer))) => {
                if let Some((eni, family)) = grows {
                    let call = (eni.as_str(), family);
                    self.world.oracle().assign_answered(&self.node, call);
                }
                self.heard();
                let now = self.world.elapsed();
                let mut oracle = self.world.oracle();
                match &answer {
                    Ok(_) => oracle.granted(&self.node, &action),
                    Err(_) => oracle.refused(now, &self.node, &action, sent),
                }
                drop(oracle);
                answer.map_err(|e| CloudError {
                    action: name,
                    class: classify(name, &e.code, &e.message, e.http_status),
                    code: e.code,
                    message: e.message,
                })
            }
        };
        let came_to = match &result {
            Ok(_) => Answer::Done,
            Err(error) if error.class == ErrorClass::Throttled => Answer::SlowDown,
            Err(_) => Answer::Other,
        };
        let now = self.world.elapsed();
        let mut oracle = self.world.oracle();
        oracle.paced(now, &self.node, name, came_to);
        // Asked again within the hour: until then the primary ENI's subnet must do.
        oracle.retagged |= result.is_err() && name == "DescribeSubnets";
        let code = result.as_ref().err().map_or("", |error| &error.code);
        oracle.ledger.heard(now, &self.node, name, code);
        drop(oracle);
        if let Err(error) = &result {
            self.world.oracle().troubled(&self.node);
            self.world
                .tell(&self.node, || format!("<- {name}: {}", error.code));
        }
        result
    }

    /// Whether it may send this.
    fn judge(&self, now: std::time::Duration, action: &Action) {
        let writes = !action.name().starts_with("Describe");
        let enis = match writes {
            true => oracle::enis(&self.world),
            false => Vec::new(),
        };
        let mut oracle = self.world.oracle();
        oracle.sends(now, &self.node, &self.disk, action);
        oracle.paces(now, &self.node, action.name());
        if writes {
            oracle.checks_target(now, &self.node, action, &enis);
            oracle.checks_doubt(now, &self.node, action, &enis);
        }
    }

    /// The daemon has EC2's newest word: what an operator took and EC2 gave again is no mistake now.
    fn heard(&self) {
        if self.world.oracle().no_hands() {
            return;
        }
        let mut enis = oracle::enis(&self.world);
        enis.retain(|eni| !eni.going);
        // As far as it has written down which ENI holds it.
        for eni in &mut enis {
            let knows = |block: &IpNet| {
                let block = Block::new(*block).ok();
                self.disk.any_eni(|e| {
                    e.id.as_ref().is_some_and(|id| id.as_str() == eni.id)
                        && block.is_some_and(|b| e.blocks.contains_key(&b))
                })
            };
            eni.blocks = eni.blocks.iter().filter(|b| knows(b)).copied().collect();
        }
        self.world.oracle().given_again(&self.node, &enis);
    }

    async fn pages(&self, what: Describe<vpc_model::ids::EniId>) -> Result<Vec<Eni>, CloudError> {
        let mut all = Vec::new();
        let mut next_token = None;
        loop {
            let by = Describe {
                max_results: Some(1000),
                next_token,
                ..what.clone()
            };
            let answer = self.call(Action::DescribeNetworkInterfaces(by)).await?;
            let Response::Enis(page) = answer else {
                return Err(unexpected("DescribeNetworkInterfaces"));
            };
            all.extend(page.items);
            next_token = page.next_token;
            if next_token.is_none() {
                return Ok(all);
            }
        }
    }

    fn tags(&self, created: Timestamp) -> BTreeMap<String, String> {
        BTreeMap::from([
            (OWNER_TAG.to_owned(), self.instance.clone()),
            (CREATED_TAG.to_owned(), created.0.to_string()),
            (CLUSTER_TAG.to_owned(), CLUSTER.to_owned()),
        ])
    }

    /// The ENI that came with this node's instance.
    fn own_eni(&self) -> Option<vpc_model::ids::EniId> {
        let nodes = self.world.vpc().nodes();
        let mut mine = nodes.into_iter();
        let mine = mine.find(|n| n.name.as_str() == self.node)?;
        mine.primary_eni
    }

    /// The VPC and the zone that this node is in.
    fn facts(&self) -> Option<(String, String)> {
        let enis = self.world.vpc().enis(self.world.time());
        let mine = enis.into_iter().find(|eni| {
            let attachment = eni.attachment.as_ref();
            attachment.is_some_and(|a| a.instance.as_str() == self.instance)
        })?;
        Some((mine.vpc.as_str().to_owned(), mine.zone))
    }

    /// An ENI as the engine wants it; the subnet's prefix length comes from IMDS in the daemon and
    /// from the model's list of subnets here.
    fn view(&self, eni: &Eni) -> EniView {
        view(&self.world, eni, &self.instance)
    }
}

fn wanted<A, P>(kind: BlockKind, count: u32) -> Wanted<A, P> {
    let (address_count, prefix_count) = match kind {
        BlockKind::Address => (Some(count), None),
        BlockKind::Prefix => (None, Some(count)),
    };
    Wanted {
        address_count,
        prefix_count,
        ..Wanted::default()
    }
}

fn unexpected(action: &'static str) -> CloudError {
    CloudError {
        action,
        class: ErrorClass::Other,
        code: "UnexpectedAnswer".into(),
        message: "the model answered another question".into(),
    }
}

impl Cloud for ModelCloud {
    fn describe(&self) -> Fut<'_, Result<Vec<EniView>, CloudError>> {
        Box::pin(async {
            let begun = self.world.elapsed();
            let mine = Describe::default().filter("attachment.instance-id", &self.instance);
            let enis = self.pages(mine).await?;
            let now = self.world.elapsed();
            let own = self.own_eni();
            let complete = enis.iter().any(|eni| Some(&eni.id) == own.as_ref());
            let mut oracle = self.world.oracle();
            oracle.ledger.described(now, &self.node, complete);
            drop(oracle);
            let all: Vec<EniView> = enis.iter().map(|eni| self.view(eni)).collect();
            if !complete {
                return Ok(all);
            }
            let shown = all.iter().map(|eni| {
                let blocks = eni.blocks.iter().map(ToString::to_string);
                (eni.id.as_str().to_owned(), blocks.collect())
            });
            self.world
                .oracle()
                .described(begun, &self.node, &shown.collect());
            Ok(all)
        })
    }

    fn tagged(&self) -> Fut<'_, Result<Vec<Sighting>, CloudError>> {
        Box::pin(async {
            let all = mutant!(
                "orphans/other-clusters-stay",
                Describe::default().filter(&format!("tag:{CLUSTER_TAG}"), CLUSTER),
                Describe::default()
            )
            .filter("tag-key", OWNER_TAG);
            let enis = self.pages(all).await?;
            Ok(enis.iter().filter_map(sighting).collect())
        })
    }

    fn tag(&self, eni: EniId, tag: EniTag) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let mut tags = self.tags(self.clock.now(&self.world));
            match tag {
                EniTag::CreatedNow => tags.retain(|key, _| key == CREATED_TAG),
                EniTag::Mine => tags.retain(|key, _| key != CREATED_TAG),
            }
            let request = CreateTags {
                resources: vec![eni.0],
                tags,
            };
            self.call(Action::CreateTags(request)).await.map(drop)
        })
    }

    fn create(&self, r: CreateEni) -> Fut<'_, Result<EniView, CloudError>> {
        Box::pin(async move {
            let request = CreateNetworkInterface {
                subnet: Some(r.subnet.as_str().into()),
                description: format!("aws-K8S-{}", self.instance),
                groups: r
                    .security_groups
                    .iter()
                    .map(|g| g.as_str().into())
                    .collect(),
                v4: if r.family == Family::V4 {
                    wanted(r.kind, r.count)
                } else {
                    Wanted::default()
                },
                v6: if r.family == Family::V6 {
                    wanted(r.kind, r.count)
                } else {
                    Wanted::default()
                },
                tags: self.tags(r.asked),
                client_token: Some(r.token),
                ..CreateNetworkInterface::default()
            };
            match self.call(Action::CreateNetworkInterface(request)).await? {
                Response::Created { eni, .. } => Ok(self.view(&eni)),
                _ => Err(unexpected("CreateNetworkInterface")),
            }
        })
    }

    fn attach(
        &self,
        eni: EniId,
        device_index: u32,
        card: u32,
    ) -> Fut<'_, Result<AttachmentId, CloudError>> {
        Box::pin(async move {
            let request = AttachNetworkInterface {
                eni: eni.as_str().into(),
                instance: self.instance.as_str().into(),
                device_index,
                card: Some(card),
            };
            match self.call(Action::AttachNetworkInterface(request)).await? {
                Response::Attached { attachment, .. } => Ok(attachment.as_str().to_owned()),
                _ => Err(unexpected("AttachNetworkInterface")),
            }
        })
    }

    fn set_delete_on_termination(
        &self,
        eni: EniId,
        attachment: AttachmentId,
    ) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let request = ModifyNetworkInterfaceAttribute {
                eni: eni.as_str().into(),
                attribute: Some(EniAttribute::DeleteOnTermination {
                    attachment: attachment.as_str().into(),
                    value: true,
                }),
            };
            self.call(Action::ModifyNetworkInterfaceAttribute(request))
                .await
                .map(drop)
        })
    }

    fn assign(
        &self,
        eni: EniId,
        family: Family,
        kind: BlockKind,
        count: u32,
    ) -> Fut<'_, Result<Vec<Block>, CloudError>> {
        Box::pin(async move {
            let eni = eni.as_str().into();
            let action = match family {
                Family::V4 => Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
                    eni,
                    wanted: wanted(kind, count),
                    allow_reassignment: false,
                }),
                Family::V6 => Action::AssignIpv6Addresses(AssignIpv6Addresses {
                    eni,
                    wanted: wanted(kind, count),
                }),
            };
            Ok(match self.call(action).await? {
                Response::AssignedV4 {
                    addresses,
                    prefixes,
                    ..
                } => addresses
                    .into_iter()
                    .map(|a| Block::address(a.into()))
                    .chain(
                        prefixes
                            .into_iter()
                            .map(|p| Block::prefix_of(p.network().into())),
                    )
                    .collect(),
                Response::AssignedV6 {
                    addresses,
                    prefixes,
                    ..
                } => addresses
                    .into_iter()
                    .map(|a| Block::address(a.into()))
                    .chain(
                        prefixes
                            .into_iter()
                            .map(|p| Block::prefix_of(p.network().into())),
                    )
                    .collect(),
                _ => return Err(unexpected("AssignPrivateIpAddresses")),
            })
        })
    }

    fn unassign(&self, eni: EniId, blocks: Vec<Block>) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let mut v4 = UnassignPrivateIpAddresses {
                eni: eni.as_str().into(),
                addresses: Vec::new(),
                prefixes: Vec::new(),
            };
            let mut v6 = UnassignIpv6Addresses {
                eni: eni.as_str().into(),
                addresses: Vec::new(),
                prefixes: Vec::new(),
            };
            for block in blocks {
                match (block.net(), block.kind()) {
                    (IpNet::V4(net), BlockKind::Address) => v4.addresses.push(net.addr()),
                    (IpNet::V4(net), BlockKind::Prefix) => v4.prefixes.push(net),
                    (IpNet::V6(net), BlockKind::Address) => v6.addresses.push(net.addr()),
                    (IpNet::V6(net), BlockKind::Prefix) => v6.prefixes.push(net),
                }
            }
            if !v4.addresses.is_empty() || !v4.prefixes.is_empty() {
                self.call(Action::UnassignPrivateIpAddresses(v4)).await?;
            }
            if !v6.addresses.is_empty() || !v6.prefixes.is_empty() {
                self.call(Action::UnassignIpv6Addresses(v6)).await?;
            }
            Ok(())
        })
    }

    fn detach(&self, attachment: AttachmentId) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let request = DetachNetworkInterface {
                attachment: attachment.as_str().into(),
                force: false,
            };
            self.call(Action::DetachNetworkInterface(request))
                .await
                .map(drop)
        })
    }

    fn subnets(&self) -> Fut<'_, Result<Vec<SubnetView>, CloudError>> {
        Box::pin(async {
            let facts = self.facts();
            let (vpc, zone) = facts.ok_or_else(|| unexpected("DescribeSubnets"))?;
            let mut all = Vec::new();
            let mut next_token = None;
            loop {
                let by = Describe {
                    max_results: Some(100),
                    next_token,
                    ..Describe::default()
                }
                .filter("vpc-id", &vpc)
                .filter("availability-zone", &zone);
                let Response::Subnets(page) = self.call(Action::DescribeSubnets(by)).await? else {
                    return Err(unexpected("DescribeSubnets"));
                };
                all.extend(page.items.into_iter().map(|subnet| SubnetView {
                    id: subnet.id.as_str().into(),
                    cidr: Some(subnet.cidr.into()),
                    available: subnet.available,
                    tags: subnet.tags,
                }));
                next_token = page.next_token;
                if next_token.is_none() {
                    return Ok(all);
                }
            }
        })
    }

    fn delete(&self, eni: EniId) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(async move {
            let request = DeleteNetworkInterface {
                eni: eni.as_str().into(),
            };
            self.call(Action::DeleteNetworkInterface(request))
                .await
                .map(drop)
        })
    }
}
