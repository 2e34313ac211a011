//! From an SDK error to the engine's: was it answered, sent, or never sent?

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy::Error as ClientError;
use ipam_core::cloud::classify;
use ipam_core::cloud::{CloudError, ErrorClass};
use std::error::Error;
use std::fmt::Write as _;

/// Longer messages are cut: the whole of a refused ADD must stay readable.
const MESSAGE_MAX: usize = 400;
/// EC2's own are shorter than half of this.
const CODE_MAX: usize = 100;

pub(super) fn failure<E>(action: &'static str, error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let words = meta
                .message()
                .filter(|words| !words.trim().is_empty())
                .map_or_else(|| chain(error), str::to_owned);
            answered(action, meta.code(), &words, answer.raw().status().as_u16())
        }
        SdkError::ResponseError(answer) => {
            answered(action, None, &chain(error), answer.raw().status().as_u16())
        }
        SdkError::ConstructionFailure(_) => own(action, ErrorClass::Other, "NotSent", error),
        SdkError::TimeoutError(_) => own(action, ErrorClass::UnknownOutcome, "Timeout", error),
        SdkError::DispatchFailure(dispatch) => {
            let (class, code) = if dispatch.is_user() {
                (ErrorClass::Unreachable, "ClientSetup")
            } else {
                match find::<ClientError>(error) {
                    Some(client) if client.is_connect() => {
                        (ErrorClass::Unreachable, "ConnectFailed")
                    }
                    Some(_) => (ErrorClass::UnknownOutcome, "ConnectionBroken"),
                    None if dispatch.is_timeout() || dispatch.is_io() => {
                        (ErrorClass::UnknownOutcome, "ConnectionBroken")
                    }
                    // Before the request: credentials, mostly.
                    None => (ErrorClass::Unreachable, "NoCredentials"),
                }
            };
            own(action, class, code, error)
        }
        _ => own(action, ErrorClass::UnknownOutcome, "Unknown", error),
    }
}

fn answered(action: &'static str, code: Option<&str>, words: &str, status: u16) -> CloudError {
    let class = match code {
        // A good status whose body can't be read: it was done, but what?
        _ if status < 400 => ErrorClass::UnknownOutcome,
        _ => classify(action, code.unwrap_or_default(), words, status),
    };
    let code = code.map(|code| shorten(code, CODE_MAX));
    let code = code.filter(|code| !code.is_empty());
    let code = code.unwrap_or_else(|| format!("Http{status}"));
    CloudError {
        action,
        class,
        code,
        message: shorten(without_report(words), MESSAGE_MAX),
    }
}

fn own(action: &'static str, class: ErrorClass, code: &str, error: &dyn Error) -> CloudError {
    CloudError {
        action,
        class,
        code: code.into(),
        message: shorten(&chain(error), MESSAGE_MAX),
    }
}

/// EC2 ends its refusals with an encoded report for `sts:DecodeAuthorizationMessage`: it is long,
/// says nothing to a person, and holds what the policy's owner may not want to show.
fn without_report(words: &str) -> &str {
    let report = words.find("Encoded authorization failure message");
    report.map_or(words, |at| &words[..at])
}

fn shorten(message: &str, most: usize) -> String {
    // One line a message: the SDK's own go over several.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match message.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message,
    }
}

/// An error and its causes, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !last.contains(&words) {
            // Writing to a string can't fail.
            let _ = write!(text, ": {words}");
        }
        last = words;
        next = cause.source();
    }
    text
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
