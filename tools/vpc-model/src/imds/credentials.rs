//! Credentials of the instance role: made from seed, instance and hour, new each hour.

use crate::words::caller::ROLE;
use crate::words::ids::{InstanceId, NodeName};
use crate::words::rng::Rng;
use crate::words::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The instance profile's unique id.
pub(super) const PROFILE_ID: &str = "AIPAVPCSIMNODEPROF001";

/// New keys each hour; they live six (*recorded*: about that on EC2).
const PERIOD: u64 = 3600;
const LIFE: Duration = Duration::from_secs(6 * PERIOD);

/// What IMDS remembers: the access keys that it gave out.
#[derive(Debug, Default)]
pub(crate) struct ImdsState {
    pub(super) keys: BTreeMap<String, NodeName>,
}

impl ImdsState {
    pub(crate) fn node_of_key(&self, access_key_id: &str) -> Option<NodeName> {
        self.keys.get(access_key_id).cloned()
    }
}

pub(super) struct Credentials {
    pub(super) access_key_id: String,
    secret: String,
    token: String,
    updated: Time,
}

impl Credentials {
    pub(super) fn at(seed: u64, instance: &InstanceId, now: Time) -> Self {
        let hour = now.unix_secs() / PERIOD;
        let mut rng = Rng::new(seed ^ hour.rotate_left(32));
        for byte in instance.as_str().bytes() {
            rng = Rng::new(rng.next() ^ u64::from(byte));
        }
        let upper = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let any = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        Self {
            access_key_id: format!("ASIA{}", word(&mut rng, upper, 16)),
            secret: word(&mut rng, any, 40),
            token: format!("IQoJb3JpZ2luX2Vj{}", word(&mut rng, any, 240)),
            updated: Time::from_unix_millis(hour * PERIOD * 1000),
        }
    }

    /// As IMDS prints it, spaces before the colons included (*recorded*).
    pub(super) fn json(&self) -> String {
        format!(
            "{{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"{}\",\n  \"Type\" : \
             \"AWS-HMAC\",\n  \"AccessKeyId\" : \"{}\",\n  \"SecretAccessKey\" : \"{}\",\n  \
             \"Token\" : \"{}\",\n  \"Expiration\" : \"{}\"\n}}",
            self.updated.iso8601(),
            self.access_key_id,
            self.secret,
            self.token,
            (self.updated + LIFE).iso8601()
        )
    }
}

fn word(rng: &mut Rng, letters: &[u8], len: usize) -> String {
    let bound = u64::try_from(letters.len()).unwrap_or(1);
    let letter = |n: u64| {
        usize::try_from(n)
            .ok()
            .and_then(|n| letters.get(n))
            .copied()
    };
    (0..len)
        .map(|_| char::from(letter(rng.below(bound)).unwrap_or(b'A')))
        .collect()
}

/// `iam/info`.
pub(super) fn info(seed: u64, account: &str, instance: &InstanceId, now: Time) -> String {
    let updated = Credentials::at(seed, instance, now).updated;
    format!(
        "{{\n  \"Code\" : \"Success\",\n  \"LastUpdated\" : \"{}\",\n  \"InstanceProfileArn\" : \
         \"arn:aws:iam::{account}:instance-profile/{ROLE}\",\n  \"InstanceProfileId\" : \
         \"{PROFILE_ID}\"\n}}",
        updated.iso8601()
    )
}
