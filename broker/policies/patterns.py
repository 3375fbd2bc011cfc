"""Says whether one pattern of IAM matches everything that another one does."""

import re
from functools import lru_cache

_RUN, _ONE = "\ue000", "\ue001"  # stand for the inner pattern's wildcards; private characters, in no address
_WILD = re.compile(r"[*?]+")


def within(inner: str, outer: str) -> bool:
    """Whether every text that fits `inner` fits `outer`, both with `*` and `?` as wildcards.

    True is certain. A False may be wrong only where the alphabet would have to be counted through.
    """
    return _compiled(outer[:512]).fullmatch(_in_order(inner).replace("*", _RUN).replace("?", _ONE)) is not None


def _in_order(pattern: str) -> str:
    """`*?*` as `?*`: within one run of wildcards only the number of `?`, and whether there is a `*`, count."""
    return _WILD.sub(lambda run: "?" * run[0].count("?") + "*" * ("*" in run[0]), pattern)


@lru_cache(maxsize=1024)
def _compiled(outer: str) -> re.Pattern[str]:
    pieces = [""]
    for char in _in_order(outer):
        if char == "*":
            pieces.append("")
        else:
            pieces[-1] += f"[^{_RUN}]" if char == "?" else re.escape(char)
    if len(pieces) == 1:
        return re.compile(pieces[0], re.DOTALL)
    head, *middle, tail = pieces
    # The leftmost place of each piece is a right one, so nothing has to be tried again (as in `wildcards`).
    stars = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(f"{head}{stars}.*{tail}", re.DOTALL)
