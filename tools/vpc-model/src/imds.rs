//! The instance metadata service, version 2: tokens and the metadata tree, as values.

use std::time::Duration;

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
    /// `text/plain`, `application/json` or `text/html`.
    pub content_type: &'static str,
    /// Header `X-Aws-Ec2-Metadata-Token-Ttl-Seconds`, seconds that the token will still live.
    pub token_ttl: Option<u64>,
    /// Body.
    pub body: String,
}
