"""Draws figures as SVG by hand, so that no plotting library is needed: rates and latencies, one row per scenario."""

from collections.abc import Sequence
from html import escape
from math import log10

import msgspec

from bench.flow import Flow
from bench.match import Percentiles
from bench.run import Result

_WIDTH, _ROW, _LEFT, _BAR, _TOP = 1180, 46, 400, 340, 70
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#222}.h{font-weight:600}.s{fill:#666;font-size:11px}"
    ".e{fill:#3b6fb6}.d{fill:#8fb8de}.a{fill:#e8a33d}.r{fill:#c65b4a}line{stroke:#ddd}"
)
_DECADES = (1, 10, 100, 1_000, 10_000)  # milliseconds
_SECOND = _LEFT + _BAR + 40


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn of one scenario. What was not measured is drawn as nothing."""

    scenario: str
    events_per_s: float
    deliveries_per_s: float
    ack_ms: Percentiles
    receive_ms: Percentiles

    @classmethod
    def of(cls, scenario: str, flow: Flow) -> "Row":
        """The figures of a flow under a name, "title, and what else there is to say"."""
        none = Percentiles(0.0, 0.0, 0.0)
        return cls(
            scenario=scenario,
            events_per_s=flow.events_per_s or 0.0,
            deliveries_per_s=flow.deliveries_per_s or 0.0,
            ack_ms=flow.ack_ms or none,
            receive_ms=flow.receive_ms or none,
        )


def draw(results: Sequence[Result | Row]) -> str:
    """Left: events and deliveries per second. Right: p50 to p99 of acknowledging and of receiving, logarithmic."""
    height = _TOP + _ROW * len(results) + 30
    most = max((max(each.events_per_s, each.deliveries_per_s) for each in results), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
        f"<style>{_STYLE}</style><rect width='100%' height='100%' fill='#fff'/>",
        _text(10, 24, "broker bench", "h"),
        *_legend(),
        *_grid(height),
    ]
    for row, each in enumerate(results):
        parts += _row(_TOP + row * _ROW, each, most)
    return "\n".join([*parts, "</svg>\n"])


def _row(top: float, each: Result | Row, most: float) -> list[str]:
    name, _, rest = each.scenario.partition(", ")
    parts = [_text(10, top + 14, name, "h"), _text(10, top + 29, rest, "s")]
    for offset, value, kind in ((0, each.events_per_s, "e"), (15, each.deliveries_per_s, "d")):
        width = value / most * (_BAR - 50)
        parts.append(_bar(_LEFT, top + offset + 3, width, kind))
        parts.append(_text(_LEFT + width + 5, top + offset + 14, f"{value:,.0f}", "s"))
    for offset, found, kind in ((0, each.ack_ms, "a"), (15, each.receive_ms, "r")):
        left, right = _at(found.p50), _at(found.p99)
        parts.append(_bar(left, top + offset + 3, max(3.0, right - left), kind))
        parts.append(_text(max(right, left + 3) + 5, top + offset + 14, f"{found.p50:g} to {found.p99:g}", "s"))
    return parts


def _legend() -> list[str]:
    return [
        _bar(_LEFT, 34, 12, "e"), _text(_LEFT + 17, 45, "events/s"),
        _bar(_LEFT + 90, 34, 12, "d"), _text(_LEFT + 107, 45, "deliveries/s"),
        _bar(_SECOND, 34, 12, "a"), _text(_SECOND + 17, 45, "ack, p50 to p99"),
        _bar(_SECOND + 130, 34, 12, "r"), _text(_SECOND + 147, 45, "event to receiver, p50 to p99 (ms)"),
    ]  # fmt: skip


def _grid(height: int) -> list[str]:
    parts = []
    for value in _DECADES:
        x = _at(value)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 24}"/>')
        parts.append(_text(x - 8, height - 10, f"{value:,}", "s"))
    return parts


def _at(ms: float) -> float:
    return _SECOND + min(log10(max(ms, 1.0)) / 4, 1.0) * (_WIDTH - _SECOND - 90)


def _bar(x: float, y: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="12" rx="2"/>'


def _text(x: float, y: float, words: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
