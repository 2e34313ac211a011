//! What a call wants of addresses and prefixes: its checks, and EC2's words for what can't be had.

use crate::state::alloc::Refusal;
use crate::words::error::ApiError;
use crate::words::ids::EniId;
use crate::words::request::{Wanted, WantedV4};

fn len<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// Slots that a wish takes.
pub(super) fn slots<A, P>(w: &Wanted<A, P>) -> u32 {
    let counts = w
        .address_count
        .unwrap_or(0)
        .saturating_add(w.prefix_count.unwrap_or(0));
    counts
        .saturating_add(len(&w.addresses))
        .saturating_add(len(&w.prefixes))
}

pub(super) fn has_prefixes<A, P>(w: &Wanted<A, P>) -> bool {
    w.prefix_count.unwrap_or(0) > 0 || !w.prefixes.is_empty()
}

/// Names and a count of the same kind exclude each other in CreateNetworkInterface (*documented*).
pub(super) fn check_kinds<A, P>(w: &Wanted<A, P>, family: &str) -> Result<(), ApiError> {
    let both_addresses = w.address_count.is_some_and(|n| n > 0) && !w.addresses.is_empty();
    let both_prefixes = w.prefix_count.is_some_and(|n| n > 0) && !w.prefixes.is_empty();
    if both_addresses || both_prefixes {
        let what = if both_addresses {
            "addresses"
        } else {
            "prefixes"
        };
        return Err(ApiError::combination(format!(
            "You may specify ip{family} {what} or their count, but not both of them."
        )));
    }
    Ok(())
}

/// AssignPrivateIpAddresses takes one way of asking at a time (*recorded* texts).
pub(super) fn check_one_way_v4(w: &WantedV4) -> Result<(), ApiError> {
    check_one_way(
        w,
        "You may specify one and only one of privateIpAddressSet or secondaryPrivateIpAddressCount \
         or ipv4Prefixes or ipv4PrefixCount, but not more than one of them.",
        "One of privateIpAddressSet or privateIpAddressCount or ipv4PrefixSet or ipv4PrefixCount \
         must be specified.",
    )?;
    check_positive(w.address_count, "secondaryPrivateIpAddressCount")?;
    check_positive(w.prefix_count, "ipv4PrefixCount")
}

pub(super) fn check_one_way<A, P>(
    w: &Wanted<A, P>,
    many: &str,
    none: &str,
) -> Result<(), ApiError> {
    let ways = [
        w.address_count.is_some(),
        w.prefix_count.is_some(),
        !w.addresses.is_empty(),
        !w.prefixes.is_empty(),
    ];
    match ways.iter().filter(|w| **w).count() {
        0 => Err(ApiError::new("InvalidParameter", none)),
        1 => Ok(()),
        _ => Err(ApiError::combination(many)),
    }
}

/// *recorded*.
pub(super) fn check_positive(count: Option<u32>, parameter: &str) -> Result<(), ApiError> {
    if count == Some(0) {
        return Err(ApiError::value(format!(
            "Value (0) for parameter {parameter} is invalid. Value must be a positive number."
        )));
    }
    Ok(())
}

/// *recorded*.
pub(super) fn too_many_v4(subject: &str) -> ApiError {
    ApiError::new(
        "PrivateIpAddressLimitExceeded",
        format!("{subject}: Number of private addresses will exceed limit."),
    )
}

/// *assumed*, after the IPv4 error.
pub(super) fn too_many_v6(subject: &str) -> ApiError {
    ApiError::new(
        "Ipv6AddressLimitExceeded",
        format!("{subject}: Number of IPv6 addresses will exceed limit."),
    )
}

/// Prefixes need Nitro (*documented*); code and text *assumed*.
pub(super) fn no_prefixes(instance_type: &str) -> ApiError {
    ApiError::value(format!(
        "Prefixes are not supported on instance type {instance_type}"
    ))
}

/// *recorded*.
pub(super) fn not_assigned(eni: &EniId) -> ApiError {
    ApiError::value(format!(
        "Some of the specified addresses are not assigned to interface {eni}"
    ))
}

/// *recorded*.
pub(super) fn no_addresses() -> ApiError {
    ApiError::new(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )
}

/// Assign's words for what a subnet can't give. Codes and texts *recorded* but where noted.
pub(super) fn refused(why: &Refusal) -> ApiError {
    match why {
        Refusal::Outside(a) => ApiError::value(format!(
            "Address {a} does not fall within the subnet's address range"
        )),
        Refusal::Reserved(a) => {
            ApiError::value(format!("Address {a} is in subnet's reserved address range"))
        }
        Refusal::InUse(a) => ApiError::value(format!("[{a}] assigned, but move is not allowed.")),
        // *assumed*.
        Refusal::NotAPrefix(p) => ApiError::value(format!("{p} is not a valid prefix")),
        // *assumed*.
        Refusal::PrefixInUse(p) => ApiError::new(
            "InvalidParameterValue",
            format!("The prefix {p} is not available: part of it is in use"),
        ),
        Refusal::NoAddresses => no_addresses(),
        Refusal::NoBlocks => ApiError::new(
            "InsufficientCidrBlocks",
            "The specified subnet does not have enough free cidr blocks to satisfy the request.",
        ),
        // *assumed*.
        Refusal::NoV6 => {
            ApiError::value("The network interface's subnet has no IPv6 CIDR block associated")
        }
    }
}
