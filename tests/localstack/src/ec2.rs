//! EC2's Query protocol as a caller speaks it: parameters out, XML in. Works with LocalStack and with
//! `vpc-sim` alike; signs nothing that either would check.

use crate::http::{self, HttpError};
use crate::xml::Element;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method};
use std::net::SocketAddr;
use thiserror::Error;
use tokio::runtime::Handle;

/// The region of every test.
pub const REGION: &str = "eu-west-1";
const VERSION: &str = "2016-11-15";
/// LocalStack reads service and region from it.
const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=test/20250101/eu-west-1/ec2/aws4_request, \
                         SignedHeaders=host, Signature=0";

/// An answer, good or bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The document.
    pub root: Element,
}

impl Answer {
    /// EC2's code, if this is an error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.root
            .at("Errors/Error/Code")
            .or_else(|| self.root.at("Error/Code"))
            .map(|e| e.text.as_str())
    }

    /// EC2's words, if this is an error.
    #[must_use]
    pub fn message(&self) -> &str {
        self.root.text("Errors/Error/Message")
    }
}

/// Why a call that had to succeed did not.
#[derive(Debug, Error)]
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that is not XML.
    #[error("{action}: the answer is not XML: {reason}: {body}")]
    NotXml {
        /// What was asked.
        action: String,
        /// Why.
        reason: roxmltree::Error,
        /// Its beginning.
        body: String,
    },
    /// An error of EC2's.
    #[error("{action}: {code}: {message}")]
    Refused {
        /// What was asked.
        action: String,
        /// EC2's code.
        code: String,
        /// EC2's words.
        message: String,
    },
    /// An answer that lacks what is documented.
    #[error("{action}: no {what} in the answer")]
    Lacks {
        /// What was asked.
        action: String,
        /// What is missing.
        what: String,
    },
}

/// An EC2 to call, for code outside any async task.
#[derive(Clone, Debug)]
pub struct Ec2 {
    address: SocketAddr,
    runtime: Handle,
}

/// Parameters of a call, `Action` first.
pub type Parameters<'a> = [(&'a str, &'a str)];

impl Ec2 {
    /// The one that listens there.
    #[must_use]
    pub fn new(address: SocketAddr, runtime: Handle) -> Self {
        Self { address, runtime }
    }

    /// One call, whatever comes of it.
    ///
    /// # Errors
    /// There is no answer, or it is not XML.
    pub fn answer(&self, parameters: &Parameters<'_>) -> Result<Answer, CallError> {
        self.runtime.block_on(answer(self.address, parameters))
    }

    /// One call that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn call(&self, parameters: &Parameters<'_>) -> Result<Element, CallError> {
        self.runtime.block_on(call(self.address, parameters))
    }
}

/// See [`Ec2::answer`].
///
/// # Errors
/// As there.
pub async fn answer(to: SocketAddr, parameters: &Parameters<'_>) -> Result<Answer, CallError> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static(SIGNATURE));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"),
    );
    let body = Bytes::from(form(parameters));
    let answer = http::exchange(to, Method::POST, "/", &headers, body).await?;
    let text = String::from_utf8_lossy(&answer.body);
    let root = Element::parse(&text).map_err(|reason| CallError::NotXml {
        action: action(parameters),
        reason,
        body: text.chars().take(300).collect(),
    })?;
    Ok(Answer {
        status: answer.status.as_u16(),
        root,
    })
}

fn form(parameters: &Parameters<'_>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(parameters)
        .append_pair("Version", VERSION);
    form.finish()
}

/// See [`Ec2::call`].
///
/// # Errors
/// As there.
pub async fn call(to: SocketAddr, parameters: &Parameters<'_>) -> Result<Element, CallError> {
    let answer = answer(to, parameters).await?;
    if answer.status == 200 {
        return Ok(answer.root);
    }
    Err(CallError::Refused {
        action: action(parameters),
        code: answer.code().unwrap_or_default().to_owned(),
        message: answer.message().to_owned(),
    })
}

/// The text at a path, which must be there.
///
/// # Errors
/// It is not.
pub fn must(action: &str, element: &Element, path: &str) -> Result<String, CallError> {
    match element.text(path) {
        "" => Err(CallError::Lacks {
            action: action.to_owned(),
            what: path.to_owned(),
        }),
        text => Ok(text.to_owned()),
    }
}

fn action(parameters: &Parameters<'_>) -> String {
    let named = parameters.iter().find(|(name, _)| *name == "Action");
    named.map_or_else(String::new, |(_, action)| (*action).to_owned())
}
