"""Line charts as SVG, both axes logarithmic."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 140, 40, 50
_COLOURS = {"fetch-native": "#d62728", "fetch-grpcio": "#ff9896", "etcd": "#1f77b4", "kine": "#7f7f7f"}
_DASHES = ("", "6 4", "2 3")

Points = Sequence[tuple[float, float]]


def write(path: Path, title: str, across: str, up: str, lines: Mapping[tuple[str, str], Points]) -> None:
    """Writes a chart of `lines`, which are named by server and by what is drawn of it, which may be empty.

    Points at zero lie where one would.
    """
    drawn = {name: [(max(x, 1.0), max(y, 1e-6)) for x, y in points] for name, points in lines.items() if points}
    xs = sorted({x for points in drawn.values() for x, _ in points})
    ys = [y for points in drawn.values() for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys) * 1.0001))

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = math.log(x / xs[0]) / (math.log(xs[-1] / xs[0]) or 1)
        share_y = (math.log10(y) - low) / (high - low)
        return _LEFT + share_x * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - share_y * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="white"/>',
        _text(_WIDTH / 2, 20, title, "middle"),
        _text(_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _HEIGHT - 10, across, "middle"),
        _text(10, _TOP - 12, up, "start"),
    ]
    for power in range(low, high + 1):
        _, y = place(xs[0], 10.0**power)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{10.0**power:,g}", "end"))
    for x in xs:
        across_x, y = place(x, 10.0**low)
        parts.append(_text(across_x, y + 16, f"{x:,.0f}", "middle"))
    kinds = sorted({kind for _, kind in drawn})
    for number, ((server, kind), points) in enumerate(drawn.items()):
        style = f'stroke="{_COLOURS.get(server, "black")}" stroke-dasharray="{_DASHES[kinds.index(kind)]}"'
        corners = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in points)
        parts.append(f'<polyline points="{corners}" fill="none" stroke-width="2" {style}/>')
        y = _TOP + 16 * number
        edge = _WIDTH - _RIGHT + 8
        parts.append(f'<line x1="{edge}" x2="{edge + 18}" y1="{y}" y2="{y}" stroke-width="2" {style}/>')
        parts.append(_text(edge + 22, y + 4, f"{server} {kind}".strip(), "start"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((*parts, "</svg>\n")))


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="12">{escape(text)}</text>'
