//! EC2 and the control API over HTTP, as programs on nodes and people beside them use them.

use crate::http::{Answer, request};
use crate::world::{Checked, SOON, check, in_vpc, in_vpc_with, secondary, wire};
use std::net::{IpAddr, TcpListener};
use vpc_sim::testing::Failure;
use vpc_sim::{EC2_ADDRESS, Listeners, NetNs, Sim, SimOptions};

/// An EC2 call from a node, unsigned.
async fn ec2(net: &NetNs, form: &str) -> Result<Answer, Failure> {
    let form = format!("Version=2016-11-15&{form}");
    let answer = request(
        net,
        (EC2_ADDRESS, 80),
        "POST",
        "/",
        &[],
        form.as_bytes(),
        SOON,
    )
    .await?;
    answer.ok_or_else(|| "EC2 does not answer".into())
}

pub(crate) fn ec2_answers_on_a_node() -> Checked {
    in_vpc(|sim| async move {
        let eni = wire(&sim, "node-a")?.eni;
        let net = sim.node("node-a")?.net();
        let form = format!(
            "Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1"
        );
        let before = secondary(&sim, "node-a", false)?;
        let answer = ec2(&net, &form).await?;
        check(answer.status == 200, format!("{answer:?}"))?;
        let after = secondary(&sim, "node-a", false)?;
        let new: Vec<&IpAddr> = after.iter().filter(|a| !before.contains(a)).collect();
        check(new.len() == 1, format!("{new:?} are new"))?;
        let calls = sim.vpc().ec2_calls().clone();
        let count = calls
            .get("node-a")
            .and_then(|c| c.get("AssignPrivateIpAddresses"));
        check(
            count == Some(&1),
            format!("the caller was not told by its source: {calls:?}"),
        )?;
        let answer = ec2(&net, "Action=NoSuchThing").await?;
        check(
            answer.status == 400 && answer.body.contains("<Code>InvalidAction</Code>"),
            answer.body,
        )
    })
}

/// EC2 did it: the address works in the moment in which the answer is read.
pub(crate) fn an_address_works_when_its_answer_comes() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (wire(&sim, "node-a")?, wire(&sim, "node-b")?);
        let here: IpAddr = a.primary.addr().into();
        for i in 0u8..5 {
            let address: IpAddr = IpAddr::from([10, 0, 9, 10 + i]);
            crate::world::respond(&crate::world::own(&sim, "node-b", address)?, address)?;
            let form = format!(
                "Action=AssignPrivateIpAddresses&NetworkInterfaceId={}&PrivateIpAddress.1={address}",
                b.eni
            );
            let answer = ec2(&sim.node("node-b")?.net(), &form).await?;
            check(answer.status == 200, answer.body)?;
            let net = sim.node("node-a")?.net();
            // One packet, one chance: the neighbour is resolved by the first round.
            if i == 0 {
                crate::world::must_reach(&net, here, address).await?;
            }
            let time = std::time::Duration::from_millis(290);
            let seen = crate::world::ask(&net, here, address, time).await?;
            check(seen.is_some(), format!("{address} does not work yet"))?;
        }
        Ok(())
    })
}

pub(crate) fn a_dropped_answer_is_work_done() -> Checked {
    use vpc_sim::vpc_model::{Effect, Fault};
    in_vpc(|sim| async move {
        sim.vpc()
            .add_fault(Fault::new("AssignPrivateIpAddresses", Effect::DropAnswer).times(1));
        let eni = wire(&sim, "node-a")?.eni;
        let net = sim.node("node-a")?.net();
        let form = format!(
            "Version=2016-11-15&Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1"
        );
        let before = secondary(&sim, "node-a", false)?.len();
        let lost = request(
            &net,
            (EC2_ADDRESS, 80),
            "POST",
            "/",
            &[],
            form.as_bytes(),
            SOON,
        )
        .await;
        check(
            !matches!(&lost, Ok(Some(a)) if a.status > 0),
            "there is an answer",
        )?;
        let after = secondary(&sim, "node-a", false)?.len();
        check(
            after == before + 1,
            format!("{before} addresses before, {after} after"),
        )?;
        let answer = ec2(&net, &form).await?;
        check(
            answer.status == 200,
            format!("the fault goes on: {answer:?}"),
        )
    })
}

/// Whether the caller sees its connection end or hears nothing at all: EC2 has not seen the call.
pub(crate) fn a_call_that_never_arrives_is_no_work_done() -> Checked {
    use vpc_sim::vpc_model::{Effect, Fault};
    in_vpc(|sim| async move {
        let eni = wire(&sim, "node-a")?.eni;
        let net = sim.node("node-a")?.net();
        let form = format!(
            "Version=2016-11-15&Action=AssignPrivateIpAddresses&NetworkInterfaceId={eni}&SecondaryPrivateIpAddressCount=1"
        );
        let before = secondary(&sim, "node-a", false)?.len();
        for silent in [false, true] {
            let cut = Effect::Unreached { silent };
            sim.vpc().add_fault(Fault::new("Assign*", cut).times(1));
            let begun = std::time::Instant::now();
            let to = (EC2_ADDRESS, 80);
            let lost = request(&net, to, "POST", "/", &[], form.as_bytes(), SOON).await;
            check(
                !matches!(&lost, Ok(Some(a)) if a.status > 0),
                format!("there is an answer: {lost:?}"),
            )?;
            let heard_nothing = begun.elapsed() >= SOON;
            check(heard_nothing == silent, format!("silent: {silent}"))?;
            let after = secondary(&sim, "node-a", false)?.len();
            check(after == before, format!("{before}, then {after} addresses"))?;
        }
        check(sim.vpc().ec2_calls().is_empty(), "EC2 counts the calls")?;
        let answer = ec2(&net, &form).await?;
        check(answer.status == 200, format!("{answer:?}"))
    })
}

