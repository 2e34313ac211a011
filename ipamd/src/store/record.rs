//! One stored record: a version, a checksum over key and body, and a JSON body.
//!
//! Bodies ignore fields that they don't know, so that the version before a downgrade can be read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version that is written.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 5;

/// Why a record can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("is cut short ({0} bytes)")]
    Short(usize),
    #[error("was written by a newer ipamd (record version {0})")]
    Newer(u8),
    #[error("does not match its checksum")]
    Checksum,
    #[error("has a body that can't be read")]
    Body(#[source] serde_json::Error),
}

fn checksum(version: u8, key: &[u8], body: &[u8]) -> [u8; 4] {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&[version]);
    hash.update(key);
    hash.update(body);
    hash.finalize().to_le_bytes()
}

/// The bytes to store under `key`.
pub(super) fn encode<T: Serialize>(key: &[u8], value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![VERSION, 0, 0, 0, 0];
    serde_json::to_writer(&mut bytes, value)?;
    let sum = checksum(VERSION, key, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum);
    Ok(bytes)
}

/// The value that was stored under `key`.
pub(super) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, RecordError> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(RecordError::Short(bytes.len()));
    };
    let [version, sum @ ..] = *header;
    if checksum(version, key, body) != sum {
        return Err(RecordError::Checksum);
    }
    if version > VERSION {
        return Err(RecordError::Newer(version));
    }
    serde_json::from_slice(body).map_err(RecordError::Body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_nothing_else() {
        let bytes = encode(b"k", &("a", 7)).expect("encodes");
        assert_eq!(
            decode::<(String, u32)>(b"k", &bytes).expect("decodes"),
            ("a".into(), 7)
        );
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(
                    decode::<(String, u32)>(b"k", &bad).is_err(),
                    "byte {at} bit {bit}"
                );
            }
            assert!(
                decode::<(String, u32)>(b"k", &bytes[..at]).is_err(),
                "cut at {at}"
            );
        }
        assert!(matches!(
            decode::<u32>(b"x", &bytes),
            Err(RecordError::Checksum)
        ));
    }

    #[test]
    fn unknown_fields_are_passed_over_and_newer_records_named() {
        #[derive(serde::Deserialize)]
        struct Old {
            a: u32,
        }
        let key = b"k";
        let bytes = encode(key, &serde_json::json!({"a": 1, "b": [2]})).expect("encodes");
        assert_eq!(decode::<Old>(key, &bytes).expect("decodes").a, 1);
        let mut newer = bytes;
        newer[0] = VERSION + 1;
        let sum = checksum(VERSION + 1, key, &newer[HEADER..]);
        newer[1..HEADER].copy_from_slice(&sum);
        assert!(matches!(
            decode::<Old>(key, &newer),
            Err(RecordError::Newer(2))
        ));
    }
}
