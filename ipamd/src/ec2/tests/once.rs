//! One request for each write, whatever becomes of it: Assign and Attach take no client token, and who
//! sends again is the engine, when it knows.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the server does with a request that it has read.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// Answers with this status and EC2's words for it.
    Says(u16, &'static str),
    /// Answers with this status and a page that is not EC2's.
    Page(u16),
    /// A good status, and half of a body.
    Half,
    /// Closes the connection.
    Closes,
    /// Closes it with a reset.
    Resets,
    /// Never answers.
    Silent,
}

const MISHAPS: [Mishap; 10] = [
    Mishap::Says(500, "InternalError"),
    Mishap::Says(503, "Unavailable"),
    Mishap::Says(503, "ServiceUnavailable"),
    Mishap::Says(503, "RequestLimitExceeded"),
    Mishap::Says(400, "RequestExpired"),
    Mishap::Page(502),
    Mishap::Half,
    Mishap::Closes,
    Mishap::Resets,
    Mishap::Silent,
];

/// Reads requests, on as many connections as there are, and counts those of each write.
struct Server {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

/// A call that reads only, answered well: a connection that was used before is used again.
const WELL: &str = "<DescribeNetworkInterfacesResponse><networkInterfaceSet/>\
    </DescribeNetworkInterfacesResponse>";

async fn server(mishap: Mishap) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream, mishap, count.clone()));
        }
    });
    Server { address, requests }
}

async fn talk(mut stream: TcpStream, mishap: Mishap, count: Arc<AtomicUsize>) {
    loop {
        let body = read_body(&mut stream).await;
        if body.is_empty() {
            return;
        }
        let (status, answer) = if body.contains("Action=Describe") {
            (200, WELL.to_owned())
        } else {
            count.fetch_add(1, Ordering::SeqCst);
            match mishap {
                Mishap::Says(status, code) => {
                    let words = refused(code, "not now", status);
                    (status, words.expect("has words").1)
                }
                Mishap::Page(status) => (status, "<html>Bad Gateway</html>".into()),
                Mishap::Half => {
                    let head = "HTTP/1.1 200 X\r\ncontent-length: 500\r\n\r\n<Assign";
                    let _ = stream.write_all(head.as_bytes()).await;
                    return;
                }
                Mishap::Closes => return,
                Mishap::Resets => {
                    let _ = stream.set_zero_linger();
                    return;
                }
                Mishap::Silent => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    return;
                }
            }
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Every write, by name.
async fn write(ec2: &Ec2, name: &str) -> Result<(), CloudError> {
    let eni = || EniId::from("eni-7");
    let block = |text: &str| Block::new(text.parse().expect("parses")).expect("is a block");
    match name {
        "create" => {
            let request = CreateEni {
                asked: ipam_core::Timestamp(1_767_225_600_123),
                token: "token-1".into(),
                subnet: "subnet-1".into(),
                security_groups: Vec::new(),
                kind: BlockKind::Address,
                family: Family::V4,
                count: 1,
            };
            ec2.create(request).await.map(drop)
        }
        "attach" => ec2.attach(eni(), 1, 0).await.map(drop),
        "modify" => {
            let attachment = "eni-attach-1".to_owned();
            ec2.set_delete_on_termination(eni(), attachment).await
        }
        "assign addresses" => {
            let (family, kind) = (Family::V4, BlockKind::Address);
            ec2.assign(eni(), family, kind, 2).await.map(drop)
        }
        "assign prefixes" => {
            let (family, kind) = (Family::V4, BlockKind::Prefix);
            ec2.assign(eni(), family, kind, 2).await.map(drop)
        }
        "assign IPv6" => {
            let (family, kind) = (Family::V6, BlockKind::Prefix);
            ec2.assign(eni(), family, kind, 1).await.map(drop)
        }
        "unassign" => ec2.unassign(eni(), vec![block("10.0.1.16/28")]).await,
        "detach" => ec2.detach("eni-attach-1".into()).await,
        "delete" => ec2.delete(eni()).await,
        "tag" => ec2.tag(eni(), EniTag::Mine).await,
        other => panic!("{other} is no write"),
    }
}

const WRITES: [&str; 10] = [
    "create",
    "attach",
    "modify",
    "assign addresses",
    "assign prefixes",
    "assign IPv6",
    "unassign",
    "detach",
    "delete",
    "tag",
];

/// On a new connection, and on one that was used before.
async fn sent(name: &'static str, mishap: Mishap, used: bool) -> usize {
    let server = server(mishap).await;
    // Where an answer comes, a busy machine may take its time.
    let silent = matches!(mishap, Mishap::Silent);
    let seconds = if silent { 1 } else { 60 };
    let ec2 = patient(server.address, Duration::from_secs(seconds)).await;
    if used && !silent {
        ec2.describe().await.expect("is answered well");
    }
    let result = write(&ec2, name).await;
    assert!(result.is_err(), "{name} succeeded though {mishap:?}");
    server.requests.load(Ordering::SeqCst)
}

/// Who tries again does so within the call: when it has ended, all of its requests were sent.
#[tokio::test]
async fn every_write_is_sent_once() {
    for used in [false, true] {
        for mishap in MISHAPS {
            let all = WRITES.map(|name| (name, tokio::spawn(sent(name, mishap, used))));
            for (name, task) in all {
                let requests = task.await.expect("ends");
                assert_eq!(requests, 1, "{name}, {mishap:?}, used connection: {used}");
            }
        }
    }
}

#[tokio::test]
async fn the_client_of_the_daemon_never_tries_again() {
    let server = server(Mishap::Closes).await;
    let ec2 = ec2(server.address).await;
    let config = ec2.client_config("eu-west-1".into()).await.build();
    let retries = config.retry_config().expect("is set");
    assert_eq!(retries.max_attempts(), 1);
}
