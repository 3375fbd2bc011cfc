"""Decides whom the next Deny leaves out after SES refused one: one principal that SES does not know spoils all of it.

SES takes no policy that names a principal which does not exist (IAM User Guide, reference_policies_elements_principal),
and a user or role may be deleted at any time. Where its refusal names the principal, that one is left out; where it
does not, halves are tried until one principal is left. What was found out stands in the reasons why a grant is not
behind a Deny, and nowhere else.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from uuid import UUID

import msgspec

from broker.policies.arns import covers, plain
from broker.policies.deny import ProtectedBy, Protection, TakenBack, shut_out

_BEGIN = "SES refuses "
_REFUSED = f"{_BEGIN}the Deny: "
_BLAMED = f"{_BEGIN}a Deny of "
_SUSPECT = f"{_BEGIN}a Deny with some principal, perhaps one of this grant, which is looked for: "
_WAITS = f"{_BEGIN}a Deny with some principal of another grant, which is looked for first: "
_BEGINS = (_REFUSED, _SUSPECT, _WAITS, _BLAMED)
_SENTENCES = re.compile(rf"\s*(?={_BEGIN})")
_WORDS = re.compile(r"[\w+=,.@:/-]+", re.ASCII)  # an ARN or an account id, and what may stand in front of it


class _Said(msgspec.Struct, frozen=True):
    """What the reasons say: principal → why it is left out, and what SES said of others (beginning → its words)."""

    blamed: Mapping[str, str]
    unnamed: Mapping[str, str]

    @property
    def words(self) -> str | None:
        """SES's own, about a principal that it did not name."""
        return next((self.unnamed[begin] for begin in _BEGINS if begin in self.unnamed), None)


def refused(words: str) -> str:
    """The reason why a grant is not behind the Deny that was tried last; `words` are SES's own."""
    return f"{_REFUSED}{words}"


def narrows(reason: str | None) -> bool:
    """Whether the next Deny will be another one for this reason."""
    return any(part.startswith((_REFUSED, _SUSPECT, _WAITS)) for part in _parts(reason))


def with_refusal(found: Protection, words: str) -> Protection:
    """What protects a grant that a refused Deny was to cover, or a part of it. What is known of it already stays."""
    reason = refused(words)
    if found.by is ProtectedBy.reads and not _parts(reason):
        return found
    return Protection(ProtectedBy.reads, " ".join([*_parts(found.reason), reason]))


def left_out(
    taken: Sequence[TakenBack],
    *,
    reasons: Mapping[UUID, str | None],
    tried: Mapping[str, str],
    observed: Mapping[str, str],
    identity_arn: str,
) -> Mapping[str, str]:
    """Principals, as `plain` spells them, that the next Deny does not name although they may be denied; each with why.

    `reasons` are those of the grants as the last run left them, `tried` is the Deny that it tried (name → document),
    `observed` every policy on the identity. Each Deny that SES refuses leads to a smaller one or to one principal less,
    each that it takes to a larger one.
    """
    everybody = {plain(principal) for grant in taken for principal in grant.principals}
    said = _read(reasons.values(), everybody)
    if (words := said.words) is None:
        return said.blamed
    known, last = shut_out(observed, identity_arn), shut_out(tried, identity_arn)
    suspects = _of(taken, reasons, _SUSPECT) - known - set(said.blamed)
    blamed = dict(said.blamed)
    if _REFUSED in said.unnamed:
        suspects = last - known - set(blamed)
        if len(suspects) == 1:
            blamed |= {each: _blames(each, words) for each in suspects}
            suspects = frozenset()
        tries = _half(suspects)
    else:
        tries = _half(suspects) if last <= known else last
    next_ones = known | tries if suspects else everybody
    waiting = [
        each
        for each in _of(taken, reasons, *_BEGINS)
        if each not in blamed and not any(covers(other, each) for other in next_ones)
    ]
    return blamed | {each: f"{_SUSPECT if each in suspects else _WAITS}{words}" for each in waiting}


def _half(suspects: Set[str]) -> frozenset[str]:
    return frozenset(sorted(suspects)[: (len(suspects) + 1) // 2])


def _of(taken: Sequence[TakenBack], reasons: Mapping[UUID, str | None], *begins: str) -> frozenset[str]:
    """All principals of the grants of which one of this is said."""
    return frozenset(
        plain(principal)
        for grant in taken
        if any(part.startswith(begins) for part in _parts(reasons.get(grant.grant_id)))
        for principal in grant.principals
    )


def _read(reasons: Iterable[str | None], everybody: Set[str]) -> _Said:
    blamed: dict[str, str] = {}
    unnamed: dict[str, str] = {}
    for part in (part for reason in reasons for part in _parts(reason)):
        begin = next(each for each in _BEGINS if part.startswith(each))
        words = part.removeprefix(begin)
        named = [plain(word.strip(".,:")) for word in _WORDS.findall(words)]
        if begin == _BLAMED:
            blamed[named[0]] = part
        elif found := everybody & set(named):
            blamed |= {each: _blames(each, words) for each in found}
        else:
            unnamed[begin] = words
    return _Said(blamed, unnamed)


def _blames(principal: str, words: str) -> str:
    return f"{_BLAMED}{principal}: {words}"


def _parts(reason: str | None) -> list[str]:
    """The sentences about a refusal that is about a principal: no other becomes less by leaving somebody out."""
    if reason is None:
        return []
    parts = [part for part in _SENTENCES.split(reason) if part.startswith(_BEGINS)]
    return [part for part in parts if not part.startswith(_REFUSED) or "principal" in part.lower()]
