//! The error that EC2 answers with. The code is the contract; messages are EC2's where known.

use thiserror::Error;

/// An EC2 error: code, message and HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// EC2's code, for example `InvalidParameterValue`.
    pub code: String,
    /// EC2's words.
    pub message: String,
    /// HTTP status.
    pub http_status: u16,
}

impl ApiError {
    /// A client error, HTTP 400.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
            http_status: 400,
        }
    }

    /// The same with another HTTP status.
    #[must_use]
    pub fn with_status(mut self, http_status: u16) -> Self {
        self.http_status = http_status;
        self
    }

    /// `InvalidParameterValue`.
    pub fn value(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    /// `InvalidParameterCombination`.
    pub fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    /// `MissingParameter`, in EC2's words (*recorded*).
    pub fn missing(parameter: &str) -> Self {
        Self::new(
            "MissingParameter",
            format!("The request must contain the parameter {parameter}"),
        )
    }

    /// What a throttled call gets: HTTP 503 (*documented*).
    pub fn throttled() -> Self {
        Self::new("RequestLimitExceeded", "Request limit exceeded.").with_status(503)
    }

    /// Not EC2's word: the call did not reach it. The HTTP status is 0, since there is no answer.
    pub fn unreached() -> Self {
        Self::new("Unreached", "The call did not reach EC2.").with_status(0)
    }

    /// Whether EC2 says this before it looks what is asked for: of who calls and how often, or of trouble of
    /// its own. All else it finds out at its work, after the client token.
    pub fn is_said_first(&self) -> bool {
        let of_the_caller = [
            "RequestLimitExceeded",
            "UnauthorizedOperation",
            "AuthFailure",
            "RequestExpired",
            "OptInRequired",
        ];
        self.http_status >= 500 || of_the_caller.contains(&self.code.as_str())
    }

    /// What a dry run gets that would have worked: HTTP 412 (*recorded*).
    pub fn dry_run() -> Self {
        Self::new(
            "DryRunOperation",
            "Request would have succeeded, but DryRun flag is set.",
        )
        .with_status(412)
    }
}

/// What is wrong with a [`crate::VpcSpec`]; each problem names its field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", problems.join("; "))]
pub struct SpecError {
    /// One sentence each, `field: what is wrong`.
    pub problems: Vec<String>,
}
