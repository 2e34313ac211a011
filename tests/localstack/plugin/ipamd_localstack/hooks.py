"""Runs once, before LocalStack listens.

`IPAMD_LOCALSTACK` says how much is changed: `stock` is only what a test can't do without (listen on
loopback, MAC addresses that are MAC addresses), anything else is all of it.
"""

import os
import random

from localstack.runtime.hooks import on_infra_start

# The stock allocator draws without looking. A fixed seed makes a run as good as the last one.
SEED = 7


@on_infra_start()
def start():
    listen_on_loopback()
    from moto.ec2.models import elastic_network_interfaces as models
    from moto.moto_api._internal import mock_random

    models.random_mac_address = mac_address
    if os.environ.get("IPAMD_LOCALSTACK") == "stock":
        mock_random.seed(SEED)
        return
    from ipamd_localstack import interfaces

    interfaces.install()


def listen_on_loopback():
    """LocalStack gives its server a port and no address, so it would listen on all."""
    from twisted.internet import reactor

    listen = reactor.listenTCP

    def on_loopback(port, factory, backlog=50, interface=""):
        return listen(port, factory, backlog=backlog, interface=interface or "127.0.0.1")

    reactor.listenTCP = on_loopback


def mac_address():
    """Stock LocalStack writes a format's letters into it: 02:00:00:2702x:14602x:1102x."""
    return ":".join(["02"] + [f"{random.randrange(256):02x}" for _ in range(5)])
