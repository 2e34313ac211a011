//! The adapter against a plain HTTP server on loopback: what is sent, and what answers come to.

mod once;
mod orphans;
mod sent;

use super::*;
use crate::aws::http_client;
use ipam_core::{Mac, Unmanaged};
use ipam_engine::ports::NodeFacts;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Answers each request with the next of `answers` (status and body; no status: breaks the
/// connection), and tells what was asked.
async fn serve(answers: Vec<Option<(u16, String)>>) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    let (tell, asked) = mpsc::channel(16);
    tokio::spawn(async move {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let body = read_body(&mut stream).await;
            let _ = tell.send(body).await;
            if let Some((status, body)) = answer {
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
            }
        }
    });
    (address, asked)
}

async fn read_body(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .trim()
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return body.to_owned();
            }
        }
        if n == 0 {
            return text;
        }
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        instance_id: "i-1".into(),
        instance_type: "m5.large".into(),
        region: "eu-west-1".into(),
        zone: "eu-west-1a".into(),
        vpc: Some("vpc-1".into()),
        primary_mac: Mac([2, 0, 0, 0, 0, 1]),
        node_ip: "10.0.0.9".parse().expect("parses"),
        node_ipv6: None,
        vpc_cidrs: Vec::new(),
        security_groups: Vec::new(),
        enis: vec![EniView {
            id: "eni-0".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            attachment: None,
            subnet: "subnet-1".into(),
            address: "10.0.0.9/18".parse().ok(),
            blocks: Vec::new(),
            unmanaged: None,
            ours: false,
        }],
    }
}

/// The adapter with a client as the daemon makes it, but of fixed credentials, so that the test needs
/// no environment.
pub(super) async fn ec2(address: SocketAddr) -> Ec2 {
    patient(address, Duration::from_millis(400)).await
}

/// The same, with another time limit for a call.
async fn patient(address: SocketAddr, timeout: Duration) -> Ec2 {
    let settings = config::Ec2 {
        endpoint: Some(format!("http://{address}")),
        timeout,
        cluster: Some("blue".into()),
        tags: BTreeMap::from([("team".into(), "net".into())]),
        manage_untagged: true,
    };
    let site = Arc::new(Site::default());
    site.learn(&facts()).expect("is the first");
    let ec2 = Ec2::new(settings, http_client(config::Http::default()), site);
    let credentials = aws_sdk_ec2::config::Credentials::new("a", "b", None, None, "test");
    let config = ec2.client_config("eu-west-1".into()).await;
    let client = Client::from_conf(config.credentials_provider(credentials).build());
    ec2.client.set(client).expect("is the first");
    ec2
}

fn fields(body: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).expect("hex"));
            } else {
                bytes.push(if byte == b'+' { b' ' } else { byte });
            }
        }
        String::from_utf8(bytes).expect("text")
    };
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

pub(super) const ENI: &str = "<networkInterfaceId>eni-7</networkInterfaceId><subnetId>subnet-1</subnetId>\
    <macAddress>02:00:00:00:00:07</macAddress><privateIpAddress>10.0.0.7</privateIpAddress>\
    <privateIpAddressesSet>\
    <item><privateIpAddress>10.0.0.7</privateIpAddress><primary>true</primary></item>\
    <item><privateIpAddress>10.0.0.8</privateIpAddress><primary>false</primary></item>\
    </privateIpAddressesSet><ipv4PrefixSet><item><ipv4Prefix>10.0.1.16/28</ipv4Prefix></item>\
    </ipv4PrefixSet>";

pub(super) fn described(more: &str, next: &str) -> Option<(u16, String)> {
    let body = format!(
        "<DescribeNetworkInterfacesResponse><networkInterfaceSet><item>{ENI}{more}</item>\
         </networkInterfaceSet>{next}</DescribeNetworkInterfacesResponse>"
    );
    Some((200, body))
}

fn refused(code: &str, message: &str, status: u16) -> Option<(u16, String)> {
    let body = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>r</RequestID></Response>"
    );
    Some((status, body))
}

