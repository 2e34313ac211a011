//! Against a real HTTPS server that looks at token, path and body as an API server does.

use super::*;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::{PodRef, Timestamp};
use ipam_engine::{LostPod, Notice};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

/// What was asked, and what is answered next (201 when there is nothing left).
#[derive(Debug, Default)]
struct Book {
    asked: Vec<(String, String, Value)>,
    answers: Vec<u16>,
    token: String,
}

struct World {
    book: Arc<Mutex<Book>>,
    dir: TempDir,
    metrics: Arc<Metrics>,
    server: ApiServer,
}

/// A certificate authority and a certificate of 127.0.0.1 by it: PEM of the one, TLS of the other.
fn certificates() -> (String, TlsAcceptor) {
    let ca_key = rcgen::KeyPair::generate().expect("makes a key");
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("signs itself");
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().expect("makes a key");
    let names = vec!["127.0.0.1".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).expect("has a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("is signed");
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("has versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .expect("fits");
    (ca_certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

fn answer(book: &Mutex<Book>, request: &Request<()>, body: &[u8]) -> Response<Full<Bytes>> {
    let mut book = book.lock().expect("is not poisoned");
    let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    let reply = |status: u16, words: &str| {
        let body = json!({"kind": "Status", "message": words}).to_string();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = hyper::StatusCode::from_u16(status).expect("is a status");
        response
    };
    if header("authorization") != Some(&format!("Bearer {}", book.token)) {
        return reply(401, "Unauthorized");
    }
    let method = request.method().as_str();
    let wanted = match method {
        "POST" => "application/json",
        _ => "application/merge-patch+json",
    };
    let body: Value = serde_json::from_slice(body).expect("is JSON");
    if header("content-type") != Some(wanted) {
        return reply(415, "no such media type");
    }
    let path = request.uri().path().to_owned();
    book.asked.push((method.to_owned(), path, body));
    let status = if book.answers.is_empty() {
        201
    } else {
        book.answers.remove(0)
    };
    reply(status, "as the test wants it")
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, book: Arc<Mutex<Book>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (tls, book) = (tls.clone(), book.clone());
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = hyper::service::service_fn(|request: Request<Incoming>| async {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok::<_, hyper::Error>(answer(&book, &Request::from_parts(head, ()), &body))
            });
            // The client hangs up when it has its answer.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl World {
    async fn new() -> Self {
        let dir = TempDir::new().expect("makes a directory");
        let (ca, tls) = certificates();
        std::fs::write(dir.path().join("ca.crt"), ca).expect("writes");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let book = Arc::new(Mutex::new(Book::default()));
        tokio::spawn(serve(listener, tls, book.clone()));
        let world = Self {
            book,
            dir,
            metrics: Arc::new(Metrics::new("empty", None).expect("makes the metrics")),
            server: ApiServer {
                host: "127.0.0.1".into(),
                port,
            },
        };
        world.set_token("first");
        world
    }

    fn set_token(&self, token: &str) {
        let path = self.dir.path().join("token");
        std::fs::write(path, format!("{token}\n")).expect("writes");
        self.book.lock().expect("is not poisoned").token = token.into();
    }

    fn answer_with(&self, answers: &[u16]) {
        self.book.lock().expect("is not poisoned").answers = answers.into();
    }

    fn kube(&self) -> Kube {
        let settings = Settings {
            server: Some(self.server.clone()),
            node: Some("ip-10-0-0-7.ec2.internal".into()),
            credentials: self.dir.path().into(),
        };
        Kube::start(settings, self.metrics.clone()).expect("starts")
    }

    /// What was asked, once there are so many.
    async fn asked(&self, count: usize) -> Vec<(String, String, Value)> {
        for _ in 0..1000 {
            let asked = self.book.lock().expect("is not poisoned").asked.clone();
            if asked.len() >= count {
                return asked;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", self.book.lock());
    }

    fn counted(&self, result: &str) -> bool {
        let text = String::from_utf8(self.metrics.text()).expect("is text");
        text.contains(&format!("ipamd_events_total{{result=\"{result}\"}}"))
    }

    async fn until_counted(&self, result: &str) {
        for _ in 0..1000 {
            if self.counted(result) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing {result}");
    }
}

fn told(notice: Notice, repeats: u32) -> Told {
    Told {
        at: Timestamp(1_767_225_600_000),
        notice,
        repeats,
    }
}

fn denied() -> Notice {
    Notice::Refused {
        error: CloudError {
            action: "AssignPrivateIpAddresses",
            class: ErrorClass::Unauthorized,
            code: "UnauthorizedOperation".into(),
            message: "You are not authorized to perform this operation.".into(),
        },
        subnet: None,
        next: None,
    }
}

fn lost(name: &str, namespace: &str) -> Notice {
    Notice::EniLost {
        eni: "eni-1".into(),
        pods: vec![LostPod {
            pod: PodRef {
                namespace: namespace.into(),
                name: name.into(),
                uid: "11-22".into(),
            },
            address: [10, 0, 0, 9].into(),
        }],
    }
}

#[tokio::test]
async fn an_event_on_the_node_is_made_and_then_counted_up() {
    let world = World::new().await;
    let kube = world.kube();
    kube.tell(&told(denied(), 0));
    world.asked(1).await;
    kube.tell(&told(denied(), 6));
    let asked = world.asked(2).await;
    let (method, path, body) = &asked[0];
    assert_eq!(
        (method.as_str(), path.as_str()),
        ("POST", "/api/v1/namespaces/default/events")
    );
    let node = "ip-10-0-0-7.ec2.internal";
    assert_eq!(
        body["involvedObject"],
        json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": node})
    );
    assert_eq!(body["reason"], "MissingIAMPermissions");
    assert_eq!(
        (&body["type"], &body["count"]),
        (&json!("Warning"), &json!(1))
    );
    assert_eq!(body["firstTimestamp"], "2026-01-01T00:00:00Z");
    let message = body["message"].as_str().expect("is text");
    assert!(
        message.contains("ec2:AssignPrivateIpAddresses"),
        "{message}"
    );
    let name = body["metadata"]["name"].as_str().expect("is text");
    let (method, path, body) = &asked[1];
    assert_eq!(method, "PATCH");
    assert_eq!(path, &format!("/api/v1/namespaces/default/events/{name}"));
    assert_eq!(body["count"], 8);
    assert!(body.get("firstTimestamp").is_none());
}

#[tokio::test]
async fn a_pod_that_lost_its_address_has_an_event_of_its_own() {
    let world = World::new().await;
    let kube = world.kube();
    kube.tell(&told(lost("web-0", "shop"), 0));
    let asked = world.asked(2).await;
    assert_eq!(asked[0].2["reason"], "EniLost");
    let (_, path, body) = &asked[1];
    assert_eq!(path, "/api/v1/namespaces/shop/events");
    assert_eq!(body["reason"], "AddressLost");
    assert_eq!(body["involvedObject"]["uid"], "11-22");
    assert_eq!(body["metadata"]["namespace"], "shop");
    // Names that can't be a pod's never become part of a path.
    for name in ["../../secrets", "a/b", "", "A", "a..b"] {
        kube.tell(&told(lost(name, "shop"), 0));
        kube.tell(&told(lost("web-1", name), 0));
    }
    kube.tell(&told(denied(), 0));
    let asked = world.asked(13).await;
    let pods = asked.iter().filter(|(_, path, _)| path.contains("/shop/"));
    assert_eq!(pods.count(), 1, "{asked:?}");
}

#[tokio::test]
async fn a_replaced_token_and_certificate_are_used_at_once() {
    let world = World::new().await;
    let kube = world.kube();
    kube.tell(&told(denied(), 0));
    world.asked(1).await;
    world.set_token("second");
    kube.tell(&told(denied(), 0));
    world.asked(2).await;
    // A stranger's certificate is refused: nobody gets the token who can't prove who they are.
    let (other, _) = certificates();
    std::fs::write(world.dir.path().join("ca.crt"), other).expect("writes");
    kube.tell(&told(Notice::EniGone("eni-1".into()), 0));
    world.until_counted("failed").await;
    assert_eq!(world.asked(2).await.len(), 2);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_a_no_is_a_no() {
    let world = World::new().await;
    world.answer_with(&[503, 201, 403, 404, 201]);
    let kube = world.kube();
    kube.tell(&told(denied(), 0));
    world.asked(2).await;
    world.until_counted("sent").await;
    kube.tell(&told(Notice::EniGone("eni-1".into()), 0));
    world.until_counted("failed").await;
    assert_eq!(world.asked(3).await.len(), 3);
    // The API server has forgotten the first: it is made anew.
    kube.tell(&told(denied(), 0));
    let methods: Vec<_> = world.asked(5).await.into_iter().map(|a| a.0).collect();
    assert_eq!(methods, ["POST", "POST", "POST", "PATCH", "POST"]);
}

#[tokio::test]
async fn there_is_no_cluster_without_server_name_or_token() {
    let world = World::new().await;
    let whole = Settings {
        server: Some(world.server.clone()),
        node: Some("n".into()),
        credentials: world.dir.path().into(),
    };
    let start = |settings| Kube::start(settings, world.metrics.clone());
    assert!(start(whole.clone()).is_some());
    assert!(
        start(Settings {
            server: None,
            ..whole.clone()
        })
        .is_none()
    );
    assert!(
        start(Settings {
            node: None,
            ..whole.clone()
        })
        .is_none()
    );
    let credentials = Path::new("/nonexistent").into();
    assert!(
        start(Settings {
            credentials,
            ..whole
        })
        .is_none()
    );
}

#[tokio::test]
async fn a_flood_stays_within_the_budget_and_waits_for_nobody() {
    let world = World::new().await;
    let kube = world.kube();
    let began = std::time::Instant::now();
    for n in 0..1000 {
        kube.tell(&told(Notice::EniGone(format!("eni-{n}")), 0));
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    world.asked(BURST as usize).await;
    sleep(Duration::from_millis(300)).await;
    let asked = world.asked(BURST as usize).await.len();
    assert!(asked <= BURST as usize + 1, "{asked}");
    assert!(world.counted("dropped"));
}

#[test]
fn the_budget_fills_up_again() {
    let start = Instant::now();
    let mut budget = Budget::new(start);
    let taken =
        |budget: &mut Budget, at: Duration| (0..100).filter(|_| budget.take(start + at)).count();
    assert_eq!(taken(&mut budget, Duration::ZERO), 20);
    assert_eq!(taken(&mut budget, REFILL * 3), 3);
    assert_eq!(taken(&mut budget, REFILL * 1000), 20);
}
