//! What comes in and what goes out: as much of HTTP as the metadata service needs.

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
    /// `text/plain`, for JSON too (*recorded*), or `text/html`.
    pub content_type: &'static str,
    /// Header `X-Aws-Ec2-Metadata-Token-Ttl-Seconds`, seconds that the token will still live.
    pub token_ttl: Option<u64>,
    /// Body.
    pub body: String,
}

impl ImdsAnswer {
    pub(super) fn text(body: String) -> Self {
        Self {
            status: 200,
            content_type: "text/plain",
            token_ttl: None,
            body,
        }
    }

    /// IMDS's error pages are small HTML documents (*recorded*).
    pub(super) fn error(status: u16) -> Self {
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
