"""Draw the README's picture from a demo: `python tools/picture.py demo/summary.json docs/images/worth.svg`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 440, 60, 180, 50, 80
LOOKS = {
    "never": ("#8a8f98", "4 4"),
    "quarterly": ("#b5541b", "8 4"),
    "monthly": ("#0b7a66", "2 3"),
    "loop": ("#2a4bd7", ""),
}


def picture(summary: dict[str, Any]) -> str:
    """AUC by month under the policies, with what happened, as SVG."""
    months = summary["months"]
    values: list[float] = [m[p]["auc"] for m in months for p in LOOKS if p in m]
    low, high = min(values) - 0.005, max(values) + 0.005
    step = (WIDTH - LEFT - RIGHT) / max(1, len(months) - 1)

    def x(n: float) -> float:
        return LEFT + n * step

    def y(v: float) -> float:
        return TOP + (high - v) / (high - low) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title>Area under the ROC curve by month under four policies</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="24" font-size="16" fill="#111418">AUC by month, by the answers that were given</text>',
    ]
    tick = round(low + 0.005, 2)
    while tick <= high:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#e3e6ea"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#555b64">{tick:.2f}</text>')
        tick = round(tick + 0.01, 2)
    for n, month in enumerate(months):
        at = f'x="{x(n):.1f}" y="{HEIGHT - BOTTOM + 20}"'
        out.append(f'<text {at} text-anchor="middle" fill="#555b64">{month["month"]}</text>')
    first = months[0]["month"]
    for move in summary["story"][1:]:
        place = x(_months_between(first, move["at"]))
        mark = {"PROMOTED": ("▲", "#2a4bd7"), "REJECTED": ("✕", "#b3261e"), "ROLLED_BACK": ("↺", "#b3261e")}
        sign, colour = mark[move["what"]]
        out.append(
            f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 40}" text-anchor="middle" fill="{colour}">{sign}'
            f"<title>{move['at']} {move['what']}</title></text>"
        )
    ends = []
    for policy, (colour, dash) in LOOKS.items():
        points = [(x(n), y(m[policy]["auc"])) for n, m in enumerate(months) if policy in m]
        if points:
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            width = 3 if policy == "loop" else 2
            out.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" '
                f'stroke-dasharray="{dash}"/>'
            )
            ends.append((points[-1][1], policy, colour))
    place = 0.0
    for height, policy, colour in sorted(ends):
        place = max(height, place + 16)
        mean = summary["policies"][policy]["auc"]
        out.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{place + 4:.1f}" fill="{colour}">{policy} (mean {mean:.3f})</text>'
        )
    out.append(
        f'<text x="{LEFT}" y="{HEIGHT - 8}" fill="#555b64">▲ promoted   ✕ rejected by the gates   ↺ rolled back</text>'
    )
    return "\n".join([*out, "</svg>", ""])


def _months_between(first: str, day: str) -> float:
    months = (int(day[:4]) - int(first[:4])) * 12 + int(day[5:7]) - int(first[5:7])
    return months - 0.5 + int(day[8:10]) / 31


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(picture(json.loads(source.read_text())))
