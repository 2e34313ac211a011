//! What each filter looks at. The names are those of the EC2 API reference; a name that is real
//! and that nothing in the model can match yields an empty list.

mod eni;
mod instance;
mod other;
mod values;

pub(crate) use eni::ENI_FILTERS;
pub(crate) use instance::INSTANCE_FILTERS;
pub(crate) use other::{GROUP_FILTERS, SUBNET_FILTERS, TAG_FILTERS, TYPE_FILTERS};
pub(crate) use other::{ROUTE_TABLE_FILTERS, VPC_FILTERS, ZONE_FILTERS};
