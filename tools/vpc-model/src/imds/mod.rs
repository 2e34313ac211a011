//! The instance metadata service, version 2: tokens and the metadata tree, as values.
//!
//! A server hands in each request with the node that it came from, waits for the reply's delay,
//! and answers. Nothing about HTTP beyond method, path and four headers is known here.

mod credentials;
mod interfaces;
mod token;
mod tree;

use crate::fault::{Effect, millis};
use crate::ids::{InstanceId, NodeName};
use crate::latency::sample;
use crate::spec::HttpTokens;
use crate::time::Time;
use crate::vpc::Vpc;
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use credentials::{ROLE, ROLE_ID};

/// One HTTP request to 169.254.169.254.
#[derive(Clone, Debug, Default)]
pub struct ImdsRequest<'a> {
    /// `GET`, `PUT` or `HEAD`.
    pub method: &'a str,
    /// Absolute path with or without a query, for example `/latest/meta-data/mac`.
    pub path: &'a str,
    /// Header `X-aws-ec2-metadata-token`.
    pub token: Option<&'a str>,
    /// Header `X-aws-ec2-metadata-token-ttl-seconds`.
    pub ttl: Option<&'a str>,
    /// There is a header `X-Forwarded-For`: a token is refused then (*documented*).
    pub forwarded: bool,
}

impl<'a> ImdsRequest<'a> {
    /// A GET with a token.
    pub fn get(path: &'a str, token: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            token: Some(token),
            ..Self::default()
        }
    }
}

/// What IMDS does with a request: wait, then answer or close the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsReply {
    /// Wait so long first.
    pub delay: Duration,
    /// `None`: close the connection without a word.
    pub answer: Option<ImdsAnswer>,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImdsAnswer {
    /// 200, 400, 401, 403, 404, 405, …
    pub status: u16,
    /// `text/plain`, for JSON too (*recorded*), or `text/html`.
    pub content_type: &'static str,
    /// Header `X-Aws-Ec2-Metadata-Token-Ttl-Seconds`, seconds that the token will still live.
    pub token_ttl: Option<u64>,
    /// Body.
    pub body: String,
}

impl ImdsAnswer {
    fn text(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain",
            token_ttl: None,
            body,
        }
    }

    /// IMDS's error pages are small HTML documents (*recorded*).
    fn error(status: u16) -> Self {
        let reason = match status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<!DOCTYPE html PUBLIC \"-//W3C//DTD \
             XHTML 1.0 Transitional//EN\" \
             \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n<html \
             xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n <head>\n  \
             <title>{status} - {reason}</title>\n </head>\n <body>\n  <h1>{status} - \
             {reason}</h1>\n </body>\n</html>\n"
        );
        Self {
            status,
            content_type: "text/html",
            token_ttl: None,
            body,
        }
    }
}

/// What IMDS remembers: the access keys that it gave out.
#[derive(Debug, Default)]
pub(crate) struct ImdsState {
    keys: BTreeMap<String, NodeName>,
}

impl ImdsState {
    pub(crate) fn node_of_key(&self, access_key_id: &str) -> Option<NodeName> {
        self.keys.get(access_key_id).cloned()
    }
}

impl Vpc {
    pub(crate) fn imds_answer(
        &mut self,
        id: &InstanceId,
        request: &ImdsRequest<'_>,
        now: Time,
    ) -> ImdsReply {
        let mut delay = sample(&self.spec.latencies.imds_ms, &mut self.rng);
        let Some(instance) = self.instances.get(id).filter(|i| i.terminated.is_none()) else {
            return ImdsReply {
                delay,
                answer: None,
            };
        };
        let node = instance.node.clone();
        let segments = segments(request.path);
        let path = segments.get(1..).unwrap_or_default().join("/");
        let mut stale = Duration::ZERO;
        let mut failure = None;
        for effect in self.faults.on_imds(node.as_str(), &path) {
            match effect {
                Effect::ImdsDelay { ms } => delay += millis(ms),
                Effect::ImdsDrop => {
                    return ImdsReply {
                        delay,
                        answer: None,
                    };
                }
                Effect::ImdsFail { http_status } => failure = Some(http_status),
                Effect::ImdsStale { ms } => stale += millis(ms),
                _ => {}
            }
        }
        let answer = match failure {
            Some(status) => ImdsAnswer::error(status),
            None => self.imds_serve(id, request, &segments, now, stale),
        };
        ImdsReply {
            delay,
            answer: Some(answer),
        }
    }

    fn imds_serve(
        &mut self,
        id: &InstanceId,
        request: &ImdsRequest<'_>,
        segments: &[&str],
        now: Time,
        stale: Duration,
    ) -> ImdsAnswer {
        let seed = self.spec.seed;
        if let [_, "api", "token"] = segments {
            return match request.method {
                "PUT" => token::issue(seed, id, request, &mut self.rng, now),
                _ => ImdsAnswer::error(405),
            };
        }
        if !matches!(request.method, "GET" | "HEAD") {
            return ImdsAnswer::error(405);
        }
        let required = self
            .instances
            .get(id)
            .is_some_and(|i| i.http_tokens == HttpTokens::Required);
        let ttl = match request.token {
            None if required => return ImdsAnswer::error(401),
            None => None,
            Some(token) => match token::check(seed, id, token, now) {
                Some(left) => Some(left),
                None => return ImdsAnswer::error(401),
            },
        };
        let mut answer = match self.imds_get(id, segments, now, stale) {
            Some(body) => ImdsAnswer::text(body),
            None => ImdsAnswer::error(404),
        };
        answer.token_ttl = ttl;
        answer
    }
}

/// The path without its query, empty segments and their slashes dropped.
fn segments(path: &str) -> Vec<&str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').filter(|s| !s.is_empty()).collect()
}
