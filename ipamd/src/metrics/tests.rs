use super::*;
use ipam_core::cloud::ErrorClass;
use ipam_engine::Handle;
use ipam_engine::api::{
    BlockSnapshot, Counters, EniSnapshot, HoldSnapshot, Limits, Request, Snapshot, Status, Totals,
};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("same_boot", None).expect("makes the metrics"))
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.text()).expect("is text")
}

/// The value of a series, by its whole name.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .and_then(|value| value.parse().ok())
}

fn error(class: ErrorClass, code: &str) -> CloudError {
    CloudError {
        action: "AssignPrivateIpAddresses",
        class,
        code: code.into(),
        message: String::new(),
    }
}

fn snapshot() -> Snapshot {
    let block = |name: &str, used: u32| BlockSnapshot {
        block: name.into(),
        state: ipam_core::BlockState::Confirmed,
        used: (0..used)
            .map(|n| (std::net::Ipv4Addr::from(n).into(), String::new()))
            .collect(),
        free: 0,
        cooling: 0,
        held: 0,
    };
    let eni = |id: &str, unmanaged, blocks| EniSnapshot {
        id: id.into(),
        device_index: 0,
        card: 0,
        primary: false,
        address: None,
        subnet: "subnet-1".into(),
        excluded: false,
        phase: ipam_core::Phase::Ready,
        unmanaged,
        in_doubt_since: Some(ipam_core::Timestamp(1)),
        blocks,
    };
    Snapshot {
        at: ipam_core::Timestamp(2),
        status: Status {
            ready: true,
            served: true,
            degraded: Some("unauthorized"),
            message: String::new(),
        },
        enis: vec![
            eni(
                "eni-1",
                None,
                vec![block("10.0.0.16/28", 5), block("10.0.0.9", 1)],
            ),
            eni("eni-2", Some(ipam_core::Unmanaged::TaggedNoManage), vec![]),
        ],
        totals: Totals {
            addresses: 17,
            used: 6,
            free: 8,
            cooling: 2,
            held: 1,
        },
        report: Vec::new(),
        notes: Vec::new(),
        parked: 3,
        limits: Limits {
            enis: 3,
            addresses: 432,
            max_pods: Some(110),
        },
        holds: vec![HoldSnapshot {
            scope: "subnet",
            cause: "subnet_full",
            until: ipam_core::Timestamp(3),
            words: String::new(),
        }],
        counters: Counters {
            drift: [("eni_lost", 2)].into(),
            lost_addresses: 7,
            notices: [("in_doubt", 4)].into(),
            notices_dropped: 0,
        },
    }
}

