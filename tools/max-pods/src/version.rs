//! Versions of the CNI as people write them: `1.9`, `1.9.0`, `v1.11.2-eksbuild.1`.

use std::str::FromStr;

/// Major and minor: all that a decision here depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CniVersion {
    major: u32,
    minor: u32,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version such as 1.9.0 or v1.11.2-eksbuild.1")]
pub(crate) struct VersionError(String);

impl CniVersion {
    /// Prefix delegation came with Amazon VPC CNI 1.9.0.
    pub(crate) fn has_prefixes(self) -> bool {
        self >= Self { major: 1, minor: 9 }
    }
}

impl FromStr for CniVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        parse(text).ok_or_else(|| VersionError(text.to_owned()))
    }
}

/// `[v]MAJOR.MINOR[.PATCH][-anything]`
fn parse(text: &str) -> Option<CniVersion> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let numbers = text
        .split_once(['-', '+'])
        .map_or(text, |(numbers, _)| numbers);
    let mut parts = numbers.split('.');
    let version = CniVersion {
        major: number(parts.next()?)?,
        minor: number(parts.next()?)?,
    };
    if let Some(patch) = parts.next() {
        number(patch)?;
    }
    parts.next().is_none().then_some(version)
}

fn number(digits: &str) -> Option<u32> {
    // `parse` alone would take a sign.
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, has) in [
            ("1.9.0", true),
            ("1.9", true),
            ("v1.9.0", true),
            ("v1.11.2-eksbuild.1", true),
            ("1.10.0", true),
            ("2.0", true),
            ("1.12.1-rc3", true),
            ("1.9.0+build.5", true),
            ("1.8.9", false),
            ("v1.7.5-eksbuild.2", false),
            ("0.99.0", false),
        ] {
            assert_eq!(
                text.parse().map(CniVersion::has_prefixes),
                Ok(has),
                "{text}"
            );
        }
        for text in [
            "", "1", "v", "latest", "1.", "1.x", "1.9.", "1.9.0.1", "+1.9", "-1.9", "1.9 ",
        ] {
            assert_eq!(text.parse::<CniVersion>(), Err(VersionError(text.into())));
        }
    }
}
