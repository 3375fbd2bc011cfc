"""The commands `broker audit` and `broker receipt`: they check what was sealed and signed."""

import asyncio
from typing import BinaryIO

import click

from broker.local.options import json_option

# What checks is imported when it is needed: `broker --help` has to answer at once.

trusted_option = click.option(
    "--key",
    "keys",
    metavar="KEYS",
    multiple=True,
    help="The service's public keys: a file from its /.well-known/jwks.json, or the x of one key.",
)


@click.group()
def audit() -> None:
    """Check the audit trail."""


@click.group()
def receipt() -> None:
    """Check the receipts of grants."""


@audit.command(
    "verify",
    short_help="Find what was changed in the trail.",
    epilog="Example: broker audit verify audit.jsonl --key jwks.json",
)
@click.argument("file", type=click.File("rb"), required=False)
@trusted_option
@click.option("--head", type=click.File("rb"), help="An earlier answer of /v1/audit/head: proves a cut since then.")
@json_option
def verify_audit(*, file: BinaryIO | None, keys: tuple[str, ...], head: BinaryIO | None, as_json: bool) -> None:
    """Find entries that were changed, removed, inserted or moved, and say which.

    FILE is an export (GET /v1/audit/export); - is standard input. It is checked without the broker, by --key alone.
    Without FILE, all tenants' chains in the database are, for the operator: as the login that owns the tables
    (BROKER_MIGRATION_DATABASE_URL), with the keys of BROKER_SIGNING_KEYS and BROKER_SECRET_KEYS, or --key.

    Who rules the database can cut off the end of a chain and tidy up. Only a head that was kept elsewhere (--head), or
    the service's log, proves that. The exit code is 1 when something is wrong, 2 when a file cannot be read.
    """
    from broker.local.proving import prove_database, prove_file

    if file is not None:
        prove_file(file, keys, head, as_json=as_json)
    asyncio.run(prove_database(keys, head, as_json=as_json))


@audit.command("keys")
def list_keys() -> None:
    """Print the public keys that check seals and receipts, as in /.well-known/jwks.json.

    When a key leaves BROKER_SECRET_KEYS or BROKER_SIGNING_KEYS, put its x with public: before it into
    BROKER_SIGNING_KEYS: what it signed stays good.
    """
    from broker.local.proving import own_keys, print_json

    print_json(own_keys().published())


@receipt.command(
    "verify",
    short_help="Say what a receipt proves.",
    epilog="Example: broker receipt verify receipt.json --key jwks.json",
)
@click.argument("file", type=click.File("rb"))
@trusted_option
@json_option
def verify_receipt(*, file: BinaryIO, keys: tuple[str, ...], as_json: bool) -> None:
    """Check a grant's receipt without the broker, and say in sentences what it proves.

    FILE is what GET /v1/grants/{id}/receipt answers, or the part of it that is called signed; - is standard input. The
    exit code is 1 when the service has not signed this, 2 when it cannot be read.
    """
    from broker.local.proving import prove_receipt

    prove_receipt(file.read(), keys, as_json=as_json)
