//! The EC2 Query protocol: from form to typed request, from typed answer to XML.
//!
//! It knows parameter names, element names and the error envelope of API version 2016-11-15, and
//! nothing of what the calls mean: that is `vpc-model`'s. It opens no socket and keeps no state.

mod form;
mod parse;
mod render;
mod xml;

use form::Form;
use vpc_model::{ApiError, Request, Response};

/// One request as it came over the wire.
#[derive(Debug)]
pub struct Call {
    /// The `Action` parameter; empty if there is none.
    pub action: String,
    /// Access key id from the signature, if the request is signed.
    pub access_key_id: Option<String>,
    /// API version from the request, echoed in the answer's namespace.
    pub version: String,
    /// What is asked for, or why that can't be told.
    pub request: Result<Request, ApiError>,
}

/// The version that all current SDKs speak, and the only one that is rendered.
const VERSION: &str = "2016-11-15";

/// Reads a request from its query string and form body; parameters may be in either. The
/// signature is not checked: only the access key id is taken from it.
pub fn parse(query: &str, body: &[u8], authorization: Option<&str>) -> Call {
    let form = Form::new(query.as_bytes(), body);
    let action = form.text("Action").unwrap_or_default().to_owned();
    let version = form
        .text("Version")
        .filter(|v| is_date(v))
        .unwrap_or(VERSION)
        .to_owned();
    let access_key_id = access_key_id(&form, authorization);
    let request = parse::request(&action, &form);
    Call {
        action,
        access_key_id,
        version,
        request,
    }
}

/// What an unsigned request gets when signatures are insisted on (*recorded*).
pub fn missing_authentication() -> ApiError {
    ApiError::new(
        "MissingAuthenticationToken",
        "Request is missing Authentication Token",
    )
    .with_status(403)
}

/// What a request with an unknown access key id gets when keys are insisted on (*recorded*).
pub fn unknown_key() -> ApiError {
    ApiError::new(
        "AuthFailure",
        "AWS was not able to validate the provided access credentials",
    )
    .with_status(401)
}

/// `Content-Type` of every answer.
pub const CONTENT_TYPE: &str = "text/xml;charset=UTF-8";

/// HTTP status and XML body of an answer.
pub fn render(
    action: &str,
    version: &str,
    request_id: &str,
    result: &Result<Response, ApiError>,
) -> (u16, String) {
    match result {
        Ok(response) => (200, render::answer(action, version, request_id, response)),
        Err(error) => (error.http_status, render::error(request_id, error)),
    }
}

fn access_key_id(form: &Form, authorization: Option<&str>) -> Option<String> {
    // Header: `AWS4-HMAC-SHA256 Credential=AKID/date/region/ec2/aws4_request, ...`; presigned:
    // `X-Amz-Credential`; signature version 2: `AWSAccessKeyId`.
    let in_header = || {
        let (_, rest) = authorization?.split_once("Credential=")?;
        rest.split(['/', ',', ' ']).next()
    };
    let presigned = || form.text("X-Amz-Credential")?.split('/').next();
    let key = in_header()
        .or_else(presigned)
        .or_else(|| form.text("AWSAccessKeyId"))?;
    (!key.is_empty()).then(|| key.to_owned())
}

fn is_date(version: &str) -> bool {
    version.len() == 10 && version.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests;