#[test]
fn calls_are_counted_by_what_came_of_them() {
    let metrics = metrics();
    let ms = Duration::from_millis;
    metrics.called("AssignPrivateIpAddresses", ms(300), None);
    let throttled = error(ErrorClass::Throttled, "RequestLimitExceeded");
    metrics.called("AssignPrivateIpAddresses", ms(5), Some(&throttled));
    metrics.added(ms(2), None);
    metrics.added(ms(3), Some("subnet_full"));
    metrics.no_address();
    metrics.deleted(ms(1), "del", false);
    metrics.deleted(ms(1), "\u{7f}whatever", false);
    let text = text(&metrics);
    for (series, want) in [
        (
            "ipamd_ec2_calls_total{action=\"AssignPrivateIpAddresses\",result=\"ok\"}",
            1.0,
        ),
        (
            "ipamd_ec2_calls_total{action=\"AssignPrivateIpAddresses\",result=\"throttled\"}",
            1.0,
        ),
        (
            "ipamd_ec2_errors_total{action=\"AssignPrivateIpAddresses\",code=\"RequestLimitExceeded\"}",
            1.0,
        ),
        (
            "ipamd_ec2_call_seconds_count{action=\"AssignPrivateIpAddresses\"}",
            2.0,
        ),
        (
            "awscni_ec2api_req_count{fn=\"AssignPrivateIpAddresses\"}",
            2.0,
        ),
        (
            "awscni_ec2api_error_count{fn=\"AssignPrivateIpAddresses\"}",
            1.0,
        ),
        (
            "awscni_aws_api_error_count{api=\"AssignPrivateIpAddresses\",error=\"RequestLimitExceeded\"}",
            1.0,
        ),
        ("ipamd_adds_total{result=\"ok\"}", 1.0),
        ("ipamd_adds_total{result=\"refused\"}", 1.0),
        ("ipamd_add_failures_total{cause=\"subnet_full\"}", 1.0),
        ("ipamd_add_seconds_bucket{result=\"ok\",le=\"0.0025\"}", 1.0),
        ("awscni_add_ip_req_count", 2.0),
        ("awscni_no_available_ip_addresses", 1.0),
        ("awscni_del_ip_req_count{reason=\"PodDeleted\"}", 1.0),
        ("awscni_del_ip_req_count{reason=\"Other\"}", 1.0),
        ("ipamd_start_info{state=\"same_boot\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(want), "{series}\n{text}");
    }
}

#[test]
fn ec2_can_t_invent_labels_without_end() {
    let metrics = metrics();
    for n in 0..1000 {
        let error = error(ErrorClass::Other, &format!("Code{n}"));
        metrics.called("DeleteNetworkInterface", Duration::ZERO, Some(&error));
    }
    let odd = error(ErrorClass::Other, "a\"b\n");
    metrics.called("DeleteNetworkInterface", Duration::ZERO, Some(&odd));
    let text = text(&metrics);
    let codes = text
        .lines()
        .filter(|line| line.starts_with("ipamd_ec2_errors_total{"));
    assert_eq!(codes.count(), CODES_MAX + 1);
    let other = "ipamd_ec2_errors_total{action=\"DeleteNetworkInterface\",code=\"other\"}";
    assert_eq!(value(&text, other), Some(937.0));
}

#[test]
fn the_pool_is_shown_as_it_is_now() {
    let metrics = metrics();
    metrics.see(&snapshot());
    let mut later = snapshot();
    later.holds.clear();
    later.enis.truncate(1);
    later.counters.lost_addresses = 9;
    let first = text(&metrics);
    for (series, want) in [
        ("ipamd_addresses{state=\"assigned\"}", 6.0),
        ("ipamd_addresses{state=\"available\"}", 8.0),
        ("ipamd_addresses{state=\"cooling\"}", 2.0),
        ("ipamd_enis{phase=\"ready\"}", 2.0),
        ("ipamd_enis_unmanaged{reason=\"no_manage\"}", 1.0),
        ("ipamd_enis_in_doubt", 2.0),
        ("ipamd_blocks{kind=\"prefix\"}", 1.0),
        ("ipamd_holds{cause=\"subnet_full\",scope=\"subnet\"}", 1.0),
        ("ipamd_drift_total{kind=\"eni_lost\"}", 2.0),
        ("ipamd_lost_addresses_total", 7.0),
        ("ipamd_notices_total{cause=\"in_doubt\"}", 4.0),
        ("ipamd_waiting_adds", 3.0),
        ("ipamd_ready", 1.0),
        ("ipamd_degraded{cause=\"unauthorized\"}", 1.0),
        ("awscni_total_ip_addresses", 17.0),
        ("awscni_assigned_ip_addresses", 6.0),
        ("awscni_eni_allocated", 2.0),
        ("awscni_eni_max", 3.0),
        ("awscni_ip_max", 432.0),
        ("awscni_total_ipv4_prefixes", 1.0),
        ("awscni_assigned_ip_per_eni{eni=\"eni-1\"}", 6.0),
        ("awscni_force_removed_enis", 2.0),
    ] {
        assert_eq!(value(&first, series), Some(want), "{series}\n{first}");
    }
    metrics.see(&later);
    let text = text(&metrics);
    assert_eq!(value(&text, "ipamd_lost_addresses_total"), Some(9.0));
    assert_eq!(value(&text, "ipamd_enis{phase=\"ready\"}"), Some(1.0));
    assert!(!text.contains("ipamd_holds{") && !text.contains("eni-2"));
}

#[derive(Debug, Default)]
struct Kernel(std::sync::atomic::AtomicU64);

impl PodPackets for Kernel {
    fn are_checked(&self) -> bool {
        true
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        vec![("source", self.0.load(std::sync::atomic::Ordering::Relaxed))]
    }
}

#[test]
fn packets_are_counted_on_when_the_kernel_begins_anew() {
    let (metrics, kernel) = (metrics(), Arc::new(Kernel::default()));
    metrics.watch_packets(kernel.clone());
    let series = "ipamd_pod_packets_dropped_total{reason=\"source\"}";
    for (now, sum) in [
        (7, 7.0),
        (9, 9.0),
        (9, 9.0),
        (2, 11.0),
        (0, 11.0),
        (1, 12.0),
    ] {
        kernel.0.store(now, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(value(&text(&metrics), series), Some(sum), "{now}");
    }
    assert_eq!(value(&text(&metrics), "ipamd_source_check"), Some(1.0));
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("reads");
    String::from_utf8(answer).expect("is text")
}

#[tokio::test]
async fn prometheus_is_answered_also_while_the_engine_is_busy() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let address = taken.and_then(|l| l.local_addr()).expect("binds");
    let (engine, mut door) = Handle::new();
    let server = tokio::spawn(serve::serve(address, metrics(), engine));
    let get = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    while TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    // Nobody answers at the engine's door: what is known is shown all the same.
    let busy = ask(address, get).await;
    assert!(busy.starts_with("HTTP/1.1 200"), "{busy}");
    assert!(busy.contains("text/plain; version=0.0.4") && busy.contains("ipamd_build_info"));
    assert!(busy.contains("\nipamd_ready 0\n"), "{busy}");
    let engine = tokio::spawn(async move {
        while let Some(request) = door.recv().await {
            if let Request::Inspect(reply) = request {
                let _ = reply.send(Box::new(snapshot()));
            }
        }
    });
    tokio::time::sleep(serve::FRESH).await;
    let answer = ask(address, get).await;
    assert!(answer.contains("\nipamd_ready 1\n"), "{answer}");
    let other = get.replace("/metrics", "/");
    assert!(ask(address, &other).await.starts_with("HTTP/1.1 404"));
    let post = get.replace("GET", "POST");
    assert!(ask(address, &post).await.starts_with("HTTP/1.1 405"));
    server.abort();
    engine.abort();
}

/// Half-sent requests of one source: another one's scrape does not wait, and they don't last.
#[tokio::test]
async fn half_sent_requests_blind_nobody() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let address = taken.and_then(|l| l.local_addr()).expect("binds");
    let (engine, mut door) = Handle::new();
    let _serving = begin(address, metrics(), engine).expect("begins");
    let engine = tokio::spawn(async move {
        while let Some(request) = door.recv().await {
            if let Request::Inspect(reply) = request {
                let _ = reply.send(Box::new(snapshot()));
            }
        }
    });
    let mut half = Vec::new();
    while half.len() < 200 {
        let socket = tokio::net::TcpSocket::new_v4().expect("opens");
        let from = "127.0.0.2:0".parse().expect("parses");
        socket.bind(from).expect("binds");
        // It may not listen yet.
        if let Ok(mut stream) = socket.connect(address).await {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHos").await;
            half.push(stream);
        }
    }
    let began = std::time::Instant::now();
    let get = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = ask(address, get).await;
    assert!(answer.contains("\nipamd_ready 1\n"), "{answer}");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    // The oldest ones are told so, the newest after their time.
    let end = async {
        for mut stream in half {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(8), end).await;
    assert!(ended.is_ok());
    engine.abort();
}

#[tokio::test]
async fn an_address_that_is_taken_is_had_later() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("binds");
    let address = taken.local_addr().expect("has an address");
    let listening = tokio::spawn(serve::listen(address, Duration::from_millis(20)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!listening.is_finished());
    drop(taken);
    let listening = tokio::time::timeout(Duration::from_secs(10), listening);
    let listener = listening.await.expect("in time").expect("no panic");
    assert_eq!(listener.local_addr().ok(), Some(address));
}
