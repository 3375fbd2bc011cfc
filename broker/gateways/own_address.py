"""Which addresses are this machine's own: the kernel knows, whatever the interfaces are called."""

import socket

from broker.addresses import Address

_ANY_PORT = 9


def is_own(address: Address) -> bool:
    """Whether a packet to it would not leave this machine.

    Nothing is sent: connecting a datagram socket only chooses a route (connect(2)), and the source of a route to one's
    own address is that address.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), _ANY_PORT))
        except OSError:  # there is no way to it at all
            return False
        return str(probe.getsockname()[0]) == str(address)
