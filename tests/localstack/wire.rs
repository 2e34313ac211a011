//! Promise: `vpc-sim` speaks EC2's protocol as an EC2 does that we did not write. The same calls go to
//! stock LocalStack and to `vpc-sim`, and the answers are held against each other: status, code,
//! message, which elements there are, and what they say.
//!
//! What LocalStack is known to do wrong is not asked, or is in the list of allowed differences with the
//! reason. An allowed difference that does not occur is a failure too: the list stays true.

mod script;

use ipamd_localstack::differ::{Names, Side, differences};
use ipamd_localstack::ec2::{Answer, Ec2};
use ipamd_localstack::server::{Kind, LocalStack};
use ipamd_localstack::world::World;
use ipamd_tests::{Outcome, ensure};
use lab::{ClusterSpec, DaemonSpec};
use script::{Allowed, Step};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use vpc_model::Latencies;
use vpc_sim::testing::{Failure, Test, run};
use vpc_sim::{Listeners, Sim, SimOptions};

fn main() -> std::process::ExitCode {
    run(&[Test {
        name: "same_calls_same_answers",
        run: same_answers,
    }])
}

/// One EC2 with what it calls things.
struct Player {
    ec2: Ec2,
    names: Names,
}

impl Player {
    /// Makes the call of a step, and keeps the names that come of it.
    fn play(&mut self, step: &Step) -> Result<Answer, Failure> {
        let fill = |value: &str| {
            self.names
                .iter()
                .fold(value.to_owned(), |text, (name, id)| {
                    text.replace(&format!("{{{name}}}"), id)
                })
        };
        let filled: Vec<_> = step
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), fill(value)))
            .collect();
        let mut parameters = vec![("Action", step.action.as_str())];
        parameters.extend(filled.iter().map(|(name, value)| (*name, value.as_str())));
        let answer = self.ec2.answer(&parameters)?;
        for (name, path) in &step.keep {
            self.names
                .insert(name.clone(), answer.root.text(path).to_owned());
        }
        Ok(answer)
    }
}

fn same_answers() -> Outcome {
    let mut localstack = LocalStack::start(Kind::Stock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    localstack.wait(runtime.handle())?;
    let theirs = Ec2::new(localstack.address(), runtime.handle().clone());
    let world = World::make(&theirs, "m5.large", "10.0.0.0/18")?;
    let (sim, address) = simulate(&world)?;
    let ours = Ec2::new(address, runtime.handle().clone());
    let names = names(&world);
    let mut judge = Player {
        ec2: theirs,
        names: names.clone(),
    };
    let mut candidate = Player { ec2: ours, names };
    let (steps, allowed) = (script::steps()?, script::allowed()?);
    let (mut problems, mut used) = (Vec::new(), BTreeSet::new());
    for step in &steps {
        let (theirs, ours) = (judge.play(step)?, candidate.play(step)?);
        let found = differences(
            Side {
                answer: &theirs,
                names: &judge.names,
            },
            Side {
                answer: &ours,
                names: &candidate.names,
            },
        );
        for difference in found {
            match allowed
                .iter()
                .position(|a| a.allows(step, &difference.kind()))
            {
                Some(n) => drop(used.insert(n)),
                None => problems.push(format!("{}: {difference:?}", step.name)),
            }
        }
    }
    drop(sim);
    let idle = |(n, _): &(usize, &Allowed)| !used.contains(n);
    for (_, allowed) in allowed.iter().enumerate().filter(idle) {
        problems.push(format!("allowed, and does not occur: {allowed:?}"));
    }
    ensure(
        problems.is_empty(),
        format!("{} differences:\n{}", problems.len(), problems.join("\n")),
    )
}

/// The mini VPC with the same VPC, subnet, group and instance.
fn simulate(world: &World) -> Result<(Sim, SocketAddr), Failure> {
    let daemon = DaemonSpec::ipamd(Path::new("none"), false);
    let mut cluster = ClusterSpec::new(daemon, &world.instance_type, 1);
    world.put_into(&mut cluster);
    let mut spec = cluster.vpc;
    spec.latencies = Latencies::zero();
    for node in &mut spec.nodes {
        // LocalStack's has none.
        node.public_ip = None;
    }
    for group in &mut spec.security_groups {
        group.description = "default VPC security group".into();
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let options = SimOptions {
        listeners: Listeners {
            ec2: Some(listener),
            ..Listeners::default()
        },
        ..SimOptions::default()
    };
    let sim = Sim::start_blocking(spec, options)?;
    let now = sim.clock().now();
    sim.vpc()
        .mirror(std::slice::from_ref(&world.primary), now)?;
    Ok((sim, address))
}

/// What both sides call the same.
fn names(world: &World) -> Names {
    let attachment = world.primary.attachment.as_ref();
    let names = [
        ("vpc", world.vpc.clone()),
        ("subnet", world.subnet.clone()),
        ("group", world.group.clone()),
        ("instance", world.instance.clone()),
        ("primary", world.primary.id.to_string()),
        (
            "first",
            attachment.map(|a| a.id.to_string()).unwrap_or_default(),
        ),
    ];
    names
        .into_iter()
        .map(|(name, id)| (name.to_owned(), id))
        .collect()
}