#[tokio::test]
async fn create_asks_for_blocks_and_tags_in_one_call() {
    let body = format!(
        "<CreateNetworkInterfaceResponse><networkInterface>{ENI}</networkInterface>\
         </CreateNetworkInterfaceResponse>"
    );
    let (address, mut asked) = serve(vec![Some((200, body))]).await;
    let view = ec2(address)
        .await
        .create(CreateEni {
            asked: ipam_core::Timestamp(1_767_225_600_123),
            token: "token-1".into(),
            subnet: "subnet-1".into(),
            security_groups: vec!["sg-1".into(), "sg-2".into()],
            kind: BlockKind::Prefix,
            family: Family::V4,
            count: 3,
        })
        .await
        .expect("creates");
    assert_eq!(
        view.address.map(|net| net.to_string()),
        Some("10.0.0.7/18".into())
    );
    let blocks: Vec<String> = view.blocks.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.0.8", "10.0.1.16/28"]);
    assert!(view.ours && view.unmanaged.is_none());

    let fields = fields(&asked.recv().await.expect("was asked"));
    let tags: BTreeMap<&str, &str> = (1..=5)
        .filter_map(|n| {
            let field = |part| fields.get(&format!("TagSpecification.1.Tag.{n}.{part}"));
            Some((field("Key")?.as_str(), field("Value")?.as_str()))
        })
        .collect();
    for (name, value) in [
        ("Action", "CreateNetworkInterface"),
        ("ClientToken", "token-1"),
        ("Description", "aws-K8S-i-1"),
        ("Ipv4PrefixCount", "3"),
        ("SecurityGroupId.1", "sg-1"),
        ("SecurityGroupId.2", "sg-2"),
        ("SubnetId", "subnet-1"),
        ("TagSpecification.1.ResourceType", "network-interface"),
    ] {
        assert_eq!(
            fields.get(name).map(String::as_str),
            Some(value),
            "{name} in {fields:?}"
        );
    }
    assert_eq!(tags.get("node.k8s.amazonaws.com/instance_id"), Some(&"i-1"));
    assert_eq!(tags.get("cluster.k8s.amazonaws.com/name"), Some(&"blue"));
    assert_eq!(tags.get("eks:eni:owner"), Some(&"amazon-vpc-cni"));
    assert_eq!(tags.get("team"), Some(&"net"));
    // The same whenever the call is sent: EC2 knows a token with its very request only.
    let created = tags.get("node.k8s.amazonaws.com/createdAt");
    assert_eq!(created, Some(&"2026-01-01T00:00:00Z"));
}

#[tokio::test]
async fn describe_reads_every_page() {
    let (address, mut asked) = serve(vec![
        described("", "<nextToken>more</nextToken>"),
        described("", ""),
    ])
    .await;
    let views = ec2(address).await.describe().await.expect("describes");
    assert_eq!(views.len(), 2);
    let first = fields(&asked.recv().await.expect("was asked"));
    assert_eq!(
        first.get("Filter.1.Name").map(String::as_str),
        Some("attachment.instance-id")
    );
    assert_eq!(
        first.get("Filter.1.Value.1").map(String::as_str),
        Some("i-1")
    );
    let second = fields(&asked.recv().await.expect("was asked"));
    assert_eq!(second.get("NextToken").map(String::as_str), Some("more"));
}

#[tokio::test]
async fn what_is_not_ours_to_manage_is_named() {
    let at = |index, card| {
        format!(
            "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>{index}</deviceIndex>\
             <networkCardIndex>{card}</networkCardIndex></attachment>"
        )
    };
    let tag = "<tagSet><item><key>node.k8s.amazonaws.com/no_manage</key><value>true</value></item></tagSet>";
    let kind = |kind| format!("{}<interfaceType>{kind}</interfaceType>", at(1, 0));
    for (more, want) in [
        (at(1, 0), None),
        (kind("efa"), None),
        (kind("efa-only"), Some(Unmanaged::InterfaceType)),
        (kind("trunk"), Some(Unmanaged::InterfaceType)),
        (kind("branch"), Some(Unmanaged::InterfaceType)),
        (
            format!("{}{tag}", at(1, 0)),
            Some(Unmanaged::TaggedNoManage),
        ),
        // Which one is the primary ENI, on which this counts for nothing, is for the core to know.
        (
            format!("{}{tag}", at(0, 0)),
            Some(Unmanaged::TaggedNoManage),
        ),
        (at(1, 1), Some(Unmanaged::OtherCard)),
    ] {
        let (address, _asked) = serve(vec![described(&more, "")]).await;
        let views = ec2(address).await.describe().await.expect("describes");
        assert_eq!(views[0].unmanaged, want, "{more}");
    }
}