/// The node's own link is that of its primary ENI, wherever that hangs.
pub(crate) fn a_node_lives_on_a_primary_eni_at_another_index() -> Checked {
    use vpc_sim::vpc_model::NodeSpec;
    in_vpc(|sim| async move {
        let mut spec = NodeSpec::new("odd", "m5.large");
        spec.device_index = 1;
        let net = sim.launch(spec)?.net();
        let answer = ec2(&net, "Action=DescribeSubnets").await?;
        check(answer.status == 200, format!("{answer:?}"))?;
        let calls = sim.vpc().ec2_calls().clone();
        check(calls.contains_key("odd"), format!("who called? {calls:?}"))
    })
}

/// As a program outside: the listeners are bound before the VPC is built.
fn with_control<F, Fut>(test: F) -> Checked
where
    F: FnOnce(Sim, Control) -> Fut,
    Fut: Future<Output = Checked>,
{
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let listeners = Listeners {
        control: Some(listener),
        ..Listeners::default()
    };
    let options = SimOptions {
        listeners,
        ..SimOptions::default()
    };
    in_vpc_with(options, |sim| test(sim, Control(address)))
}

struct Control(std::net::SocketAddr);

impl Control {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, serde_json::Value), Failure> {
        let stream = tokio::net::TcpStream::connect(self.0).await?;
        let answer =
            crate::http::exchange(stream, method, path, &[], body.as_bytes(), SOON).await?;
        let answer = answer.ok_or("no answer")?;
        let value = serde_json::from_str(&answer.body).unwrap_or_default();
        Ok((answer.status, value))
    }
}

pub(crate) fn control_shows_what_is_there() -> Checked {
    with_control(|sim, control| async move {
        for (path, key) in [
            ("/health", "time"),
            ("/audit?since=0", "entries"),
            ("/books", "violations"),
            ("/wires", "wires"),
            ("/nodes", "nodes"),
            ("/state", "enis"),
            ("/faults", "faults"),
            ("/describe?address=10.0.0.1", "is"),
        ] {
            let (status, value) = control.ask("GET", path, "").await?;
            check(
                status == 200 && value.get(key).is_some(),
                format!("{path}: {status} {value}"),
            )?;
        }
        let (status, calls) = control.ask("GET", "/calls", "").await?;
        check(status == 200 && calls.is_object(), format!("{calls}"))?;
        let (_, nodes) = control.ask("GET", "/nodes", "").await?;
        let names = nodes["nodes"].as_array().map_or(0, Vec::len);
        check(names == sim.nodes().len(), format!("{nodes}"))
    })
}

pub(crate) fn control_acts() -> Checked {
    with_control(|sim, control| async move {
        let before = sim.clock().now();
        let (status, _) = control
            .ask("POST", "/time", r#"{"advance_ms": 3600000}"#)
            .await?;
        let passed = sim.clock().now().since(before).as_secs();
        check(
            status == 200 && (3600..3700).contains(&passed),
            format!("{passed} s passed"),
        )?;
        let fault = r#"{"action": "Describe*", "effect": {"kind": "throttle"}}"#;
        let (status, id) = control.ask("POST", "/faults", fault).await?;
        check(status == 200 && id["id"].is_u64(), format!("{status} {id}"))?;
        let net = sim.node("node-a")?.net();
        let answer = ec2(&net, "Action=DescribeVpcs").await?;
        check(answer.status == 503, format!("{answer:?}"))?;
        let (status, removed) = control
            .ask("DELETE", &format!("/faults/{}", id["id"]), "")
            .await?;
        check(status == 200, format!("{removed}"))?;
        let answer = ec2(&net, "Action=DescribeVpcs").await?;
        check(answer.status == 200, format!("{answer:?}"))?;
        let (status, _) = control
            .ask("POST", "/operator", r#"{"Action": "DescribeVpcs"}"#)
            .await?;
        check(status == 200, format!("operator: {status}"))?;
        let (status, _) = control.ask("POST", "/nodes/node-a/terminate", "").await?;
        check(status == 200, format!("terminate: {status}"))?;
        check(
            sim.node("node-a")?.net().links()?.is_empty(),
            "its links are still there",
        )
    })
}

pub(crate) fn control_refuses_bad_input() -> Checked {
    with_control(|sim, control| async move {
        for (method, path, body, wanted) in [
            ("GET", "/nowhere", "", 404),
            ("PUT", "/time", "", 405),
            ("POST", "/health", "", 405),
            ("POST", "/time", "", 400),
            ("POST", "/time", "{", 400),
            ("POST", "/time", r#"{"advance_ms": -1}"#, 400),
            ("POST", "/time", r#"{"advance_ms": 99999999999999}"#, 400),
            ("POST", "/faults", r#"{"effect": {"kind": "explode"}}"#, 400),
            ("DELETE", "/faults/x", "", 400),
            ("DELETE", "/faults/77", "", 404),
            ("POST", "/nodes/nobody/terminate", "", 404),
            ("GET", "/audit?since=x", "", 400),
            ("GET", "/describe?address=x", "", 400),
            ("POST", "/operator", r#"{"Action": ["x"]}"#, 400),
        ] {
            let (status, value) = control.ask(method, path, body).await?;
            let words = value["error"].as_str().unwrap_or_default().len();
            check(
                status == wanted && words > 3,
                format!("{method} {path} {body}: {status} {value}"),
            )?;
        }
        sim.shutdown().await;
        Ok(())
    })
}
