//! What EC2's errors mean to us: one table, by action, code and (where EC2 leaves no other way)
//! message. The simulation is judged by the same one.
//!
//! Sources: "Error codes for the Amazon EC2 API" (EC2 API Reference), and answers of EC2 that users
//! of other node daemons have reported.

use super::ErrorClass::{self, *};
use mutant::mutant;

/// One row: the first that fits decides.
struct Row {
    /// Only for this action; empty for any.
    action: &'static str,
    code: &'static str,
    /// Only if the message has this in it; empty for any.
    says: &'static str,
    class: ErrorClass,
}

const fn row(
    action: &'static str,
    code: &'static str,
    says: &'static str,
    class: ErrorClass,
) -> Row {
    Row {
        action,
        code,
        says,
        class,
    }
}

const ASSIGN: &str = "AssignPrivateIpAddresses";
const ASSIGN6: &str = "AssignIpv6Addresses";
const ATTACH: &str = "AttachNetworkInterface";
const CREATE: &str = "CreateNetworkInterface";
const UNASSIGN: &str = "UnassignPrivateIpAddresses";
const UNASSIGN6: &str = "UnassignIpv6Addresses";

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Room in the subnet
    row("", "InsufficientCidrBlocks", "", NoFreePrefix),
    row("", "InsufficientFreeAddressesInSubnet", "", SubnetFull),
    row("", "InsufficientFreeIpAddressesInSubnet", "", SubnetFull),
    // CreateNetworkInterface with prefixes on a fragmented subnet.
    row("", "InvalidParameterValue", "sufficient free Ipv4 addresses or prefixes", NoFreePrefix),
    row("", "InvalidParameterValue", "sufficient free Ipv6 addresses or prefixes", NoFreePrefix),
    // Room on the ENI
    row("", "PrivateIpAddressLimitExceeded", "", EniFull),
    row("", "Ipv6AddressLimitExceeded", "", EniFull),
    row("", "InvalidInterface.IpAddressLimitExceeded", "", EniFull),
    row("", "InvalidParameterValue", "Exceeded the maximum number of", EniFull),
    // Room on the instance
    row(ATTACH, "AttachmentLimitExceeded", "", InstanceFull),
    row("", "AttachmentLimitExceeded", "", InstanceFull),
    row(ATTACH, "InvalidParameterValue", "already has an interface attached at device index", IndexTaken),
    row(ATTACH, "InvalidNetworkInterface.DeviceIndex", "", IndexTaken),
    // Room in the account
    row("", "NetworkInterfaceLimitExceeded", "", AccountFull),
    row("", "InterfaceLimitExceeded", "", AccountFull),
    // Prefixes on an instance type that has none (Xen)
    row("", "UnsupportedOperation", "refix", PrefixUnsupported),
    row("", "Unsupported", "refix", PrefixUnsupported),
    row("", "InvalidParameterCombination", "refix", PrefixUnsupported),
    row("", "InvalidParameterValue", "does not support prefix", PrefixUnsupported),
    row("", "InvalidParameterValue", "do not support prefix", PrefixUnsupported),
    // Slow down
    row("", "RequestLimitExceeded", "", Throttled),
    row("", "Throttling", "", Throttled),
    row("", "ThrottlingException", "", Throttled),
    row("", "ThrottledException", "", Throttled),
    row("", "RequestThrottled", "", Throttled),
    row("", "RequestThrottledException", "", Throttled),
    row("", "TooManyRequestsException", "", Throttled),
    row("", "SlowDown", "", Throttled),
    row("", "BandwidthLimitExceeded", "", Throttled),
    row("", "EC2ThrottledException", "", Throttled),
    row("", "Client.RequestLimitExceeded", "", Throttled),
    // Not allowed
    row("", "UnauthorizedOperation", "", Unauthorized),
    row("", "Client.UnauthorizedOperation", "", Unauthorized),
    row("", "AuthFailure", "", Unauthorized),
    row("", "AccessDenied", "", Unauthorized),
    row("", "AccessDeniedException", "", Unauthorized),
    row("", "InvalidClientTokenId", "", Unauthorized),
    row("", "UnrecognizedClientException", "", Unauthorized),
    row("", "SignatureDoesNotMatch", "", Unauthorized),
    row("", "RequestExpired", "", Unauthorized),
    row("", "ExpiredToken", "", Unauthorized),
    row("", "ExpiredTokenException", "", Unauthorized),
    row("", "OptInRequired", "", Unauthorized),
    row("", "PendingVerification", "", Unauthorized),
    row("", "Blocked", "", Unauthorized),
    // What a Create of this token made is deleted: another token makes another one.
    row(CREATE, "InvalidNetworkInterfaceID.NotFound", "", TokenUsed),
    // Not there
    row("", "InvalidNetworkInterfaceID.NotFound", "", NotFound),
    row("", "InvalidNetworkInterfaceId.NotFound", "", NotFound),
    row("", "InvalidAttachmentID.NotFound", "", NotFound),
    row("", "InvalidNetworkInterfaceAttachmentId.NotFound", "", NotFound),
    row("", "InvalidInstanceID.NotFound", "", NotFound),
    row("", "InvalidSubnetID.NotFound", "", NotFound),
    row("", "InvalidSubnetId.NotFound", "", NotFound),
    row("", "InvalidGroup.NotFound", "", NotFound),
    row("", "InvalidSecurityGroupID.NotFound", "", NotFound),
    // An address that is not on the ENI (any more).
    row(UNASSIGN, "InvalidNetworkInterface.NotFound", "", NotFound),
    row(UNASSIGN, "InvalidParameterValue", "are not assigned to interface", NotFound),
    row(UNASSIGN, "InvalidParameterValue", "is not assigned to", NotFound),
    row(UNASSIGN6, "InvalidParameterValue", "not assigned to", NotFound),
    // Not now
    row("", "IncorrectState", "", WrongState),
    row("", "IncorrectInstanceState", "", WrongState),
    row("", "InvalidNetworkInterface.InUse", "", WrongState),
    row("", "InvalidNetworkInterface.InvalidState", "", WrongState),
    row("", "InvalidParameterValue", "currently in use", WrongState),
    row("", "ResourceInUse", "", WrongState),
    row("", "DependencyViolation", "", WrongState),
    // EC2's own trouble: it may have been done.
    row("", "InternalError", "", UnknownOutcome),
    row("", "InternalFailure", "", UnknownOutcome),
    row("", "InternalServerError", "", UnknownOutcome),
    row("", "Unavailable", "", UnknownOutcome),
    row("", "ServiceUnavailable", "", UnknownOutcome),
    row("", "RequestTimeout", "", UnknownOutcome),
    // The same token with another request, as after settings that changed in between: no ENI of this
    // request exists; that of the other is the sweep's.
    row(CREATE, "IdempotentParameterMismatch", "", TokenUsed),
    row(ASSIGN6, "InsufficientFreeAddresses", "", SubnetFull),
    row(ASSIGN, "InvalidSubnet.Range", "", Other),
];

