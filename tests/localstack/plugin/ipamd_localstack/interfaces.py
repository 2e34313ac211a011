"""Calls on network interfaces as EC2 answers them, where stock LocalStack does not: unique
addresses, /28 prefixes, limits of instance types, client tokens, attachments.

The responses' methods are replaced; what they return is written as XML by LocalStack itself, by the
names of attributes. One lock, for all of them: LocalStack answers on many threads.
"""

import functools
import threading

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses.elastic_network_interfaces import ElasticNetworkInterfaces
from moto.ec2.utils import add_tag_specification

from ipamd_localstack.space import Full, Space, addresses, prefixes

LOCK = threading.RLock()
# Of an interface that is attached nowhere: the largest that there is.
LARGEST = max(
    kind["NetworkInfo"]["Ipv4AddressesPerInterface"] for kind in INSTANCE_TYPES.values()
)

stock_create = NetworkInterfaceBackend.create_network_interface
stock_modify = ElasticNetworkInterfaces.modify_network_interface_attribute
stock_prep_nics = Instance.prep_nics
stock_terminate = Instance.terminate


def install():
    replaced = [create, delete, attach, assign, unassign, modify]
    for method in replaced:
        setattr(ElasticNetworkInterfaces, f"{method.__name__}_{NOUN[method.__name__]}", locked(method))
    for name in ("describe_network_interfaces", "detach_network_interface"):
        setattr(ElasticNetworkInterfaces, name, locked(getattr(ElasticNetworkInterfaces, name)))
    NetworkInterfaceBackend.create_network_interface = locked(backend_create)
    Instance.prep_nics = locked(prep_nics)
    Instance.terminate = locked(terminate)
    Subnet.get_available_subnet_ip = locked(subnet_ip)
    Subnet.available_ip_address_count = property(
        locked(lambda self: Space(self.ec2_backend, self).free())
    )


NOUN = {
    "create": "network_interface",
    "delete": "network_interface",
    "attach": "network_interface",
    "assign": "private_ip_addresses",
    "unassign": "private_ip_addresses",
    "modify": "network_interface_attribute",
}


def locked(function):
    @functools.wraps(function)
    def with_lock(*args, **kwargs):
        with LOCK:
            return function(*args, **kwargs)

    return with_lock


def wrong(message):
    return EC2ClientError("InvalidParameterValue", message)


def too_many(subject):
    return EC2ClientError(
        "PrivateIpAddressLimitExceeded",
        f"{subject}: Number of private addresses will exceed limit.",
    )


def subnet_full():
    return EC2ClientError(
        "InsufficientFreeAddressesInSubnet",
        "The specified subnet does not have enough free addresses to satisfy the request.",
    )


def no_blocks():
    return EC2ClientError(
        "InsufficientCidrBlocks",
        "The specified subnet does not have enough free cidr blocks to satisfy the request.",
    )


def fragmented():
    """CreateNetworkInterface's words for both of the above, when asked for more than a primary."""
    return wrong("There aren't sufficient free Ipv4 addresses or prefixes")


def network(instance):
    return INSTANCE_TYPES[instance.instance_type]["NetworkInfo"]


def room(eni):
    """Slots for addresses and prefixes, and how many are used."""
    limit = network(eni.instance)["Ipv4AddressesPerInterface"] if eni.instance else LARGEST
    return limit - len(addresses(eni)) - len(prefixes(eni))


def listed(blocks):
    return [{"Ipv4Prefix": block} for block in blocks]


def named_prefixes(response):
    """`Ipv4Prefixes` as a list of texts, whichever way the parser gives them."""
    given = response._get_param("Ipv4Prefixes", [])
    return [p["Ipv4Prefix"] if isinstance(p, dict) else p for p in given]


