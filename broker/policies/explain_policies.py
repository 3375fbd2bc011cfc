"""Puts any policies of an identity into plain sentences, each with a send that shows it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from broker.policies.arns import ANYBODY
from broker.policies.context import Send
from broker.policies.document import Document, DocumentError, Statement, read_any
from broker.policies.evaluate import Decision, evaluate, names_action, names_resource
from broker.policies.example import STRANGER, by_key, caller_of, example_of
from broker.policies.findings import present
from broker.policies.lint_structure import is_storable
from broker.policies.lint_what import ADDRESS_KEYS, BULK, SENDING
from broker.policies.phrases import all_of, calls, people, phrase
from broker.policies.witness import contradictory, satisfied
from broker.policies.wording import call, listed, sentence

Policy = str | Mapping[str, object] | Document


class Claim(msgspec.Struct, frozen=True):
    """One sentence; `example` is a send that shows it, allowed under `may` and refused under `cannot`.

    There is none where no such send was found, or where another statement decides it the other way.
    """

    sentence: str
    example: Send | None


class Explanation(msgspec.Struct, frozen=True):
    """What the policies permit, and what they refuse."""

    may: tuple[Claim, ...]
    cannot: tuple[Claim, ...]


def explain_policies(policies: Sequence[Policy], *, identity_arn: str, now: datetime) -> Explanation:
    """Read the sentences off the statements, so that they say what SES does and not what was meant.

    All policies of the identity count together: a Deny anywhere takes from every Allow. `now` is the time of examples
    where no condition is about the time. DocumentError for a policy that cannot be read.
    """
    documents = [_read(policy) for policy in policies]
    statements = [
        statement
        for document in documents
        for statement in document.statements
        if names_resource(statement, identity_arn)
    ]
    teller = _Teller(documents, identity_arn, now)
    allows = [statement for statement in statements if statement.allow]
    denies = [statement for statement in statements if not statement.allow]
    return Explanation(
        tuple(teller.may(statement, denied=bool(denies)) for statement in allows),
        (
            *(teller.denied(statement) for statement in denies),
            *(claim for statement in allows for claim in teller.unless(statement)),
            *teller.never(allows),
        ),
    )


def _read(policy: Policy) -> Document:
    document = read_any(policy)
    text = policy if isinstance(policy, str) else "{}" if isinstance(policy, Document) else json.dumps(policy)
    if not is_storable(text):
        raise DocumentError("The document has more than the 4096 bytes that SES takes.")
    return document


class _Teller(msgspec.Struct, frozen=True):
    """What all sentences need: the policies for the examples to be tried on."""

    documents: list[Document]
    identity_arn: str
    now: datetime

    def may(self, statement: Statement, *, denied: bool) -> Claim:
        label, who = statement.label, people(statement)
        if not _can_apply(statement):
            return Claim(f"Statement {label} permits nothing: its conditions never hold together.", None)
        conditions = all_of(_phrases(statement))
        when = f", if {conditions}" if conditions else " without any condition"
        less = "; what is denied comes off" if denied else ""
        said = sentence(f"{who} may use {calls(_without_bulk(statement))}{when}{less}.")
        return Claim(said, self._tried(example_of(statement, self.now), allowed=True))

    def denied(self, statement: Statement) -> Claim:
        conditions = all_of(_phrases(statement))
        when = f" when {conditions}" if conditions else ""
        who = people(statement)
        subject = "nobody may" if who == "anybody" else f"{who} cannot"
        said = sentence(f"{subject} use {calls(statement)}{when}, whatever else is allowed.")
        return Claim(said, self._tried(example_of(statement, self.now), allowed=False))

    def unless(self, statement: Statement) -> Iterator[Claim]:
        """What each condition of an Allow keeps out."""
        if _without_bulk(statement) != statement:
            bulk = Send(action=BULK, time=self.now)
            yield Claim(
                f"Statement {statement.label} names SendBulkEmail and never permits it: SES tells a policy no "
                "addresses of that call.",
                self._tried(msgspec.structs.replace(bulk, **(caller_of(statement) or {})), allowed=False),
            )
        for condition in statement.conditions if _can_apply(statement) else ():
            need = phrase(condition, present=present(statement, condition.key))
            example = example_of(statement, self.now, against=condition)
            yield Claim(
                f"Statement {statement.label} permits nothing unless {need}.", self._tried(example, allowed=False)
            )

    def never(self, allows: Sequence[Statement]) -> Iterator[Claim]:
        """What nobody may do."""
        missing = [name for name in SENDING if not any(names_action(each, name) for each in allows)]
        if missing:
            example = Send(action=missing[0], caller_account=STRANGER, time=self.now)
            names = listed([call(name) for name in missing], last="or")
            smtp = " and nobody can send over SMTP" if "ses:SendRawEmail" in missing else ""
            yield Claim(f"Nobody may use {names}{smtp}.", self._tried(example, allowed=False))
        open_to_all = any(each.not_principal or ("AWS", ANYBODY) in each.principals for each in allows)
        if not open_to_all:
            stranger = Send(action="ses:SendEmail", caller_account=STRANGER, time=self.now)
            yield Claim("Nobody else may do anything by these policies.", self._tried(stranger, allowed=False))

    def _tried(self, example: Send | None, *, allowed: bool) -> Send | None:
        if example is None:
            return None
        decision = evaluate(self.documents, example, identity_arn=self.identity_arn).decision
        return example if (decision is Decision.allow) is allowed else None


def _phrases(statement: Statement) -> list[str]:
    return [phrase(each, present=present(statement, each.key)) for each in statement.conditions]


def _can_apply(statement: Statement) -> bool:
    return not any(map(contradictory, by_key(statement).values()))


def _without_bulk(statement: Statement) -> Statement:
    """The statement without SendBulkEmail where its conditions are about addresses, which that call does not show."""
    shut = any(each.key.lower() in ADDRESS_KEYS and not satisfied([each], None) for each in statement.conditions)
    left = tuple(action for action in statement.actions if action.lower() != BULK.lower())
    if not shut or statement.not_action or not left:
        return statement
    return msgspec.structs.replace(statement, actions=left)
