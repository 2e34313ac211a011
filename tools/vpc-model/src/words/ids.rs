//! Names of things: EC2 ids, MAC addresses, node names. Text inside, types outside.

use crate::words::rng::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(s: &str) -> Self {
                Self(s.into())
            }
        }
        impl From<String> for $name {
            fn from(s: String) -> Self {
                Self(s.into())
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// `eni-0…`
    EniId
);
id!(
    /// `eni-attach-0…`
    AttachmentId
);
id!(
    /// `subnet-0…`
    SubnetId
);
id!(
    /// `vpc-0…`
    VpcId
);
id!(
    /// `i-0…`
    InstanceId
);
id!(
    /// `sg-0…`
    GroupId
);
id!(
    /// The name that the spec gives a node (an instance with a namespace).
    NodeName
);

/// Sixteen hex digits after `prefix-0`, as EC2's long ids have seventeen.
pub(crate) fn fresh(prefix: &str, rng: &mut Rng) -> String {
    format!("{prefix}-0{:016x}", rng.next())
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Locally administered, unicast, first octet 02, 06, 0a or 0e as seen on EC2 (*recorded*).
    pub(crate) fn fresh(rng: &mut Rng) -> Self {
        let [a, b, c, d, e, f, ..] = rng.next().to_be_bytes();
        Self([(a & 0x0c) | 0x02, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not an Ethernet address")]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let no = || NotAMac(text.to_owned());
        let octet = |part: &str| {
            let two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            two.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets = octets.and_then(|o| <[u8; 6]>::try_from(o).ok());
        octets.map(Self).ok_or_else(no)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Mac;

    #[test]
    fn ethernet_addresses_are_read_strictly() {
        let mac = Mac([2, 0xab, 0, 1, 2, 0xff]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in [
            "",
            "02:ab:00:01:02",
            "02:ab:00:01:02:ff:00",
            "02:00:00:2702x:14602x:1102x",
            "+2:ab:00:01:02:ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
