//! EC2's answers, changed: through the real SDK, over a real connection.

use super::tests::{ENI, described, ec2};
use super::*;
use crate::fuzz::{Harm, Server, harmed, harms, http, odd_text, revalued, search};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestCaseError;
use std::time::{Duration, Instant};

/// A Describe has up to fifty pages, each of which may be silent until its time limit.
const LIMIT: Duration = Duration::from_secs(40);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Call {
    Describe,
    Create,
    Attach,
    Modify,
    Assign,
    Unassign,
    Detach,
    Delete,
}

fn good(call: Call) -> String {
    let at = "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>1</deviceIndex>\
              <networkCardIndex>0</networkCardIndex><deleteOnTermination>true</deleteOnTermination>\
              <status>attached</status><attachTime>2026-11-21T00:00:00.000Z</attachTime></attachment>\
              <tagSet><item><key>node.k8s.amazonaws.com/instance_id</key><value>i-1</value></item></tagSet>\
              <ipv6AddressesSet><item><ipv6Address>2001:db8::7</ipv6Address></item></ipv6AddressesSet>";
    let done = |action: &str| {
        format!(
            "<{action}Response><requestId>r</requestId><return>true</return></{action}Response>"
        )
    };
    match call {
        Call::Describe => described(at, "").map(|(_, body)| body).unwrap_or_default(),
        Call::Create => format!(
            "<CreateNetworkInterfaceResponse><networkInterface>{ENI}{at}</networkInterface>\
             </CreateNetworkInterfaceResponse>"
        ),
        Call::Attach => "<AttachNetworkInterfaceResponse><attachmentId>eni-attach-9</attachmentId>\
                         </AttachNetworkInterfaceResponse>"
            .into(),
        Call::Assign => "<AssignPrivateIpAddressesResponse><networkInterfaceId>eni-7</networkInterfaceId>\
             <assignedPrivateIpAddressesSet><item><privateIpAddress>10.0.0.8</privateIpAddress></item>\
             <item><privateIpAddress>10.0.0.9</privateIpAddress></item></assignedPrivateIpAddressesSet>\
             </AssignPrivateIpAddressesResponse>"
            .into(),
        Call::Modify => done("ModifyNetworkInterfaceAttribute"),
        Call::Unassign => done("UnassignPrivateIpAddresses"),
        Call::Detach => done("DetachNetworkInterface"),
        Call::Delete => done("DeleteNetworkInterface"),
    }
}

const REFUSED: &str = "<Response><Errors><Error><Code>InsufficientFreeAddressesInSubnet</Code><Message>none</Message>\
                       </Error></Errors><RequestID>r</RequestID></Response>";

/// What came of a call, as far as all have it.
enum Came {
    Views(Vec<EniView>),
    Blocks(Vec<Block>),
    Done,
}

async fn make(ec2: &Ec2, call: Call) -> Result<Came, CloudError> {
    let eni = || EniId("eni-7".into());
    let create = CreateEni {
        token: "t".into(),
        asked: ipam_core::Timestamp(u64::MAX),
        subnet: "subnet-1".into(),
        security_groups: vec!["sg-1".into()],
        kind: BlockKind::Address,
        family: Family::V4,
        count: 1,
    };
    let block = Block::address("10.0.0.8".parse().expect("parses"));
    Ok(match call {
        Call::Describe => Came::Views(ec2.describe().await?),
        Call::Create => Came::Views(vec![ec2.create(create).await?]),
        Call::Attach => ec2.attach(eni(), 1, 0).await.map(|_| Came::Done)?,
        Call::Modify => ec2
            .set_delete_on_termination(eni(), "a".into())
            .await
            .map(|()| Came::Done)?,
        Call::Assign => Came::Blocks(ec2.assign(eni(), Family::V4, BlockKind::Address, 2).await?),
        Call::Unassign => ec2
            .unassign(eni(), vec![block])
            .await
            .map(|()| Came::Done)?,
        Call::Detach => ec2.detach("a".into()).await.map(|()| Came::Done)?,
        Call::Delete => ec2.delete(eni()).await.map(|()| Came::Done)?,
    })
}

fn check(call: Call, status: u16, came: Result<Came, CloudError>) -> Result<(), TestCaseError> {
    match came {
        Ok(Came::Views(views)) => {
            for view in views {
                let primary = view.address.map(|net| net.addr());
                let own = |block: &&Block| primary.is_some_and(|ip| block.contains(ip));
                let own = view.blocks.iter().find(own);
                prop_assert!(
                    own.is_none(),
                    "a primary address among the blocks: {:?}",
                    view
                );
                // No primary address known: then it may be any of the single ones.
                let guess = primary.is_none()
                    && view.blocks.contains(&Block::address([10, 0, 0, 7].into()));
                prop_assert!(!guess, "a primary address, not known as one: {:?}", view);
            }
        }
        Ok(Came::Blocks(blocks)) => {
            prop_assert_eq!(blocks.len(), 2, "not what was asked for: {:?}", blocks);
        }
        Ok(Came::Done) => {}
        Err(error) => {
            prop_assert!(
                !error.message.is_empty() && error.message.len() < 2_000,
                "{:?}",
                error
            );
            prop_assert!(
                !error.code.is_empty() && error.code.len() < 300,
                "{:?}",
                error
            );
            if call != Call::Describe && status == 200 {
                // It said yes: that it was not done is nowhere written.
                prop_assert_eq!(error.class, ErrorClass::UnknownOutcome, "{:?}", error);
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_ec2_answers_nothing_breaks() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ec2 = runtime.block_on(ec2(server.address));
    let call = select(vec![
        Call::Describe,
        Call::Describe,
        Call::Create,
        Call::Attach,
        Call::Modify,
        Call::Assign,
        Call::Assign,
        Call::Unassign,
        Call::Detach,
        Call::Delete,
    ]);
    let status = select(vec![
        200_u16, 200, 200, 200, 400, 403, 500, 503, 204, 301, 999,
    ]);
    let head = prop::option::weighted(0.1, harms());
    let values = vec((any::<Index>(), odd_text()), 0..6);
    let harms = prop_oneof![1 => Just(Vec::new()), 1 => harms()];
    search(
        600,
        &(call, status, values, harms, head),
        |(call, status, values, harms, head): (_, _, Vec<_>, Vec<Harm>, Option<Vec<Harm>>)| {
            let body = if status < 300 {
                good(call)
            } else {
                REFUSED.into()
            };
            let body = harmed(&revalued(&body, &values), &harms);
            let whole = match &head {
                None => http(status, &body),
                Some(head) => harmed(&String::from_utf8_lossy(&http(status, &body)), head),
            };
            server.answers(move |_| whole.clone());
            let began = Instant::now();
            let came = runtime.block_on(make(&ec2, call));
            prop_assert!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
            // With a damaged head the status may be another.
            check(call, if head.is_some() { 0 } else { status }, came)
        },
    );
}
