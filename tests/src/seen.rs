//! What a person sees of a daemon from outside, its log and its metrics, and what an operator does by
//! hand in EC2.

use crate::{Scene, fail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use vpc_model::request::{
    Action, AttachNetworkInterface, CreateNetworkInterface, CreateTags, DeleteNetworkInterface,
    DetachNetworkInterface,
};
use vpc_model::{Admission, Caller, Response};
use vpc_sim::testing::Failure;

/// Scrapes that follow each other so closely get one text.
const FRESH: Duration = Duration::from_millis(260);
/// For one answer of the metrics' server.
const SCRAPE: Duration = Duration::from_secs(10);

/// The daemon's metrics, as Prometheus gets them: over HTTP, in the node's namespace. What has happened by now
/// is in them.
///
/// # Errors
/// Nobody answers at the address, or not with 200.
pub fn metrics(scene: &mut Scene) -> Result<String, Failure> {
    std::thread::sleep(FRESH);
    let scrape = || -> std::io::Result<String> {
        // A daemon that has just begun may not listen yet.
        let begun = Instant::now();
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", 61678)) {
                Err(_) if begun.elapsed() < SCRAPE => std::thread::sleep(SCRAPE / 50),
                result => break result?,
            }
        };
        stream.set_read_timeout(Some(SCRAPE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match scene.node().sim().run(scrape)? {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(answer),
        Ok(answer) => fail(format!("the metrics answer {answer}")),
        Err(error) => fail(format!("the metrics: {error}")),
    }
}

/// The value of a series by its whole name, labels and all; 0 if it is not there.
#[must_use]
pub fn value(metrics: &str, series: &str) -> f64 {
    let rest = metrics
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    rest.and_then(|v| v.trim().parse().ok()).unwrap_or(0.0)
}

/// Everything that the first node's daemons have logged.
///
/// # Errors
/// There is no log.
pub fn log(scene: &mut Scene) -> Result<String, Failure> {
    let path = scene.node().log().to_owned();
    match std::fs::read(&path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => fail(format!("{}: {error}", path.display())),
    }
}

/// One call by hand, with all rights, past every fault.
///
/// # Errors
/// EC2's.
pub fn operate(scene: &Scene, action: Action) -> Result<Response, Failure> {
    let sim = scene.cluster.sim();
    let now = sim.clock().now();
    let name = action.name();
    let done = sim.vpc().execute(
        &Admission::immediate(),
        &Caller::Operator,
        &action.into(),
        now,
    );
    done.or_else(|error| fail(format!("{name}: {} {}", error.code, error.message)))
}

/// Makes an ENI by hand, with these tags, and attaches it to the first node. Returns its id.
///
/// # Errors
/// EC2's.
pub fn attach_stranger(
    scene: &Scene,
    interface_type: Option<&str>,
    tags: &[(&str, &str)],
    device_index: u32,
) -> Result<String, Failure> {
    let (subnet, instance) = {
        let vpc = scene.cluster.sim().vpc();
        let subnet = vpc.subnets().first().map(|subnet| subnet.id.clone());
        (
            subnet,
            vpc.nodes().first().map(|node| node.instance.clone()),
        )
    };
    let Some(instance) = instance else {
        return fail("no node");
    };
    let create = CreateNetworkInterface {
        subnet,
        interface_type: interface_type.map(str::to_owned),
        tags: tags
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..CreateNetworkInterface::default()
    };
    let Response::Created { eni, .. } = operate(scene, Action::CreateNetworkInterface(create))?
    else {
        return fail("no ENI");
    };
    let attach = AttachNetworkInterface {
        eni: eni.id.clone(),
        instance,
        device_index,
        card: None,
    };
    operate(scene, Action::AttachNetworkInterface(attach))?;
    // Until IMDS lists it, too (`Latencies::eni_in_imds_ms` of [`crate::quick`], with room).
    std::thread::sleep(Duration::from_secs(1));
    Ok(eni.id.as_str().to_owned())
}

/// Sets a tag by hand.
///
/// # Errors
/// EC2's.
pub fn tag(scene: &Scene, resource: &str, key: &str, value: &str) -> Result<(), Failure> {
    let tags = CreateTags {
        resources: vec![resource.to_owned()],
        tags: [(key.to_owned(), value.to_owned())].into(),
    };
    operate(scene, Action::CreateTags(tags)).map(drop)
}

/// Detaches and deletes by hand what [`attach_stranger`] made.
///
/// # Errors
/// EC2's.
pub fn remove_stranger(scene: &Scene, eni: &str) -> Result<(), Failure> {
    let now = scene.cluster.sim().clock().now();
    let enis = scene.cluster.sim().vpc().enis(now);
    let Some(eni) = enis.into_iter().find(|e| e.id.as_str() == eni) else {
        return fail(format!("{eni} is gone: somebody else took it away"));
    };
    if let Some(attachment) = &eni.attachment {
        let detach = DetachNetworkInterface {
            attachment: attachment.id.clone(),
            force: true,
        };
        operate(scene, Action::DetachNetworkInterface(detach))?;
    }
    let limit = std::time::Instant::now() + crate::SOON;
    loop {
        let delete = DeleteNetworkInterface {
            eni: eni.id.clone(),
        };
        match operate(scene, Action::DeleteNetworkInterface(delete)) {
            Err(_) if std::time::Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => return other.map(drop),
        }
    }
}
