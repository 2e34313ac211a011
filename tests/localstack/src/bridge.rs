//! Between the daemon and LocalStack: passes each request and each answer on as they are. After a
//! write, and before the answer goes on, the mini VPC is made to show what LocalStack has now: what EC2
//! has answered is routed, as in a real VPC.
//!
//! It also keeps a log of calls, and can lose answers. It decides nothing about addresses.

use crate::ec2::Answer;
use crate::http::{self, HttpAnswer};
use crate::world::{self, WorldError};
use crate::xml::Element;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use vpc_model::mirror::MirrorError;
use vpc_sim::Model;

/// No request of an EC2 client is larger.
const REQUEST_MAX: usize = 1 << 20;

/// Why the mini VPC could not be made to show what LocalStack has.
#[derive(Debug, Error)]
pub enum BridgeError {
    /// LocalStack was not understood.
    #[error(transparent)]
    World(#[from] WorldError),
    /// It has what can't be.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

/// A call that went over the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What was asked.
    pub action: String,
    /// Its parameters, as sent.
    pub form: String,
    /// HTTP status.
    pub status: u16,
    /// EC2's code, if it was refused.
    pub code: Option<String>,
    /// The answer was lost on purpose.
    pub lost: bool,
}

impl Passed {
    /// A parameter's value.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut all = form_urlencoded::parse(self.form.as_bytes());
        all.find(|(n, _)| n == name)
            .map(|(_, value)| value.into_owned())
    }
}

/// The bridge. Its listener ends with the runtime that serves it.
#[derive(Clone, Debug)]
pub struct Bridge(Arc<State>);

#[derive(Debug)]
struct State {
    localstack: SocketAddr,
    /// VPC to follow; none when there is no EC2 behind the bridge.
    vpc: Option<String>,
    model: Model,
    /// One at a time, so that an older view never comes after a newer one.
    mirroring: tokio::sync::Mutex<()>,
    log: Mutex<Vec<Passed>>,
    /// Actions whose next answer is lost.
    losing: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
}

impl Bridge {
    /// Serves `listener`, which is in the node's namespace, for LocalStack in this one.
    ///
    /// # Errors
    /// The listener can't be served.
    pub fn open(
        listener: std::net::TcpListener,
        localstack: SocketAddr,
        vpc: Option<String>,
        model: Model,
        runtime: &Handle,
    ) -> std::io::Result<Self> {
        let bridge = Self(Arc::new(State {
            localstack,
            vpc,
            model,
            mirroring: tokio::sync::Mutex::default(),
            log: Mutex::default(),
            losing: Mutex::default(),
            failures: Mutex::default(),
        }));
        let _inside = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let serving = bridge.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        Ok(bridge)
    }

    /// Makes the mini VPC show what LocalStack has now: after calls past the bridge.
    ///
    /// # Errors
    /// It can't.
    pub async fn follow(&self) -> Result<(), BridgeError> {
        let Some(vpc) = &self.0.vpc else {
            return Ok(());
        };
        let _one = self.0.mirroring.lock().await;
        let twins = world::twins(self.0.localstack, vpc).await?;
        let now = self.0.model.clock().now();
        self.0.model.vpc().mirror(&twins, now)?;
        self.0.model.caught_up().await;
        Ok(())
    }

    /// LocalStack does the next call of this action, and the answer is lost.
    pub fn lose_answer(&self, action: &str) {
        lock(&self.0.losing).push(action.to_owned());
    }

    /// Every call so far.
    #[must_use]
    pub fn passed(&self) -> Vec<Passed> {
        lock(&self.0.log).clone()
    }

    /// How many calls there were of actions whose names begin so.
    #[must_use]
    pub fn count(&self, action: &str) -> usize {
        let log = lock(&self.0.log);
        log.iter().filter(|p| p.action.starts_with(action)).count()
    }

    /// What went wrong on the bridge itself; nothing should.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        lock(&self.0.failures).clone()
    }

    async fn serve(self, stream: TcpStream) {
        // EC2 works on when its caller is gone, and the mini VPC must hear of it: a task of its own.
        let service = service_fn(|request| {
            let bridge = self.clone();
            let work = tokio::spawn(async move { bridge.pass(request).await });
            async move { work.await.unwrap_or(Err(Lost)) }
        });
        // A client that hangs up, or an answer that is lost on purpose, ends the connection.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, REQUEST_MAX).collect().await else {
            return Err(Lost);
        };
        let body = body.to_bytes();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
        let answer = http::exchange(
            self.0.localstack,
            head.method,
            path,
            &head.headers,
            body.clone(),
        )
        .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                self.note(e.to_string());
                return Err(Lost);
            }
        };
        let passed = self.noted(&body, &answer);
        if !passed.action.starts_with("Describe")
            && let Err(e) = self.follow().await
        {
            self.note(format!("after {}: {e}", passed.action));
        }
        if passed.lost {
            return Err(Lost);
        }
        Ok(as_it_came(answer))
    }

    fn noted(&self, form: &[u8], answer: &HttpAnswer) -> Passed {
        let named = form_urlencoded::parse(form).find(|(name, _)| name == "Action");
        let action = named.map_or_else(String::new, |(_, action)| action.into_owned());
        let code = Element::parse(&String::from_utf8_lossy(&answer.body))
            .ok()
            .map(|root| Answer {
                status: answer.status.as_u16(),
                root,
            })
            .and_then(|answer| answer.code().map(str::to_owned));
        let lost = {
            let mut losing = lock(&self.0.losing);
            let this = losing.iter().position(|a| *a == action);
            this.map(|n| losing.remove(n)).is_some()
        };
        let passed = Passed {
            action,
            form: String::from_utf8_lossy(form).into_owned(),
            status: answer.status.as_u16(),
            code,
            lost,
        };
        lock(&self.0.log).push(passed.clone());
        passed
    }

    fn note(&self, failure: String) {
        lock(&self.0.failures).push(failure);
    }
}

/// The connection is closed without an answer.
#[derive(Debug, Error)]
#[error("the answer is lost")]
struct Lost;

/// Status, headers and body are LocalStack's, but for what belongs to a connection.
fn as_it_came(answer: HttpAnswer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response.headers_mut().remove(hyper::header::CONNECTION);
    response
        .headers_mut()
        .remove(hyper::header::TRANSFER_ENCODING);
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
    response
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