def backend_create(self, subnet, private_ip_address=None, private_ip_addresses=None, *args, **kwargs):
    """Also what RunInstances calls for an instance's first interface."""
    if isinstance(subnet, str):
        subnet = self.get_subnet(subnet)
    space = Space(self, subnet)
    given = [dict(item) for item in private_ip_addresses or []]
    primary = next((i["PrivateIpAddress"] for i in given if i.get("Primary")), private_ip_address)
    others = [i["PrivateIpAddress"] for i in given if not i.get("Primary")]
    for address in [primary, *others]:
        if address and (why := space.named(address)):
            if "move is not allowed" in why:
                raise EC2ClientError(
                    "InvalidIPAddress.InUse", "The specified address is already in use."
                )
            raise wrong(why)
    try:
        primary = primary or space.addresses(1)[0]
    except Full:
        raise subnet_full() from None
    try:
        others += space.addresses(int(kwargs.pop("secondary_ips_count", None) or 0))
        blocks = space.prefixes(int(kwargs.pop("ipv4_prefix_count", None) or 0))
    except Full:
        raise fragmented() from None
    for block in kwargs.pop("ipv4_prefixes", []):
        if why := space.block(block):
            raise wrong(why)
        blocks.append(block)
    if 1 + len(others) + len(blocks) > LARGEST:
        raise too_many("CreateNetworkInterface")
    held = [{"Primary": True, "PrivateIpAddress": primary}]
    held += [{"Primary": False, "PrivateIpAddress": address} for address in others]
    eni = stock_create(self, subnet, primary, held, *args, **kwargs)
    eni.ipv4_prefixes = listed(blocks)
    return eni


def create(self):
    groups = self._get_param("Groups", [])
    for group in groups:
        if not self.ec2_backend.get_security_group_from_id(group):
            raise EC2ClientError(
                "InvalidSecurityGroupID.NotFound", f"The securityGroup ID '{group}' does not exist"
            )
    subnet = self.ec2_backend.get_subnet(self._get_param("SubnetId"))
    self.error_on_dryrun()
    token = self._get_param("ClientToken")
    asked = {k: v for k, v in self.params.items() if k != "ClientToken"}
    known = self.ec2_backend.__dict__.setdefault("ipamd_client_tokens", {})
    if token in known:
        before, eni_id = known[token]
        if before != asked:
            raise EC2ClientError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in"
                " previous request(s).",
            )
        eni = self.ec2_backend.get_network_interface(eni_id)
        return ActionResult({"NetworkInterface": eni, "ClientToken": token})
    eni = self.ec2_backend.create_network_interface(
        subnet,
        self._get_param("PrivateIpAddress"),
        self._get_param("PrivateIpAddresses", []),
        group_ids=groups,
        description=self._get_param("Description"),
        tags=add_tag_specification(self._get_param("TagSpecifications", [])),
        secondary_ips_count=self._get_param("SecondaryPrivateIpAddressCount"),
        ipv4_prefix_count=self._get_param("Ipv4PrefixCount"),
        ipv4_prefixes=named_prefixes(self),
    )
    if token:
        known[token] = (asked, eni.id)
    return ActionResult({"NetworkInterface": eni, "ClientToken": token})


def delete(self):
    eni = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    self.error_on_dryrun()
    if eni.attachment_id:
        raise wrong(f"Network interface '{eni.id}' is currently in use.")
    self.ec2_backend.delete_network_interface(eni.id)
    return EmptyResult()


def attach(self):
    eni = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    index = int(self._get_param("DeviceIndex"))
    self.error_on_dryrun()
    if eni.attachment_id:
        raise EC2ClientError("InvalidNetworkInterface.InUse", f"Interface: [{eni.id}] in use.")
    if index in instance.nics:
        raise wrong(
            f"Instance '{instance.id}' already has an interface attached at device index '{index}'."
        )
    limits, count = network(instance), len(instance.nics) + 1
    if count > limits["MaximumNetworkInterfaces"]:
        raise EC2ClientError(
            "AttachmentLimitExceeded",
            f"Interface count {count} exceeds the limit for {instance.instance_type}",
        )
    if len(addresses(eni)) + len(prefixes(eni)) > limits["Ipv4AddressesPerInterface"]:
        raise EC2ClientError(
            "InvalidInterface.IpAddressLimitExceeded",
            f"Too many addresses on {eni.id} for {instance.instance_type}",
        )
    # Only ModifyNetworkInterfaceAttribute sets it.
    eni.delete_on_termination = False
    attachment = self.ec2_backend.attach_network_interface(eni.id, instance.id, index)
    return ActionResult({"AttachmentId": attachment.attachment_id, "NetworkCardIndex": 0})


