"""Runs one command so that it cannot outlive its parent; executed by path with a bare interpreter, never imported.

Usage: ``launch.py PARENT_PID DEATH_SIGNAL UID GID COMMAND [ARGUMENT …]``; -1 as UID or GID keeps our own.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Change the account, ask for the death signal, become the command."""
    parent, death_signal, uid, gid = (int(word) for word in sys.argv[1:5])
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of account: that clears the setting (prctl(2)).
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # the parent died before we could ask
            sys.exit(1)
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606 — the command is our caller's, and no shell is wanted


if __name__ == "__main__":
    main()
