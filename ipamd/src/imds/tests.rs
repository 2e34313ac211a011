//! IMDS that forgets tokens, is slow, or changes while it is read.

use super::fuzz::healthy;
use super::*;
use crate::aws::http_client;
use crate::config;
use crate::fuzz::{Server, http};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

const MAC_2: &str = "02:00:00:00:00:02";

fn imds(server: &Server, deadline: Duration) -> Imds {
    Imds::at(
        Some(format!("http://{}", server.address)),
        http_client(config::Http::default()),
        deadline,
        Arc::new(Site::default()),
    )
}

fn token(text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    )
    .into()
}

fn said(all: &BTreeMap<String, String>, request: &str) -> Vec<u8> {
    let path = request.split_whitespace().nth(1).unwrap_or_default();
    match all.get(path.trim_start_matches("/latest/meta-data/")) {
        Some(text) => http(200, text.as_bytes()),
        None => http(404, b""),
    }
}

/// A server that says this.
fn server(all: BTreeMap<String, String>) -> Server {
    let server = Server::start();
    server.answers(move |request| match request.starts_with("PUT") {
        true => token("token"),
        false => said(&all, request),
    });
    server
}

const SOON: Duration = Duration::from_secs(20);

/// IMDS may be restarted, and knows none of its tokens then, hours before they end.
#[tokio::test]
async fn a_token_that_is_refused_is_replaced() {
    let (server, all) = (Server::start(), healthy());
    let valid = Arc::new(Mutex::new(1));
    let generation = Arc::clone(&valid);
    server.answers(move |request| {
        let valid = *generation.lock().expect("no panic while it was held");
        if request.starts_with("PUT") {
            return token(&format!("token-{valid}"));
        }
        match request.contains(&format!("token-{valid}\r\n")) {
            true => said(&all, request),
            false => http(401, b""),
        }
    });
    let imds = imds(&server, SOON);
    imds.read().await.expect("is read");
    *valid.lock().expect("no panic while it was held") = 2;
    imds.read().await.expect("is read with another token");
}

/// Its time limit is for all of it.
#[tokio::test]
async fn a_slow_one_is_given_up() {
    let (server, all) = (Server::start(), healthy());
    server.answers(move |request| {
        std::thread::sleep(Duration::from_millis(400));
        match request.starts_with("PUT") {
            true => token("token"),
            false => said(&all, request),
        }
    });
    let began = Instant::now();
    let read = imds(&server, Duration::from_secs(1)).read().await;
    // Token, first path and all the others take longer, each of them does not.
    assert!(read.is_err(), "{read:?} after {:?}", began.elapsed());
}

#[tokio::test]
async fn an_eni_that_went_while_it_was_read_is_left_out() {
    let mut all = healthy();
    all.retain(|path, _| !path.starts_with(&format!("{MACS}/{MAC_2}/")));
    let server = server(all);
    let facts = imds(&server, SOON).read().await.expect("is read");
    let ids: Vec<&str> = facts.enis.iter().map(|eni| eni.id.as_str()).collect();
    assert_eq!(ids, ["eni-0"]);
}

/// By either of the names that EC2 has for it; without one it is card 0.
#[tokio::test]
async fn the_card_is_read() {
    for (name, card) in [("network-card", 1), ("network-card-index", 1), ("other", 0)] {
        let mut all = healthy();
        all.remove(&format!("{MACS}/{MAC_2}/network-card"));
        all.insert(format!("{MACS}/{MAC_2}/{name}"), "1".into());
        let server = server(all);
        let facts = imds(&server, SOON).read().await.expect("is read");
        let at = facts.enis.iter().find(|eni| eni.id.as_str() == "eni-1");
        let at = at.and_then(|eni| eni.attachment.clone()).expect("attached");
        assert_eq!((at.card, at.device_index), (card, 1), "{name}");
    }
}

/// What is always there, and is not, tells nothing: an error, and what is known stays.
#[tokio::test]
async fn what_is_always_there_is_not_taken_away() {
    let at = |field: &str| format!("{MACS}/{}/{field}", healthy()["mac"]);
    for (field, more) in [
        ("vpc-ipv4-cidr-blocks", None),
        ("security-group-ids", None),
        ("device-number", None),
        // Older services have only the first network's.
        ("vpc-ipv4-cidr-blocks", Some("vpc-ipv4-cidr-block")),
    ] {
        for gone in [true, false] {
            let mut all = healthy();
            let was = all.insert(at(field), String::new()).expect("was there");
            if gone {
                all.remove(&at(field));
            }
            let first = was.split_whitespace().next().unwrap_or_default().to_owned();
            all.extend(more.map(|name| (at(name), first)));
            let read = imds(&server(all), SOON).read().await;
            assert_eq!(
                read.is_ok(),
                more.is_some(),
                "{field}, gone: {gone}: {read:?}"
            );
        }
    }
}

/// A further ENI that is coming or going has nothing yet, or nothing any more.
#[tokio::test]
async fn an_eni_that_is_shown_in_part_is_left_out() {
    for field in ["device-number", "subnet-id"] {
        let mut all = healthy();
        all.remove(&format!("{MACS}/{MAC_2}/{field}"));
        let facts = imds(&server(all), SOON).read().await.expect("is read");
        let ids: Vec<&str> = facts.enis.iter().map(|eni| eni.id.as_str()).collect();
        assert_eq!(ids, ["eni-0"], "{field}");
    }
}

/// For some minutes another instance's metadata is told: nothing of it is believed.
#[tokio::test]
async fn the_instance_stays_the_same() {
    let told = Arc::new(Mutex::new(healthy()));
    let (server, says) = (Server::start(), Arc::clone(&told));
    server.answers(move |request| match request.starts_with("PUT") {
        true => token("token"),
        false => said(&says.lock().expect("no panic while it was held"), request),
    });
    let imds = imds(&server, SOON);
    let ours = imds.read().await.expect("is read");
    let mut others = healthy();
    others.insert("instance-id".into(), "i-other".into());
    others.insert("placement/region".into(), "elsewhere-1".into());
    *told.lock().expect("no panic while it was held") = others;
    let error = imds.read().await.expect_err("is another's").to_string();
    assert!(
        error.contains("i-other") && error.contains(ours.instance_id.as_str()),
        "{error}"
    );
    let (instance, region) = imds.site.instance().expect("is known");
    assert_eq!((instance, region), (ours.instance_id, ours.region));
    *told.lock().expect("no panic while it was held") = healthy();
    imds.read().await.expect("is ours again");
}
