//! What each class of error makes us do: one row a class. [`super::classify`] says which class an
//! answer is of; `outcome` and `plan` do what the row says and know no class by name.

use super::ErrorClass::{self, *};
use core::time::Duration;

/// What is known of the call's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It was not looked at: not reached, not let in, or too many calls.
    NotTried,
    /// It was looked at and refused.
    Refused,
    /// It may have been done.
    Unknown,
}

/// What is tried next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Half of the batch; of one block, another kind or another subnet, and this one later.
    Smaller,
    /// Blocks of the other kind, on this instance for good.
    OtherKind,
    /// Another place on the instance.
    OtherPlace,
    /// Another ENI; one that can't be attached for this is deleted.
    OtherEni,
    /// The call alone, with all others of its action, when EC2's bucket has tokens again.
    Slower,
    /// Nothing: the thing is not there, and what we have of it goes.
    Forget,
    /// A Describe first: it tells what was done.
    Ask,
    /// The same, later.
    Again,
    /// The same, later, when a person has allowed it.
    Person,
    /// The same, a few times; then the ENI is given up.
    GiveUp,
}

/// A class's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// The label in logs, metrics and answers.
    pub label: &'static str,
    /// What EC2 did.
    pub effect: Effect,
    /// What we do.
    pub next: Next,
    /// First and longest wait of a back-off; between them it doubles.
    pub wait: (Duration, Duration),
    /// What we thought of EC2's side was wrong: it is asked soon.
    pub look: bool,
    /// EC2 looks for a client token before it finds this out: a Create that was sent before and is
    /// refused for this has made nothing.
    pub after_token: bool,
    /// A person should know.
    pub tell: bool,
    /// What it means, and what a person can do about it. (Missing rights have words of their own.)
    pub words: &'static str,
}

#[rustfmt::skip]
const fn row(
    label: &'static str, effect: Effect, next: Next, wait: (u64, u64),
    (look, after_token, tell): (bool, bool, bool), words: &'static str,
) -> Reaction {
    let wait = (Duration::from_secs(wait.0), Duration::from_secs(wait.1));
    Reaction { label, effect, next, wait, look, after_token, tell, words }
}

const YES: bool = true;
const NO: bool = false;

impl ErrorClass {
    /// The row of this class.
    #[must_use]
    #[rustfmt::skip]
    pub const fn reaction(self) -> Reaction {
        use Effect::{NotTried, Refused, Unknown};
        // label, effect, next, waits (s), (look, after the token, tell a person), words
        match self {
            // Somebody has to free or add addresses: minutes, not seconds.
            SubnetFull => row("subnet_full", Refused, Next::Smaller, (30, 300), (NO, YES, YES),
                "the subnet has no free address: free some, or give new ENIs another subnet"),
            // Single addresses serve meanwhile.
            NoFreePrefix => row("no_free_prefix", Refused, Next::Smaller, (30, 600), (NO, YES, YES),
                "the subnet has no free aligned /28: reserve a range for prefixes, or give new \
                 ENIs another subnet"),
            EniFull => row("eni_full", Refused, Next::OtherEni, (10, 300), (YES, NO, NO),
                "the ENI holds as many addresses as it can"),
            InstanceFull => row("instance_full", Refused, Next::OtherEni, (10, 300), (YES, NO, NO),
                "the instance has as many ENIs as it can"),
            AccountFull => row("account_full", Refused, Next::Again, (30, 300), (NO, YES, YES),
                "the account has as many ENIs in this Region as its quota allows: delete unused \
                 ones, or have the quota raised"),
            IndexTaken => row("index_taken", Refused, Next::OtherPlace, (1, 60), (YES, NO, NO),
                "another interface has that place on the instance"),
            PrefixUnsupported => row("prefix_unsupported", Refused, Next::OtherKind, (30, 600), (NO, YES, NO),
                "this instance type takes no prefixes"),
            TokenUsed => row("token_used", Refused, Next::Again, (2, 120), (NO, YES, NO),
                "the client token was used for another request"),
            Throttled => row("throttled", NotTried, Next::Slower, (1, 60), (NO, NO, NO),
                "EC2 throttles this account's calls in this Region"),
            Unauthorized => row("unauthorized", NotTried, Next::Person, (30, 600), (NO, NO, YES),
                "the node's IAM role may not do this"),
            NotFound => row("not_found", Refused, Next::Forget, (1, 60), (YES, NO, NO),
                "EC2 does not know it (any more)"),
            WrongState => row("wrong_state", Refused, Next::Again, (1, 60), (YES, NO, NO),
                "EC2 can't do this right now"),
            UnknownOutcome => row("unknown_outcome", Unknown, Next::Ask, (1, 30), (NO, NO, NO),
                "EC2 did not answer; whether it did it is found out"),
            Unreachable => row("ec2_unreachable", NotTried, Next::Again, (1, 30), (NO, NO, NO),
                "EC2 can't be reached: see to DNS, routes, VPC endpoint and credentials"),
            Implausible => row("implausible_answer", NotTried, Next::Again, (10, 300), (NO, NO, YES),
                "EC2's answer is not about this instance: see to the credentials' account and Region and to \
                 the endpoint; what is known stays, and EC2 is asked again"),
            Other => row("ec2_error", Refused, Next::GiveUp, (2, 120), (NO, NO, YES),
                "EC2 refuses"),
            Unsent => row("not_sent", NotTried, Next::Again, (1, 30), (NO, NO, YES),
                "ipamd could not send it: no descriptor is left to it, or to the node (ulimit -n, fs.file-max)"),
        }
    }
}
