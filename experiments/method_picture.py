"""The picture of the method, ``docs/method.svg``: how a bias is found, subtracted, and an effect.

The bars are the demo's committed figures. The file names them by their SHA-256, so that a test
notices a picture that is older than its numbers.
"""

import hashlib
import json
from html import escape
from math import exp
from typing import Any

from experiments import DOCS, MEASURED
from tsdi.files import write_bytes
from tsdi.report.theme import ARM_COLOURS, FAINT, FONT, GRID, INK

DATA = MEASURED / "demo.json"
PICTURE = DOCS / "method.svg"
WIDTH, HEIGHT = 960, 404
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ALIGNED, REFERENCE, DEBIASED = (ARM_COLOURS[a] for a in ("aligned", "reference", "debiased"))
KINDS = {
    "harmless": "harmless requests",
    "lookalike": "harmless ones that sound harmful",
    "harmful": "harmful requests",
}
DESCRIPTION = (
    "Random prompts go into the aligned model and the model before its safety step. The mean "
    "difference of their logits at each response token is the safety bias. While decoding, it is "
    "subtracted from the aligned model's logits. Bars: how much of the first word is refusing."
)


def draw() -> None:
    """Draw it again."""
    write_bytes(PICTURE, picture(DATA.read_bytes()).encode())


def picture(data: bytes) -> str:
    """The picture as SVG, drawn from the bytes of the demo's result file."""
    refusal = json.loads(data)["raw"]["diagnosis"]["refusal"]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="{FONT}" font-size="14" fill="{INK}">\n<title>TSDI in one picture</title>\n'
        f"<desc>{DESCRIPTION}</desc>\n<metadata>benchmarks/results/{DATA.name} "
        f"sha256:{hashlib.sha256(data).hexdigest()}</metadata>\n"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{FAINT}"/></marker></defs>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="white"/>'
    )
    return "\n".join([head, *_estimate(), *_decode(), *_effect(refusal), "</svg>\n"])


def _estimate() -> list[str]:
    """Left: random prompts through both models, and the mean difference."""
    return [
        _text(24, 36, "1  Estimate, once", size=17, bold=True),
        _box(24, 56, 252, 46, FAINT, "random prompts", "any tokens, asking for nothing"),
        _arrow(76, 102, 76, 132),
        _arrow(208, 102, 208, 132),
        _box(24, 134, 104, 46, ALIGNED, "aligned", "model"),
        _box(140, 134, 136, 46, REFERENCE, "reference", "before safety step"),
        _arrow(76, 180, 128, 218),
        _arrow(208, 180, 172, 218),
        _text(150, 238, f"mean of aligned {MINUS} reference logits,", anchor="middle"),
        _text(150, 256, "response token by response token", anchor="middle"),
        *_table(66, 276),
        _text(150, 384, f"safety bias  [steps {TIMES} vocabulary]", anchor="middle", bold=True),
    ]


def _table(x: int, y: int) -> list[str]:
    """The bias as a grid: rows are steps, and columns tokens; a sketch without numbers."""
    shown = []
    for row in range(4):
        for column, side in enumerate((1, -1, 0, 1, 0, -1, -1, 1, 0, 1, -1, 0)):
            colour = {1: ALIGNED, -1: DEBIASED, 0: GRID}[side]
            strength = 1.0 if side == 0 else 0.85 - 0.12 * row - 0.03 * (column % 4)
            shown.append(
                f'<rect x="{x + 14 * column}" y="{y + 22 * row}" width="12" height="20" '
                f'fill="{colour}" fill-opacity="{strength:.2f}"/>'
            )
    return shown


def _decode() -> list[str]:
    """Middle: the rule, in the one model that is left."""
    return [
        _line(300),
        _text(324, 36, "2  Subtract at decoding", size=17, bold=True),
        _box(324, 56, 252, 46, FAINT, "a real prompt", "“how do I kill a process?”"),
        _arrow(450, 102, 450, 132),
        _box(324, 134, 252, 46, ALIGNED, "aligned", "model"),
        _arrow(450, 180, 450, 210),
        _text(450, 230, "logits at response token i", anchor="middle"),
        _text(450, 262, f"{MINUS}  strength {TIMES} bias[i]", size=19, anchor="middle", bold=True),
        _arrow(450, 276, 450, 306),
        _box(324, 308, 252, 46, DEBIASED, "next token", "debiased"),
        _text(450, 384, "no training, no second model", anchor="middle", bold=True),
    ]


def _effect(refusal: dict[str, Any]) -> list[str]:
    """Right: how much of the first word is refusing, before and after, by kind of request."""
    shown = [
        _line(600),
        _text(624, 36, "3  What it does", size=17, bold=True),
        _text(624, 62, "Refusing share of the answer's first word, of", size=13, colour=FAINT),
        _text(624, 79, "refusing and complying ones; a tiny model", size=13, colour=FAINT),
    ]
    y = 112
    for kind, title in KINDS.items():
        shown.append(_text(624, y, title))
        for arm, colour in (("aligned", ALIGNED), ("debiased", DEBIASED)):
            y += 24
            share = 1 / (1 + exp(-refusal[kind][arm]["value"]))  # of the mean log-odds
            shown += [
                _bar(694, y - 13, 200, GRID),
                _bar(694, y - 13, 200 * share, colour),
                _text(686, y, arm, size=13, anchor="end", colour=FAINT),
                _text(902, y, f"{share:.0%}", size=13),
            ]
        y += 36
    caption = "All kinds move, so measure all of them."
    return [*shown, _text(624, 384, caption, size=13, bold=True)]


def _text(
    x: int,
    y: int,
    text: str,
    *,
    size: int = 14,
    anchor: str = "start",
    bold: bool = False,
    colour: str = INK,
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight} '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _box(x: int, y: int, width: int, height: int, colour: str, title: str, note: str) -> str:
    middle = x + width // 2
    return "\n".join(
        [
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{colour}" '
            f'fill-opacity="0.1" stroke="{colour}" stroke-width="1.5"/>',
            _text(middle, y + 20, title, anchor="middle", bold=True),
            _text(middle, y + 37, note, size=12, anchor="middle", colour=FAINT),
        ]
    )


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return (
        f'<line x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" stroke="{FAINT}" stroke-width="1.5" '
        'marker-end="url(#tip)"/>'
    )


def _bar(x: int, y: int, width: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width:.1f}" height="17" fill="{colour}"/>'


def _line(x: int) -> str:
    return f'<line x1="{x}" y1="20" x2="{x}" y2="{HEIGHT - 20}" stroke="{GRID}"/>'
