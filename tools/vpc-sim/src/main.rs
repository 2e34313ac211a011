//! The program `vpc-sim`: runs a VPC that a file describes, until it is told to stop.

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use vpc_sim::{Listeners, Sim, SimError, SimOptions, VpcSpec, description, isolate};

/// The file is not one that a VPC can be built from (`EX_USAGE`, sysexits.h).
const BAD_FILE: u8 = 64;

/// A mini VPC: EC2, instance metadata and real network links for programs that don't know it.
#[derive(Debug, Parser)]
#[command(name = "vpc-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the VPC and run it until Ctrl-C or SIGTERM
    Serve(Serve),
    /// Check a file and say everything that is wrong with it
    Check {
        /// TOML file that describes the VPC
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Serve {
    /// TOML file that describes the VPC
    file: PathBuf,
    /// Where the control API listens; port 0 takes any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Where EC2 listens for programs outside of the nodes
    #[arg(long, default_value = "127.0.0.1:0")]
    ec2: SocketAddr,
    /// Where the first node's IMDS listens for programs outside; each further node takes the next
    /// port, or any free one with port 0
    #[arg(long, default_value = "127.0.0.1:0")]
    imds_base: SocketAddr,
    /// Don't name the nodes' namespaces in /run/netns (they are named only when run by root)
    #[arg(long)]
    private: bool,
    /// Print only the line of JSON, no words for people
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // A namespace of its own needs a process with one thread: no runtime before `serve`.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .init();
    let result = match Arguments::parse().command {
        Command::Check { file } => check(&file),
        Command::Serve(serve) => run(serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(SimError::Spec(e)) => {
            for problem in &e.problems {
                say(&format!("vpc-sim: {problem}"));
            }
            ExitCode::from(BAD_FILE)
        }
        Err(e @ SimError::File { .. }) => {
            say(&format!("vpc-sim: {e}"));
            ExitCode::from(BAD_FILE)
        }
        Err(e) => {
            say(&format!("vpc-sim: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn check(file: &std::path::Path) -> Result<(), SimError> {
    let spec = description::read(file)?;
    println!(
        "{}: good: {} subnets, {} nodes",
        file.display(),
        spec.subnets.len(),
        spec.nodes.len()
    );
    Ok(())
}

fn run(arguments: Serve) -> Result<(), SimError> {
    let spec = description::read(&arguments.file)?;
    let listeners = bind(&arguments, &spec)?;
    let outside = Outside::of(&listeners);
    let host_names = !arguments.private && vpc_sim::may_use_host_names().is_ok();
    if !host_names {
        isolate()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| SimError::Os {
            doing: "starting".into(),
            source,
        })?;
    let options = SimOptions {
        host_names,
        listeners,
        ..SimOptions::default()
    };
    runtime.block_on(serve(spec, options, &outside, arguments.json))
}

async fn serve(
    spec: VpcSpec,
    options: SimOptions,
    outside: &Outside,
    json: bool,
) -> Result<(), SimError> {
    let os = |source| SimError::Os {
        doing: "listening for signals".into(),
        source,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(os)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(os)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(os)?;
    let sim = tokio::select! {
        sim = Sim::start(spec, options) => sim?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    let ready = outside.ready(&sim);
    println!("{ready}");
    if let Err(source) = std::io::stdout().flush() {
        return Err(SimError::Os {
            doing: "saying that it is ready".into(),
            source,
        });
    }
    if !json {
        tell(&ready);
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    sim.shutdown().await;
    if !json {
        say("vpc-sim: stopped, nothing is left");
    }
    Ok(())
}

/// Sockets outside are bound before the process leaves the host's network namespace.
fn bind(arguments: &Serve, spec: &VpcSpec) -> Result<Listeners, SimError> {
    let listen = |address: SocketAddr, what: &str| {
        TcpListener::bind(address).map_err(|source| SimError::Os {
            doing: format!("{what}: listening on {address}"),
            source,
        })
    };
    let mut imds = BTreeMap::new();
    for (i, node) in (0u16..).zip(&spec.nodes) {
        let mut address = arguments.imds_base;
        if address.port() != 0 {
            address.set_port(address.port().saturating_add(i));
        }
        imds.insert(
            node.name.clone(),
            listen(address, &format!("IMDS of {}", node.name))?,
        );
    }
    Ok(Listeners {
        control: Some(listen(arguments.control, "control API")?),
        ec2: Some(listen(arguments.ec2, "EC2")?),
        imds,
    })
}

/// URLs for programs outside.
#[derive(Debug)]
struct Outside {
    control: Option<String>,
    ec2: Option<String>,
    imds: BTreeMap<String, Option<String>>,
}

impl Outside {
    fn of(listeners: &Listeners) -> Self {
        let url = |l: &TcpListener| l.local_addr().ok().map(|a| format!("http://{a}"));
        Self {
            control: listeners.control.as_ref().and_then(url),
            ec2: listeners.ec2.as_ref().and_then(url),
            imds: listeners
                .imds
                .iter()
                .map(|(node, l)| (node.clone(), url(l)))
                .collect(),
        }
    }

    /// What a program needs to know, as one value.
    fn ready(&self, sim: &Sim) -> Value {
        let mut nodes = sim.describe_nodes();
        for node in &mut nodes {
            let name = node
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if let Some(object) = node.as_object_mut() {
                object.insert(
                    "imds".into(),
                    json!(self.imds.get(&name).cloned().flatten()),
                );
            }
        }
        let internet = sim.internet_addresses();
        let region = sim.vpc().spec().region.clone();
        json!({
            "ready": true,
            "pid": std::process::id(),
            "control": self.control,
            "ec2": {"inside": sim.ec2_url(), "outside": self.ec2},
            "imds": {"inside": vpc_sim::IMDS_URL},
            "region": region,
            "internet": {"ipv4": internet.v4, "ipv6": internet.v6},
            "nodes": nodes,
        })
    }
}

/// The same in words.
fn tell(ready: &Value) {
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let ec2 = &ready["ec2"];
    say(&format!(
        "EC2      {} in nodes, {} here",
        text(ec2, "inside"),
        text(ec2, "outside")
    ));
    say(&format!("control  {}", text(ready, "control")));
    say(&format!("internet {}", text(&ready["internet"], "ipv4")));
    for node in ready["nodes"].as_array().into_iter().flatten() {
        say(&format!(
            "{}: {} {} at {} on {}; IMDS here {}",
            text(node, "name"),
            text(node, "instance_type"),
            text(node, "instance"),
            text(node, "primary_address"),
            text(node, "link"),
            text(node, "imds"),
        ));
        if node["ip_netns"].is_string() {
            say(&format!("  {} PROGRAM", text(node, "ip_netns")));
        }
        say(&format!("  {} PROGRAM", text(node, "enter")));
    }
    say("Ctrl-C removes everything");
}

/// Words for people: nobody may be there to read them, and that is no reason to stop.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "{words}");
}
