"""Which identities beneath a domain have a say in a grant's mail: those that overlap its From addresses. Pure.

The most specific verified identity supplies the settings of a mail: the address, then the lower sub-domain, then the
higher one (SES Developer Guide, creating-identities). So a verified sub-domain or address has notification settings of
its own, and its mail tells nothing to the topics of the domain above it.
"""

from collections.abc import Iterable, Sequence

from broker.policies.wildcards import matches


def concerned(identity: str, others: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Those of `others` beneath `identity` that some address fitting the From patterns belongs to, in order.

    Patterns have `*` and `?` as wildcards; none at all is no limit. Compared without case, which may name one too many
    but never one too few: whether SES compares the domain of an address with case is not documented.
    """
    lowered = [pattern.lower() for pattern in patterns] or ["*"]
    beneath = (name for name in set(others) if is_beneath(name, identity))
    return tuple(sorted(name for name in beneath if any(_overlaps(pattern, name.lower()) for pattern in lowered)))


def is_beneath(name: str, identity: str) -> bool:
    """Whether this is a sub-domain of the identity, or an address in it or in a sub-domain."""
    if "@" in identity:
        return False
    domain = name.rpartition("@")[2].lower()
    above = identity.lower()
    return domain.endswith(f".{above}") or ("@" in name and domain == above)


def _overlaps(pattern: str, name: str) -> bool:
    if "@" in name:
        return matches(pattern, name, None)
    return have_common_text(pattern, f"*@{name}") or have_common_text(pattern, f"*@*.{name}")


def have_common_text(one: str, other: str) -> bool:
    """Whether some text fits both patterns; takes the product of their lengths."""
    row = [True]  # by how much of `other` is left, for what is left of `one`: nothing at first
    for right in reversed(other):
        row.append(right == "*" and row[-1])
    for left in reversed(one):
        above, row = row, [left == "*" and row[0]]
        for at, right in enumerate(reversed(other), start=1):
            if "*" in (left, right):
                row.append(above[at] or row[at - 1])
            else:
                row.append((left == right or "?" in (left, right)) and above[at - 1])
    return row[-1]
