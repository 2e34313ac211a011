//! All of it, ready for a scenario: LocalStack, a VPC and a node in it, the mini VPC that shows them,
//! the bridge, and the daemon under test, which takes the bridge for EC2.

use crate::bridge::Bridge;
use crate::ec2::{CallError, Ec2};
use crate::server::{Kind, LocalStack};
use crate::world::{self, World};
use ipamd_tests::{Mode, Outcome, Scene, ensure, no_leftovers, none_wrong, spec};
use lab::{ClusterSpec, DaemonSpec};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::runtime::Runtime;
use vpc_model::mirror::Twin;
use vpc_sim::testing::Failure;

/// What a scenario wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How much of LocalStack's EC2 is its own.
    pub kind: Kind,
    /// How addresses come.
    pub mode: Mode,
    /// The node's instance type.
    pub instance_type: &'static str,
    /// The subnet's block.
    pub cidr: &'static str,
    /// Settings of the daemon.
    pub settings: &'static [(&'static str, &'static str)],
}

impl Wanted {
    /// LocalStack with the plugin, an m5.large in a subnet with plenty of room.
    #[must_use]
    pub fn new(mode: Mode, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            kind: Kind::Completed,
            mode,
            instance_type: "m5.large",
            cidr: "10.0.0.0/18",
            settings,
        }
    }
}

/// The stage. Daemons and namespaces go before the bridge, and LocalStack goes last.
#[derive(Debug)]
pub struct Stage {
    /// The cluster of one node, and its pods.
    pub scene: Scene,
    /// Between daemon and LocalStack.
    pub bridge: Bridge,
    /// LocalStack, for calls past the bridge: an operator's.
    pub ec2: Ec2,
    /// What was made in LocalStack at first; none where it has no EC2.
    pub world: Option<World>,
    runtime: Runtime,
    localstack: LocalStack,
}

impl Stage {
    /// Sets the stage. No daemon runs yet.
    ///
    /// # Errors
    /// Something is missing or can't be started; a skip if LocalStack is not set up here.
    pub fn set(wanted: &Wanted) -> Result<Self, Failure> {
        let mut localstack = LocalStack::start(wanted.kind)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bridge")
            .enable_all()
            .build()?;
        let mut spec = spec(wanted.mode, wanted.instance_type)?;
        for (name, value) in wanted.settings {
            spec.daemon = spec.daemon.set(name, value);
        }
        localstack.wait(runtime.handle())?;
        let ec2 = Ec2::new(localstack.address(), runtime.handle().clone());
        let world = match wanted.kind {
            Kind::WithoutEc2 => None,
            _ => Some(World::make(&ec2, wanted.instance_type, wanted.cidr)?),
        };
        if let Some(world) = &world {
            world.put_into(&mut spec);
        }
        Self::join(spec, localstack, ec2, world, runtime)
    }

    fn join(
        spec: ClusterSpec,
        localstack: LocalStack,
        ec2: Ec2,
        world: Option<World>,
        runtime: Runtime,
    ) -> Result<Self, Failure> {
        let mut scene = Scene::new(spec)?;
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = scene.node().sim().net().tcp_listener(anywhere)?;
        let url = format!("http://{}", listener.local_addr()?);
        let model = scene.cluster.sim().model();
        let vpc = world.as_ref().map(|w| w.vpc.clone());
        let bridge = Bridge::open(listener, localstack.address(), vpc, model, runtime.handle())?;
        let daemon = scene.node().spec_mut();
        *daemon = DaemonSpec::clone(daemon).set("AWS_ENDPOINT_URL_EC2", url);
        let stage = Self {
            scene,
            bridge,
            ec2,
            world,
            runtime,
            localstack,
        };
        stage.follow()?;
        Ok(stage)
    }

    /// Tells the mini VPC what an operator has done.
    ///
    /// # Errors
    /// It can't be shown.
    pub fn follow(&self) -> Outcome {
        Ok(self.runtime.block_on(self.bridge.follow())?)
    }

    /// The VPC's interfaces as LocalStack has them now.
    ///
    /// # Errors
    /// LocalStack does not answer as it should, or has no EC2.
    pub fn enis(&self) -> Result<Vec<Twin>, Failure> {
        let Some(world) = &self.world else {
            return ipamd_tests::fail("LocalStack has no EC2");
        };
        let twins = world::twins(self.localstack.address(), &world.vpc);
        Ok(self.runtime.block_on(twins)?)
    }

    /// Calls so far that change something.
    #[must_use]
    pub fn writes(&self) -> usize {
        let passed = self.bridge.passed();
        let write = |action: &str| !action.starts_with("Describe");
        passed.iter().filter(|p| write(&p.action)).count()
    }

    /// The last calls, for people.
    #[must_use]
    pub fn recent(&self) -> String {
        let passed = self.bridge.passed();
        let last = passed.iter().skip(passed.len().saturating_sub(15));
        let line = |p: &crate::bridge::Passed| {
            let code = p.code.as_deref().unwrap_or_default();
            format!("{} {} {code} {}", p.action, p.status, p.form)
        };
        last.map(line).collect::<Vec<_>>().join("\n")
    }

    /// Ends pods, daemon and node, as an operator would; with the node goes every interface in
    /// LocalStack.
    ///
    /// # Errors
    /// Pods, the mini VPC's books or LocalStack show that something is left, or was wrong.
    pub fn end(self) -> Outcome {
        self.bridge_is_well()?;
        self.scene.nothing_is_left()?;
        let Some(world) = self.world else {
            return Ok(());
        };
        terminate(&self.ec2, &world.instance)?;
        let left = world::twins(self.localstack.address(), &world.vpc);
        let left = self.runtime.block_on(left)?;
        ensure(left.is_empty(), format!("left in LocalStack: {left:?}"))
    }

    /// The same for stock LocalStack, which forgets DeleteOnTermination: interfaces stay.
    ///
    /// # Errors
    /// As [`Self::end`], but for interfaces.
    pub fn end_stock(mut self) -> Outcome {
        self.bridge_is_well()?;
        self.scene.del_pods()?;
        self.scene.settled()?;
        no_leftovers(self.scene.node())?;
        self.scene.node().stop()?;
        none_wrong(lab::check::books(&self.scene.cluster)?)
    }

    fn bridge_is_well(&self) -> Outcome {
        let failures = self.bridge.failures();
        ensure(failures.is_empty(), failures.join("\n"))
    }
}

fn terminate(ec2: &Ec2, instance: &str) -> Result<(), CallError> {
    let ask = [("Action", "TerminateInstances"), ("InstanceId.1", instance)];
    ec2.call(&ask).map(drop)
}
