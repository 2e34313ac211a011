//! The instance metadata service, version 2: tokens and the metadata tree, as values.
//!
//! A server hands in each request with the node that it came from, waits for the reply's delay,
//! and answers. Nothing about HTTP beyond method, path and four headers is known here.

mod credentials;
mod exchange;
mod interfaces;
mod leaves;
mod token;
mod tree;

pub(crate) use credentials::ImdsState;
pub use exchange::{ImdsAnswer, ImdsReply, ImdsRequest};

use crate::state::State;
use crate::words::fault::ImdsTrouble;
use crate::words::ids::InstanceId;
use crate::words::spec::HttpTokens;
use crate::words::time::Time;
use tree::imds_get;

/// The path below the API version: what faults match on.
pub(crate) fn path_below_version(path: &str) -> String {
    segments(path).get(1..).unwrap_or_default().join("/")
}

/// Answers a request of a running instance after `delay`, or as the trouble that it meets has it.
pub(crate) fn answer(
    state: &mut State,
    keys: &mut ImdsState,
    id: &InstanceId,
    request: &ImdsRequest<'_>,
    trouble: &ImdsTrouble,
    now: Time,
) -> Option<ImdsAnswer> {
    if trouble.drop {
        return None;
    }
    Some(match trouble.failure {
        Some(status) => ImdsAnswer::error(status),
        None => serve(state, keys, id, request, trouble, now),
    })
}

fn serve(
    state: &mut State,
    keys: &mut ImdsState,
    id: &InstanceId,
    request: &ImdsRequest<'_>,
    trouble: &ImdsTrouble,
    now: Time,
) -> ImdsAnswer {
    let seed = state.spec.seed;
    let segments = segments(request.path);
    if let [_, "api", "token"] = segments.as_slice() {
        return match request.method {
            "PUT" => token::issue(seed, id, request, &mut state.rng, now),
            _ => ImdsAnswer::error(405),
        };
    }
    if !matches!(request.method, "GET" | "HEAD") {
        return ImdsAnswer::error(405);
    }
    let required = state
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
    let mut answer = match imds_get(state, keys, id, &segments, trouble, now) {
        Some(body) => ImdsAnswer::text(body),
        None => ImdsAnswer::error(404),
    };
    answer.token_ttl = ttl;
    answer
}

/// The path without its query, empty segments and their slashes dropped.
fn segments(path: &str) -> Vec<&str> {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.split('/').filter(|s| !s.is_empty()).collect()
}
