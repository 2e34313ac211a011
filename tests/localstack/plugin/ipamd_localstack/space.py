"""Which addresses of a subnet are free. Keeps nothing: reads it off the interfaces that are there."""

import ipaddress
import random

PREFIX = 28
PREFIX_SIZE = 1 << (32 - PREFIX)


class Full(Exception):
    """There is not so much room."""


class Space:
    """A subnet as it is now. What is taken from it is taken for good only when an interface has it."""

    def __init__(self, backend, subnet):
        self.net = ipaddress.ip_network(subnet.cidr_block)
        first, last = int(self.net.network_address), int(self.net.broadcast_address)
        # Network, router, DNS, one for later, broadcast.
        self.taken = {first, first + 1, first + 2, first + 3, last}
        self.reserved = frozenset(self.taken)
        for eni in backend.enis.values():
            if eni.subnet.id == subnet.id:
                self.taken.update(held(eni))

    def free(self):
        return self.net.num_addresses - len(self.taken)

    def named(self, text):
        """Takes this address; an answer says why not."""
        address = int(ipaddress.ip_address(text))
        if ipaddress.ip_address(text) not in self.net:
            return f"Address {text} does not fall within the subnet's address range"
        if address in self.reserved:
            return f"Address {text} is in subnet's reserved address range"
        if address in self.taken:
            return f"[{text}] assigned, but move is not allowed."
        self.taken.add(address)
        return None

    def addresses(self, count):
        """Takes so many, scattered as EC2's are."""
        if count > self.free():
            raise Full
        first, size = int(self.net.network_address), self.net.num_addresses
        chosen = []
        while len(chosen) < count:
            address = first + random.randrange(size)
            # Nearly full: step on from there instead of drawing for ever.
            while address in self.taken:
                address = first + (address - first + 1) % size
            self.taken.add(address)
            chosen.append(str(ipaddress.ip_address(address)))
        return chosen

    def prefixes(self, count):
        """Takes so many aligned blocks that are wholly free, lowest first."""
        chosen = []
        for block in self.net.subnets(new_prefix=PREFIX):
            if len(chosen) == count:
                break
            if self.block(block) is None:
                chosen.append(str(block))
        if len(chosen) < count:
            raise Full
        return chosen

    def block(self, block):
        """Takes this block; an answer says why not."""
        block = ipaddress.ip_network(block)
        if block.prefixlen != PREFIX or not block.subnet_of(self.net):
            return f"{block} is not a valid prefix"
        members = range(int(block.network_address), int(block.network_address) + PREFIX_SIZE)
        if not self.taken.isdisjoint(members):
            return f"The prefix {block} is not available: part of it is in use"
        self.taken.update(members)
        return None


def held(eni):
    """Every address of an interface, as numbers."""
    numbers = [int(ipaddress.ip_address(a)) for a in addresses(eni)]
    for prefix in prefixes(eni):
        first = int(ipaddress.ip_network(prefix).network_address)
        numbers.extend(range(first, first + PREFIX_SIZE))
    return numbers


def addresses(eni):
    """Primary and secondary."""
    return [item["PrivateIpAddress"] for item in eni.private_ip_addresses]


def prefixes(eni):
    return [item["Ipv4Prefix"] for item in getattr(eni, "ipv4_prefixes", [])]