/// Only what bears this very instance's tag is ever detached or deleted.
#[tokio::test]
async fn only_what_this_node_made_is_ours() {
    for (made_by, index, ours) in [("i-1", 1, true), ("i-2", 1, false), ("i-2", 0, false)] {
        let more = format!(
            "<attachment><attachmentId>eni-attach-1</attachmentId><deviceIndex>{index}</deviceIndex>\
             </attachment><tagSet><item><key>node.k8s.amazonaws.com/instance_id</key>\
             <value>{made_by}</value></item></tagSet>"
        );
        let (address, _asked) = serve(vec![described(&more, "")]).await;
        let views = ec2(address).await.describe().await.expect("describes");
        assert_eq!(views[0].ours, ours, "{made_by} at {index}");
    }
}

#[tokio::test]
async fn attach_always_names_the_card() {
    let body = "<AttachNetworkInterfaceResponse><attachmentId>eni-attach-9</attachmentId>\
                </AttachNetworkInterfaceResponse>";
    let (address, mut asked) = serve(vec![Some((200, body.into()))]).await;
    let attachment = ec2(address)
        .await
        .attach("eni-7".into(), 2, 0)
        .await
        .expect("attaches");
    assert_eq!(attachment, "eni-attach-9");
    let fields = fields(&asked.recv().await.expect("was asked"));
    assert_eq!(
        fields.get("NetworkCardIndex").map(String::as_str),
        Some("0")
    );
    assert_eq!(fields.get("DeviceIndex").map(String::as_str), Some("2"));
}

async fn assign_with(answer: Option<(u16, String)>) -> (CloudError, usize) {
    // A second answer is there for a client that tries again: it must not.
    let (address, mut asked) = serve(vec![answer.clone(), answer]).await;
    let error = ec2(address)
        .await
        .assign("eni-7".into(), Family::V4, BlockKind::Address, 2)
        .await
        .expect_err("is refused");
    let mut requests = 0;
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), asked.recv()).await {
        requests += 1;
    }
    (error, requests)
}

#[tokio::test]
async fn each_failure_is_understood_and_sent_once() {
    use ErrorClass::*;
    let slow = refused("RequestLimitExceeded", "Request limit exceeded.", 503);
    let full = refused("InsufficientFreeAddressesInSubnet", "none", 400);
    let cases = [
        (slow, Throttled, "RequestLimitExceeded"),
        (full, SubnetFull, "InsufficientFreeAddressesInSubnet"),
        (
            refused("InternalError", "oops", 500),
            UnknownOutcome,
            "InternalError",
        ),
        (
            Some((502, "<html>Bad Gateway</html>".into())),
            UnknownOutcome,
            "Http502",
        ),
        (Some((200, "<AssignPriv".into())), UnknownOutcome, "Http200"),
        (None, UnknownOutcome, "ConnectionBroken"),
    ];
    for (answer, class, code) in cases {
        let (error, requests) = assign_with(answer.clone()).await;
        assert_eq!(error.class, class, "{answer:?}: {error}");
        assert_eq!(error.code, code, "{answer:?}: {error}");
        assert_eq!(requests, 1, "{answer:?} was sent again");
    }
}

#[tokio::test]
async fn silence_is_an_unknown_outcome_and_a_closed_port_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    // It accepts (the kernel does) and never answers.
    let error = ec2(address)
        .await
        .delete("eni-7".into())
        .await
        .expect_err("times out");
    assert_eq!(
        (error.class, error.code.as_str()),
        (ErrorClass::UnknownOutcome, "Timeout")
    );
    drop(listener);
    let error = ec2(address)
        .await
        .delete("eni-7".into())
        .await
        .expect_err("is refused");
    assert_eq!(error.class, ErrorClass::Unreachable, "{error}");
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn without_the_instances_id_nothing_is_sent() {
    let settings = config::Config::load(&BTreeMap::<String, String>::new())
        .config
        .ec2;
    let http = http_client(config::Http::default());
    let ec2 = Ec2::new(settings, http, Arc::new(Site::default()));
    let error = ec2.describe().await.expect_err("can't");
    assert_eq!(error.class, ErrorClass::Unreachable);
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let long = "You are not authorized to perform this operation. Encoded authorization failure \
                message: "
        .to_owned()
        + &"x".repeat(2000);
    let (error, _) = assign_with(refused("UnauthorizedOperation", &long, 403)).await;
    assert_eq!(error.class, ErrorClass::Unauthorized);
    assert!(
        error.permission() == "ec2:AssignPrivateIpAddresses",
        "{error}"
    );
    assert!(
        error.message.len() < 600 && !error.message.contains("xxx"),
        "{error}"
    );
}
