"""Policies over HTTP, whoever wrote them: linting and comparing."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Controller, post
from litestar.params import JSONBody
from msgspec import Meta

from broker import clock
from broker.caller import Scope
from broker.errors import Flaw, Invalid
from broker.policies.arns import parse_identity_arn
from broker.policies.changes import Change, Effect, verdict
from broker.policies.diff_policies import Changed, diff_policies
from broker.policies.document import DocumentError, read_any
from broker.policies.explain_policies import Explanation, explain_policies
from broker.policies.findings import Finding
from broker.policies.lint import is_bad, lint
from broker.web import needs

MAX_POLICIES = 40  # an identity takes 20; a few too many are worth a finding, thousands are not

IDENTITY_EXAMPLE = "arn:aws:ses:eu-west-1:111111111111:identity/example.com"
POLICIES_EXAMPLE = {
    "agency": {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": "222222222222"},
                "Action": ["ses:SendEmail", "ses:SendRawEmail"],
                "Resource": IDENTITY_EXAMPLE,
                "Condition": {"StringLike": {"ses:FromAddress": "marketing+.*@example.com"}},
            }
        ],
    }
}


DOCUMENT_EXAMPLE = POLICIES_EXAMPLE["agency"]
Versions = str | dict[str, Any] | list[str | dict[str, Any]]


class Linting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Policies that hang together on one identity, by name: as JSON, or as the text that SES gives back."""

    identity_arn: Annotated[
        str, Meta(description="The identity that they hang on", max_length=512, examples=[IDENTITY_EXAMPLE])
    ]
    policies: Annotated[
        dict[str, str | dict[str, Any]],
        Meta(description="Documents by the policy's name", min_length=1, examples=[POLICIES_EXAMPLE]),
    ]


class Linted(msgspec.Struct, frozen=True):
    """What was found, the worst first; `ok` means that nothing is an error or a danger.

    `explanation` says in plain words what the policies permit together, and what they refuse, each sentence with a
    send that shows it; null where one of them cannot be read.
    """

    ok: bool
    findings: Sequence[Finding]
    explanation: Explanation | None


class Diffing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two versions of a policy, or of all policies of an identity: one document, or a list; as JSON or as text."""

    old: Annotated[Versions, Meta(description="What was there before", examples=[DOCUMENT_EXAMPLE])]
    new: Annotated[Versions, Meta(description="What is there now", examples=[DOCUMENT_EXAMPLE])]


class Diffed(msgspec.Struct, frozen=True):
    """What is different, statement by statement, in words; `effect` is what all of it does to the permission to send.

    `widens`: all sends that were allowed still are; `narrows`: no other one is; `neither`: each statement means the
    same.
    """

    effect: Effect
    changes: Sequence[Changed]


class PolicyController(Controller):
    """SES sending-authorization policies, ours or anybody's."""

    path = "/v1/policies"
    tags = ("Policies",)

    @post("/lint", summary="Lint policies", operation_id="lintPolicies", status_code=200, guards=[needs(Scope.READ)])
    async def lint(self, data: JSONBody[Linting]) -> Linted:
        """What SES would refuse, what is dangerous, what is of no use, and what the policies permit in plain words.

        Nothing is stored, and AWS is not asked.
        """
        if len(data.policies) > MAX_POLICIES:
            raise Invalid(
                f"There are {len(data.policies)} policies; at most {MAX_POLICIES} are looked at.",
                flaws=(Flaw("/policies", f"Give at most {MAX_POLICIES}; an identity takes 20."),),
            )
        try:
            parse_identity_arn(data.identity_arn)
        except ValueError as error:
            raise Invalid(str(error), flaws=(Flaw("/identity_arn", str(error)),)) from error
        return await asyncio.to_thread(_judge, data, clock.now())

    @post("/diff", summary="Compare policies", operation_id="diffPolicies", status_code=200, guards=[needs(Scope.READ)])
    async def diff(self, data: JSONBody[Diffing]) -> Diffed:
        """What the new policies permit or refuse beside the old ones, by what they mean and not by their text.

        Nothing is stored, and AWS is not asked.
        """
        versions = {"/old": _listed(data.old), "/new": _listed(data.new)}
        for pointer, documents in versions.items():
            _check(documents, pointer)
        return await asyncio.to_thread(_compare, versions["/old"], versions["/new"])


def _listed(version: Versions) -> list[str | dict[str, Any]]:
    return version if isinstance(version, list) else [version]


def _check(documents: Sequence[str | dict[str, Any]], pointer: str) -> None:
    """`Invalid` for more than there can be, and for what cannot be read, with its place."""
    if len(documents) > MAX_POLICIES:
        raise Invalid(
            f"There are {len(documents)} policies; at most {MAX_POLICIES} are looked at.",
            flaws=(Flaw(pointer, f"Give at most {MAX_POLICIES}; an identity takes 20."),),
        )
    for document in documents:
        try:
            read_any(document)
        except DocumentError as error:
            raise Invalid(str(error), flaws=(Flaw(pointer, str(error)),)) from error


def _compare(old: Sequence[str | dict[str, Any]], new: Sequence[str | dict[str, Any]]) -> Diffed:
    changes = diff_policies(old, new)
    return Diffed(verdict(Change(each.text, each.effect) for each in changes), changes)


def _judge(asked: Linting, now: datetime) -> Linted:
    findings = lint(asked.policies, identity_arn=asked.identity_arn, now=now)
    try:
        said = explain_policies(list(asked.policies.values()), identity_arn=asked.identity_arn, now=now)
    except DocumentError:
        said = None
    return Linted(not is_bad(findings), findings, said)
