//! The audit log: every EC2 call in order, and counts of them by node and action.

use crate::books::brief;
use crate::words::caller::Caller;
use crate::words::error::ApiError;
use crate::words::request::Request;
use crate::words::response::Response;
use crate::words::time::Time;
use serde::Serialize;
use std::collections::BTreeMap;

/// One EC2 call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// From 1 upwards without gaps.
    pub seq: u64,
    /// When it was judged.
    pub time: Time,
    /// Node name, `operator`, or what the caller named itself.
    pub caller: String,
    /// EC2 action.
    pub action: String,
    /// The parameters in brief, for people.
    pub params: String,
    /// `ok`, or the EC2 error code.
    pub outcome: String,
    /// The answer was thrown away by a fault.
    pub dropped: bool,
    /// Ids, addresses and prefixes that the answer brought.
    pub ids: Vec<String>,
}

/// Node (or other caller) to action to number of calls.
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// Entries and counts. It grows by one entry a call and is never cut: a run is bounded.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    counts: Counts,
}

impl Log {
    pub(crate) fn executed(
        &mut self,
        caller: &Caller,
        request: &Request,
        result: &Result<Response, ApiError>,
        dropped: bool,
        time: Time,
    ) {
        let (outcome, ids) = match result {
            Ok(response) => ("ok".to_owned(), brief::ids(response)),
            Err(error) => (error.code.clone(), Vec::new()),
        };
        let action = request.action.name();
        self.push(
            caller,
            action,
            brief::params(request),
            outcome,
            dropped,
            ids,
            time,
        );
    }

    pub(crate) fn refused(&mut self, caller: &Caller, action: &str, error: &ApiError, time: Time) {
        let outcome = error.code.clone();
        self.push(
            caller,
            action,
            String::new(),
            outcome,
            false,
            Vec::new(),
            time,
        );
    }

    pub(crate) fn since(&self, seq: u64) -> &[Entry] {
        let from = usize::try_from(seq)
            .unwrap_or(usize::MAX)
            .min(self.entries.len());
        &self.entries[from..]
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    #[allow(clippy::too_many_arguments)]
    fn push(
        &mut self,
        caller: &Caller,
        action: &str,
        params: String,
        outcome: String,
        dropped: bool,
        ids: Vec<String>,
        time: Time,
    ) {
        let caller = caller.to_string();
        let of_caller = self.counts.entry(caller.clone()).or_default();
        *of_caller.entry(action.to_owned()).or_default() += 1;
        let seq = u64::try_from(self.entries.len()).unwrap_or(u64::MAX) + 1;
        let action = action.to_owned();
        self.entries.push(Entry {
            seq,
            time,
            caller,
            action,
            params,
            outcome,
            dropped,
            ids,
        });
    }
}
