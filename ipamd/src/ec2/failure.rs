//! From an SDK error to the engine's: was it answered, sent, or never sent?

use crate::report::with_causes;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy::Error as ClientError;
use ipam_core::cloud::classify;
use ipam_core::cloud::{CloudError, ErrorClass};
use std::error::Error;
use std::io;

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
                .map_or_else(|| with_causes(error), str::to_owned);
            answered(action, meta.code(), &words, answer.raw().status().as_u16())
        }
        SdkError::ResponseError(answer) => answered(
            action,
            None,
            &with_causes(error),
            answer.raw().status().as_u16(),
        ),
        SdkError::ConstructionFailure(_) => own(action, ErrorClass::Other, "NotSent", error),
        SdkError::TimeoutError(_) => own(action, ErrorClass::UnknownOutcome, "Timeout", error),
        SdkError::DispatchFailure(_) if lacks_descriptors(error) => {
            own(action, ErrorClass::Unsent, "TooManyOpenFiles", error)
        }
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
        message: shorten(&with_causes(error), MESSAGE_MAX),
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

/// Whether the request was never made since this process, or the machine, has no descriptor left: that is not
/// EC2's doing.
fn lacks_descriptors(error: &(dyn Error + 'static)) -> bool {
    /// `EMFILE` and `ENFILE`
    const LACKING: [i32; 2] = [24, 23];
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if code.is_some_and(|code| LACKING.contains(&code)) {
            return true;
        }
        next = error.source();
    }
    false
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
