"""What `broker audit` and `broker receipt` do: files and keys in, findings and sentences out."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import click
import msgspec
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import broker.models  # noqa: F401 - foreign keys need every table
from broker.audit.export import HeadLine
from broker.audit.signing import Jwks, PublicKeys, Signer, decoded
from broker.audit.verify import Finding
from broker.audit.verify_database import Checked, verify_database
from broker.audit.verify_file import Verdict, check_signed, verify_file
from broker.configuration import load
from broker.grants.proof import check, read, sentences
from broker.grants.views import SignedReceipt
from broker.local.databases import first_line
from broker.settings import PUBLIC_KEY

BAD, UNREADABLE = 1, 2

T = TypeVar("T")


def prove_file(file: BinaryIO, keys: Sequence[str], head: BinaryIO | None, *, as_json: bool) -> NoReturn:
    """Checks an exported trail."""
    earlier = _decoded(head.read(), HeadLine, "no head of a chain") if head else None
    verdict = verify_file(file, _trusted(keys), earlier=earlier)
    if as_json:
        print_json({"ok": not verdict.findings, **msgspec.to_builtins(verdict)})
    else:
        _tell(verdict.findings)
        click.echo(_summary(verdict))
    sys.exit(BAD if verdict.findings else 0)


async def prove_database(keys: Sequence[str], head: BinaryIO | None, *, as_json: bool) -> NoReturn:
    """Checks every chain in the database."""
    public = _trusted(keys) if keys else own_keys()
    earlier = _decoded(head.read(), HeadLine, "no head of a chain") if head else None
    if earlier is not None and (wrong := next(check_signed(earlier, public), None)):
        _give_up(wrong.sentence)
    try:
        checked = await _chains(load(os.environ).owner_database_url, public, earlier)
    except (OSError, DBAPIError) as error:
        _give_up(f"the database cannot be used: {first_line(error)}")
    findings = [finding for each in checked for finding in each.findings]
    if as_json:
        print_json({"ok": not findings, "chains": checked})
    else:
        _tell(findings)
        sealed, waiting = sum(each.sealed for each in checked), sum(each.waiting for each in checked)
        end = f"{len(findings)} findings." if findings else "all is as it was sealed."
        click.echo(f"{len(checked)} chains, {sealed} sealed entries, {waiting} that wait for their seals: {end}")
    sys.exit(BAD if findings else 0)


def prove_receipt(text: bytes, keys: Sequence[str], *, as_json: bool) -> NoReturn:
    """Checks a receipt, and says what it proves."""
    signed = _signed(text)
    if wrong := check(signed, _trusted(keys)):
        print_json({"ok": False, "wrong": wrong}) if as_json else click.echo(f"{click.style('✗', fg='red')} {wrong}")
        sys.exit(BAD)
    try:
        told = list(sentences(read(signed), key_id=signed.signature.key_id))
    except (msgspec.ValidationError, ValueError) as error:
        _give_up(f"it is signed, but says what this version does not understand: {error}.")
    if as_json:
        print_json({"ok": True, "key_id": signed.signature.key_id, "sentences": told, "receipt": signed.receipt})
    else:
        click.echo("\n".join(told))
    sys.exit(0)


def own_keys() -> PublicKeys:
    """Of this installation, by its settings."""
    return Signer.of(load(os.environ)).public


def print_json(value: object) -> None:
    """One object on stdout."""
    click.echo(msgspec.json.encode(value).decode())


async def _chains(url: str, keys: PublicKeys, earlier: HeadLine | None) -> list[Checked]:
    known = (earlier.head.tenant_id, earlier.head.position, earlier.head.hash) if earlier else None
    engine = create_async_engine(url, json_deserializer=msgspec.json.decode)
    try:
        async with AsyncSession(engine) as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            return [each async for each in verify_database(session, keys, earlier=known)]
    finally:
        await engine.dispose()


def _trusted(given: Sequence[str]) -> PublicKeys:
    """From files and from what is a key itself."""
    if not given:
        raise click.UsageError(
            "Say with --key which public keys to trust: those of the service's /.well-known/jwks.json."
        )
    raw: list[bytes] = []
    for each in given:
        try:
            raw += _keys_in(each)
            PublicKeys(raw)
        except (OSError, ValueError) as error:
            sentence = f"{each} is neither a file of keys nor a key of 32 bytes."
            raise click.BadParameter(sentence, param_hint="--key") from error
    return PublicKeys(raw)


def _keys_in(word: str) -> list[bytes]:
    if Path(word).is_file():
        return [decoded(key.x) for key in msgspec.json.decode(Path(word).read_bytes(), type=Jwks).keys]
    return [decoded(word.removeprefix(PUBLIC_KEY))]


def _signed(text: bytes) -> SignedReceipt:
    """The signed part of an answer, or that part alone."""
    told = _decoded(text, dict[str, Any], "no receipt")
    try:
        return msgspec.convert(told.get("signed", told), SignedReceipt)
    except msgspec.ValidationError as error:
        _give_up(f"this is no signed receipt: {error}.")


def _decoded(text: bytes, type_: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _give_up(f"this is {what}: {error}.")


def _summary(verdict: Verdict) -> str:
    head = verdict.head
    end = f"{len(verdict.findings)} findings." if verdict.findings else "all is as it was sealed."
    if head is None:
        return f"{verdict.own + verdict.others} entries: {end}"
    return (
        f"{verdict.own} entries of the chain of {head.tenant_id}, which had {head.position} at {head.made_at}, and"
        f" {verdict.others} of other chains: {end}"
    )


def _tell(findings: Sequence[Finding]) -> None:
    for each in findings:
        whose = f" [{each.tenant_id}]" if each.tenant_id else ""
        click.echo(f"{click.style(each.wrong, fg='red', bold=True)}{whose} {each.sentence}")


def _give_up(sentence: str) -> NoReturn:
    click.echo(f"broker: {sentence}", err=True)
    sys.exit(UNREADABLE)
