//! Session tokens. A token carries its expiry and a checksum that binds it to its instance, so
//! nothing is stored: an IMDS that restarts knows its old tokens.

use super::exchange::{ImdsAnswer, ImdsRequest};
use crate::words::ids::InstanceId;
use crate::words::rng::Rng;
use crate::words::time::Time;
use std::time::Duration;

/// Longest life of a token in seconds (*documented*: 6 hours).
const MAX_TTL: u64 = 21_600;
const HEAD: &str = "AQAEA";

/// Answers `PUT /latest/api/token`.
pub(super) fn issue(
    seed: u64,
    instance: &InstanceId,
    request: &ImdsRequest<'_>,
    rng: &mut Rng,
    now: Time,
) -> ImdsAnswer {
    if request.forwarded {
        return ImdsAnswer::error(403);
    }
    let ttl = request.ttl.and_then(|t| t.trim().parse::<u64>().ok());
    let Some(ttl) = ttl.filter(|t| (1..=MAX_TTL).contains(t)) else {
        return ImdsAnswer::error(400);
    };
    let nonce = rng.next();
    let expiry = (now + Duration::from_secs(ttl)).unix_micros();
    let sum = checksum(seed, instance, nonce, expiry);
    let token = format!("{HEAD}{nonce:016x}{expiry:016x}{sum:016x}==");
    ImdsAnswer {
        token_ttl: Some(ttl),
        ..ImdsAnswer::text(token)
    }
}

/// Seconds that a token of this instance will still live; `None` if it is not one or is over.
pub(super) fn check(seed: u64, instance: &InstanceId, token: &str, now: Time) -> Option<u64> {
    let body = token.strip_prefix(HEAD)?.strip_suffix("==")?;
    let part = |i: usize| u64::from_str_radix(body.get(16 * i..16 * (i + 1))?, 16).ok();
    let (nonce, expiry, sum) = (part(0)?, part(1)?, part(2)?);
    if body.len() != 48 || checksum(seed, instance, nonce, expiry) != sum {
        return None;
    }
    let left = Time::from_unix_micros(expiry).since(now);
    (!left.is_zero()).then_some(left.as_secs())
}

/// Not a secret: it only has to tell a token that was issued from text that was not.
fn checksum(seed: u64, instance: &InstanceId, nonce: u64, expiry: u64) -> u64 {
    let mut sum = seed;
    for word in instance
        .as_str()
        .bytes()
        .map(u64::from)
        .chain([nonce, expiry])
    {
        sum = Rng::new(sum ^ word).next();
    }
    sum
}