def assign(self):
    eni = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    count = self._get_int_param("SecondaryPrivateIpAddressCount", 0)
    block_count = self._get_int_param("Ipv4PrefixCount", 0)
    named, blocks = self._get_param("PrivateIpAddresses", []), named_prefixes(self)
    ways = [way for way in (count, block_count, named, blocks) if way]
    if len(ways) > 1:
        raise EC2ClientError(
            "InvalidParameterCombination",
            "You may specify one and only one of privateIpAddressSet or"
            " secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount, but not more than"
            " one of them.",
        )
    if not ways:
        raise EC2ClientError(
            "InvalidParameter",
            "One of privateIpAddressSet or privateIpAddressCount or ipv4PrefixSet or"
            " ipv4PrefixCount must be specified.",
        )
    new = [address for address in named if address not in addresses(eni)]
    if count + block_count + len(new) + len(blocks) > room(eni):
        raise too_many(eni.id)
    space = Space(self.ec2_backend, eni.subnet)
    for why in [space.named(a) for a in new] + [space.block(b) for b in blocks]:
        if why:
            raise wrong(why)
    try:
        new += space.addresses(count)
    except Full:
        raise subnet_full() from None
    try:
        blocks += space.prefixes(block_count)
    except Full:
        raise no_blocks() from None
    eni.private_ip_addresses += [{"Primary": False, "PrivateIpAddress": a} for a in new]
    eni.ipv4_prefixes = eni.ipv4_prefixes + listed(blocks)
    answered = [a for a in named if a not in new] + new
    return ActionResult(
        {
            "NetworkInterfaceId": eni.id,
            "AssignedPrivateIpAddresses": [{"PrivateIpAddress": a} for a in answered],
            "AssignedIpv4Prefixes": listed(blocks),
        }
    )


def unassign(self):
    eni = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    gone, blocks = self._get_param("PrivateIpAddresses", []), named_prefixes(self)
    if not gone and not blocks:
        raise EC2ClientError(
            "MissingParameter", "One of privateIpAddresses or ipv4Prefixes must be specified."
        )
    if eni.private_ip_address in gone:
        raise wrong(
            f"Value ({eni.private_ip_address}) for parameter privateIpAddress is invalid. The"
            " primary IP address of an interface cannot be unassigned."
        )
    if not set(gone) <= set(addresses(eni)) or not set(blocks) <= set(prefixes(eni)):
        raise wrong(f"Some of the specified addresses are not assigned to interface {eni.id}")
    eni.private_ip_addresses = [
        item for item in eni.private_ip_addresses if item["PrivateIpAddress"] not in gone
    ]
    eni.ipv4_prefixes = listed(p for p in prefixes(eni) if p not in blocks)
    return EmptyResult()


def modify(self):
    """DeleteOnTermination, which the stock one drops; the rest is the stock one's."""
    wanted = self._get_param("Attachment")
    if not wanted:
        return stock_modify(self)
    eni = self.ec2_backend.get_network_interface(self._get_param("NetworkInterfaceId"))
    self.error_on_dryrun()
    attachment = wanted.get("AttachmentId")
    if not eni.attachment_id or attachment != eni.attachment_id:
        raise EC2ClientError(
            "InvalidAttachmentID.NotFound",
            f"Attachment '{attachment}' is not of interface '{eni.id}'",
        )
    eni.delete_on_termination = bool(wanted.get("DeleteOnTermination"))
    return EmptyResult()


def prep_nics(self, nic_spec, *args, **kwargs):
    """Interfaces that are made with an instance go with it, unless it is said otherwise."""
    said = {int(nic["DeviceIndex"]): nic.get("DeleteOnTermination") for nic in nic_spec}
    stock_prep_nics(self, nic_spec, *args, **kwargs)
    for index, nic in self.nics.items():
        nic.delete_on_termination = said.get(index) is not False


def terminate(self):
    """What does not go with the instance is free again."""
    first = self.nics[0]
    kept = [nic for nic in self.nics.values() if not nic.delete_on_termination]
    state = stock_terminate(self)
    for nic in kept:
        self.detach_eni(nic)
    # Descriptions of the instance read its first interface, also when it is gone.
    self.nics = {0: first}
    return state


def subnet_ip(self, instance):
    """The first address of an instance for which none was named."""
    address = Space(self.ec2_backend, self).addresses(1)[0]
    self._subnet_ips[address] = instance
    return address
