"""Which process goes first on cores that are short: those who revoke, then those who deliver, then the rest.

Measured on two cores that 2,000 events a second keep busy: the Deny of a revoke is in SES 28 to 41 ms after its commit
(p99, without the AWS calls) where feedback, deliveries and sums give way, and 49 to 59 ms where they do not.
"""

import contextlib
import os
from pathlib import Path

MOST = 19  # nice(2)
_GROUP = Path("/proc/self/autogroup")


def give_way(nice: int) -> None:
    """Lower this process's precedence by `nice`, 0 to 19; for good, as only root may raise it again.

    Linux weighs whole sessions against each other and nice values only within one (sched(7), "The autogroup feature"),
    so that a server in a session of its own has to lower its session too. In a container neither counts against other
    containers: there it is the CPU shares.
    """
    os.nice(nice)
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # another system, or no autogroups
            _GROUP.write_text(str(nice))  # a session begins at 0