/// The class of an error that EC2 answered. `status` is that of HTTP.
#[must_use]
pub fn classify(action: &str, code: &str, message: &str, status: u16) -> ErrorClass {
    let fits = |row: &&Row| {
        (row.action.is_empty() || row.action == action)
            && row.code == code
            && message.contains(row.says)
    };
    match TABLE.iter().find(fits) {
        Some(row) => row.class,
        // A gateway's or an overloaded server's word, not that of the API.
        None if status >= 500 => mutant!("errors/server-error-is-unknown", UnknownOutcome, Other),
        None if status == 429 => Throttled,
        None => Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_answers_are_understood() {
        let table = [
            (
                ASSIGN,
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
                NoFreePrefix,
            ),
            (
                ASSIGN,
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
                SubnetFull,
            ),
            (
                CREATE,
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                NoFreePrefix,
            ),
            (
                ATTACH,
                "InvalidParameterValue",
                "Instance 'i-0123' already has an interface attached at device index '1'.",
                IndexTaken,
            ),
            (
                ASSIGN,
                "PrivateIpAddressLimitExceeded",
                "Number of private addresses will exceed limit.",
                EniFull,
            ),
            (
                ATTACH,
                "InvalidInterface.IpAddressLimitExceeded",
                "Number of private addresses exceeds limit.",
                EniFull,
            ),
            (
                ATTACH,
                "AttachmentLimitExceeded",
                "Interface count 4 exceeds the limit for m5.large",
                InstanceFull,
            ),
            (
                CREATE,
                "NetworkInterfaceLimitExceeded",
                "The maximum number of network interfaces has been reached.",
                AccountFull,
            ),
            (
                ASSIGN,
                "RequestLimitExceeded",
                "Request limit exceeded.",
                Throttled,
            ),
            (
                CREATE,
                "UnauthorizedOperation",
                "You are not authorized to perform this operation.",
                Unauthorized,
            ),
            (
                "DeleteNetworkInterface",
                "InvalidNetworkInterfaceID.NotFound",
                "The networkInterface ID 'eni-1' does not exist",
                NotFound,
            ),
            (
                "DeleteNetworkInterface",
                "InvalidParameterValue",
                "Network interface 'eni-1' is currently in use.",
                WrongState,
            ),
            ("DetachNetworkInterface", "IncorrectState", "", WrongState),
            (
                ATTACH,
                "InvalidNetworkInterface.InUse",
                "Interface: [eni-1] in use.",
                WrongState,
            ),
            (
                UNASSIGN,
                "InvalidParameterValue",
                "Some of [10.0.0.9] are not assigned to interface eni-1",
                NotFound,
            ),
            (
                ASSIGN,
                "UnsupportedOperation",
                "The instance type t2.small does not support Prefix delegation.",
                PrefixUnsupported,
            ),
            (
                ASSIGN,
                "InternalError",
                "An internal error has occurred.",
                UnknownOutcome,
            ),
            (ASSIGN, "InvalidParameterValue", "something new", Other),
            // The index is not taken just because some other action says so.
            (
                ASSIGN,
                "InvalidParameterValue",
                "already has an interface attached at device index '1'.",
                Other,
            ),
        ];
        for (action, code, message, class) in table {
            assert_eq!(
                classify(action, code, message, 400),
                class,
                "{action} {code} {message}"
            );
        }
    }

    #[test]
    fn the_status_decides_where_no_code_does() {
        assert_eq!(classify(ASSIGN, "", "", 502), UnknownOutcome);
        assert_eq!(classify(ASSIGN, "RequestLimitExceeded", "", 503), Throttled);
        assert_eq!(classify(ASSIGN, "", "", 429), Throttled);
        assert_eq!(classify(ASSIGN, "", "", 403), Other);
    }

    #[test]
    fn no_row_hides_another() {
        for (at, row) in TABLE.iter().enumerate() {
            let action = if row.action.is_empty() {
                "AnyAction"
            } else {
                row.action
            };
            let first = TABLE.iter().position(|other| {
                (other.action.is_empty() || other.action == action)
                    && other.code == row.code
                    && row.says.contains(other.says)
            });
            let first = first.map(|first| (first, TABLE[first].class));
            assert!(
                first == Some((at, row.class)) || first.map(|f| f.1) == Some(row.class),
                "{}",
                row.code
            );
        }
    }
}
