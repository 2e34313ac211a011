//! IMDS's answers, changed: through the real client, over a real connection.

use super::*;
use crate::aws::http_client;
use crate::config;
use crate::fuzz::{Harm, Server, harmed, harms, http, odd_text, search};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;
use std::time::Instant;

const MAC_1: &str = "02:00:00:00:00:01";
const MAC_2: &str = "02:00:00:00:00:02";

/// What a healthy IMDS says, by path.
pub(super) fn healthy() -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = [
        ("mac", MAC_1),
        ("instance-id", "i-1"),
        ("instance-type", "m5.large"),
        ("local-ipv4", "10.0.0.9"),
        ("placement/region", "eu-west-1"),
        ("placement/availability-zone", "eu-west-1a"),
        (
            "network/interfaces/macs/",
            "02:00:00:00:00:01/\n02:00:00:00:00:02/",
        ),
    ]
    .map(|(path, text)| (path.into(), text.into()))
    .into();
    for (mac, number, addresses) in [
        (MAC_1, "0", "10.0.0.9\n10.0.0.10"),
        (MAC_2, "1", "10.0.0.20\n10.0.0.21"),
    ] {
        for (field, text) in [
            (
                "interface-id",
                if number == "0" { "eni-0" } else { "eni-1" },
            ),
            ("device-number", number),
            ("network-card", "0"),
            ("subnet-id", "subnet-1"),
            ("local-ipv4s", addresses),
            ("subnet-ipv4-cidr-block", "10.0.0.0/18"),
            ("ipv4-prefix", "10.0.1.16/28"),
            ("security-group-ids", "sg-1\nsg-2"),
            ("vpc-ipv4-cidr-blocks", "10.0.0.0/16"),
        ] {
            all.insert(
                format!("network/interfaces/macs/{mac}/{field}"),
                text.into(),
            );
        }
    }
    all
}

#[derive(Clone, Debug)]
enum Change {
    Missing,
    Says(String),
    Status(u16),
    Harmed(Vec<Harm>),
    /// All bytes of the answer, head and all.
    Broken(Vec<Harm>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => Just(Change::Missing),
        4 => odd_text().prop_map(Change::Says),
        1 => select(vec![301_u16, 401, 403, 500, 503]).prop_map(Change::Status),
        2 => harms().prop_map(Change::Harmed),
        1 => harms().prop_map(Change::Broken),
    ]
}

fn answer(
    request: &str,
    all: &BTreeMap<String, Change>,
    good: &BTreeMap<String, String>,
) -> Vec<u8> {
    let line = request.lines().next().unwrap_or_default();
    if line.starts_with("PUT") {
        let head = "HTTP/1.1 200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
                    content-length: 5\r\nconnection: close\r\n\r\ntoken";
        return head.into();
    }
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let path = path.trim_start_matches("/latest/meta-data/");
    let text = good.get(path).map_or("", String::as_str);
    let status = if good.contains_key(path) { 200 } else { 404 };
    match all.get(path) {
        None => http(status, text.as_bytes()),
        Some(Change::Missing) => http(404, b""),
        Some(Change::Says(text)) => http(200, text.as_bytes()),
        Some(Change::Status(status)) => http(*status, text.as_bytes()),
        Some(Change::Harmed(harms)) => http(200, &harmed(text, harms)),
        Some(Change::Broken(harms)) => {
            harmed(&String::from_utf8_lossy(&http(200, text.as_bytes())), harms)
        }
    }
}

#[test]
fn whatever_imds_answers_nothing_breaks() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // A busy machine may take its time.
    let limit = Duration::from_secs(8);
    let endpoint = format!("http://{}", server.address);
    let http_client = http_client(config::Http::default());
    let good = healthy();
    let paths: Vec<String> = good.keys().cloned().collect();
    search(150, &vec((any::<Index>(), change()), 0..4), |changes| {
        let changes = changes.into_iter();
        let all: BTreeMap<String, Change> = changes
            .map(|(at, change)| (at.get(&paths).clone(), change))
            .collect();
        let (said, healthy) = (all.clone(), good.clone());
        server.answers(move |request| answer(request, &said, &healthy));
        // A daemon each: the first one's instance is the last one's, too.
        let site = Arc::new(Site::default());
        let (endpoint, http_client) = (Some(endpoint.clone()), http_client.clone());
        let imds = Imds::at(endpoint, http_client, limit, site);
        let began = Instant::now();
        let read = runtime.block_on(imds.read());
        prop_assert!(began.elapsed() < limit * 3, "it took {:?}", began.elapsed());
        match read {
            Err(error) => {
                prop_assert!(!all.is_empty(), "{:?}", error);
                prop_assert!(
                    !error.message.is_empty() && error.message.len() < 2_000,
                    "{} bytes",
                    error.message.len()
                );
            }
            Ok(facts) => {
                for eni in facts.enis {
                    let primary = eni.address.map(|net| net.addr());
                    let own = eni
                        .blocks
                        .iter()
                        .any(|b| primary.is_some_and(|ip| b.contains(ip)));
                    prop_assert!(!own, "a primary address among the blocks: {:?}", eni.blocks);
                }
            }
        }
        Ok(())
    });
}
