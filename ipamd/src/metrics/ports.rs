//! The engine's ports, counted.

use super::Metrics;
use ipam_core::eni::AttachmentId;
use ipam_core::orphans::Sighting;
use ipam_core::{Block, BlockKind, EniId, EniView, Family, SubnetView};
use ipam_engine::ports::{
    Cloud, CloudError, CreateEni, EniTag, Fut, Metadata, MetadataError, NodeFacts, Store,
    StoreError, Write,
};
use std::sync::Arc;
use std::time::Instant;

/// A port, and who counts its calls.
#[derive(Debug)]
pub struct Metered<P> {
    inner: P,
    metrics: Arc<Metrics>,
}

impl<P: Sync> Metered<P> {
    /// Counts what goes through `inner`.
    pub const fn new(inner: P, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn count<'a, T>(
        &'a self,
        action: &'static str,
        call: Fut<'a, Result<T, CloudError>>,
    ) -> Fut<'a, Result<T, CloudError>>
    where
        T: Send + 'a,
    {
        Box::pin(async move {
            let began = Instant::now();
            let result = call.await;
            // What was never sent has an action of its own; what was has its name.
            self.metrics
                .called(action, began.elapsed(), result.as_ref().err());
            result
        })
    }
}

impl<P: Cloud> Cloud for Metered<P> {
    fn describe(&self) -> Fut<'_, Result<Vec<EniView>, CloudError>> {
        self.count("DescribeNetworkInterfaces", self.inner.describe())
    }

    fn create(&self, request: CreateEni) -> Fut<'_, Result<EniView, CloudError>> {
        self.count("CreateNetworkInterface", self.inner.create(request))
    }

    fn attach(
        &self,
        eni: EniId,
        device_index: u32,
        card: u32,
    ) -> Fut<'_, Result<AttachmentId, CloudError>> {
        let call = self.inner.attach(eni, device_index, card);
        self.count("AttachNetworkInterface", call)
    }

    fn set_delete_on_termination(
        &self,
        eni: EniId,
        attachment: AttachmentId,
    ) -> Fut<'_, Result<(), CloudError>> {
        let call = self.inner.set_delete_on_termination(eni, attachment);
        self.count("ModifyNetworkInterfaceAttribute", call)
    }

    fn assign(
        &self,
        eni: EniId,
        family: Family,
        kind: BlockKind,
        count: u32,
    ) -> Fut<'_, Result<Vec<Block>, CloudError>> {
        let action = match family {
            Family::V4 => "AssignPrivateIpAddresses",
            Family::V6 => "AssignIpv6Addresses",
        };
        self.count(action, self.inner.assign(eni, family, kind, count))
    }

    fn unassign(&self, eni: EniId, blocks: Vec<Block>) -> Fut<'_, Result<(), CloudError>> {
        let action = match blocks.first().map(Block::family) {
            Some(Family::V6) => "UnassignIpv6Addresses",
            _ => "UnassignPrivateIpAddresses",
        };
        self.count(action, self.inner.unassign(eni, blocks))
    }

    fn detach(&self, attachment: AttachmentId) -> Fut<'_, Result<(), CloudError>> {
        self.count("DetachNetworkInterface", self.inner.detach(attachment))
    }

    fn delete(&self, eni: EniId) -> Fut<'_, Result<(), CloudError>> {
        self.count("DeleteNetworkInterface", self.inner.delete(eni))
    }

    fn tagged(&self) -> Fut<'_, Result<Vec<Sighting>, CloudError>> {
        self.count("DescribeNetworkInterfaces", self.inner.tagged())
    }

    fn tag(&self, eni: EniId, tag: EniTag) -> Fut<'_, Result<(), CloudError>> {
        self.count("CreateTags", self.inner.tag(eni, tag))
    }

    fn subnets(&self) -> Fut<'_, Result<Vec<SubnetView>, CloudError>> {
        self.count("DescribeSubnets", self.inner.subnets())
    }
}

impl<P: Metadata> Metadata for Metered<P> {
    fn read(&self) -> Fut<'_, Result<NodeFacts, MetadataError>> {
        Box::pin(async {
            let result = self.inner.read().await;
            self.metrics.read_imds(result.is_ok());
            result
        })
    }
}

/// The store, counted.
#[derive(Debug)]
pub struct MeteredStore<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S> MeteredStore<S> {
    /// Counts what goes through `inner`.
    pub const fn new(inner: S, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }
}

impl<S: Store> Store for MeteredStore<S> {
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let began = Instant::now();
        let result = self.inner.commit(batch);
        self.metrics.committed(began.elapsed(), result.is_ok());
        result
    }
}
