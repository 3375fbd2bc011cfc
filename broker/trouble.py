"""A database in trouble: how long it is listened to, and what of its errors is told to a tenant."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from broker.errors import Unavailable

PATIENCE = 20.0  # seconds for one statement; longer than the server's own limit (`db.connect`, `direct.Direct`)


def watch(engine: AsyncEngine) -> None:
    """Ends a connection at once when a statement on it was given up or cancelled.

    The driver would first ask the server to cancel it, over another connection and without a limit (asyncpg,
    `Protocol.close`): where the server cannot be heard, whoever gave up would wait for ever after all.
    """
    event.listen(engine.sync_engine, "handle_error", _drop)


def _drop(context: ExceptionContext) -> None:
    # SQLAlchemy hands over whatever ended the statement, which its annotation does not say.
    ended: BaseException = context.original_exception
    if context.connection is None or not isinstance(ended, TimeoutError | asyncio.CancelledError):
        return
    driver = context.connection.connection.driver_connection
    if driver is not None:
        driver.terminate()
    context.is_disconnect = True


# SQLSTATE classes and codes (PostgreSQL, errcodes-appendix): connection exception, a server that only reads (as after a
# failover), serialization failure, deadlock, insufficient resources, lock not available, operator intervention (a
# statement that was cut off is one), system error.
PASSING = ("08", "25006", "40001", "40P01", "53", "55P03", "57", "58")


class Progress:
    """How far a transaction has come. Who loses the server while it commits does not know what it did."""

    committing = False

    def lost(self) -> Unavailable:
        if self.committing:
            return Unavailable(
                "The database went away before it said whether this was done; look, or send it again with the same"
                " Idempotency-Key."
            )
        return Unavailable("The database cannot be reached right now; nothing was changed.")


@contextmanager
def translated() -> Iterator[Progress]:
    """Lost connections and what passes by itself become `Unavailable`, so that the tenant is told to come back."""
    progress = Progress()
    try:
        yield progress
    except (InterfaceError, OperationalError, OSError) as error:  # of the system's: refused, silent, no such name
        raise progress.lost() from error
    except PoolTimeoutError as error:
        raise Unavailable("Too much is under way right now; nothing was changed.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise progress.lost() from error
        if str(getattr(error.orig, "sqlstate", None)).startswith(PASSING):
            raise Unavailable("The database could not do this right now; nothing was changed.") from error
        raise
