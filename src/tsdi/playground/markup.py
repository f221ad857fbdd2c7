"""Two answers as HTML: what the page shows, and its style. Every word of a model is escaped."""

import html
import math
from bisect import bisect_left as bisect
from collections.abc import Sequence

from tsdi.playground.side_by_side import Answer, Both, Candidate, Reading, Token
from tsdi.report.theme import token_text

LEAST = math.log(1.1)
"""Nats; a token that moves less is shown as it is."""
_MOST = 6.0  # nats; the strongest colour
_KINDS = ("harmful", "harmless")
_MARKS = 25  # of labelled prompts of each kind on the scale
_LABELLED = (
    '<p class="note">Small marks: labelled prompts, held out; above the line harmful ones, below'
    " it harmless ones, at even ranks.</p>"
)
_ENDS = {
    "": "",
    "stop": "ended by the model",
    "length": "cut off",
    "stopped": "stopped",
}
_BRACES = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})

STYLE = """
.tsdi { font-size: 1rem; line-height: 1.5; overflow-wrap: anywhere; }
.tsdi h1 { font-size: 1.4rem; margin: 0; }
.tsdi h2 { font-size: 1.05rem; margin: 1rem 0 .3rem; }
.tsdi .note { opacity: .8; font-size: .9rem; margin: .3rem 0; }
.tsdi .columns { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.tsdi article { border: 1px solid rgb(128 128 128 / .4); border-radius: 8px; min-width: 0;
  padding: 0 .9rem .6rem; }
.tsdi .answer { white-space: pre-wrap; unicode-bidi: isolate; min-height: 4.5em; margin: 0; }
.tsdi .up { background: rgb(0 158 115 / var(--m)); text-decoration: underline 2px #009e73; }
.tsdi .down { background: rgb(204 121 167 / var(--m));
  text-decoration: underline dashed 2px #cc79a7; }
.tsdi table { border-collapse: collapse; width: 100%; font-size: .9rem; }
.tsdi table, .tsdi tr, .tsdi th, .tsdi td { border: 0; }
.tsdi th, .tsdi td { text-align: left; padding: .1rem .5rem .1rem 0; font-weight: normal; }
.tsdi thead th { opacity: .8; }
.tsdi tbody th { white-space: pre; }
.tsdi .first th { width: 8.5rem; }
.tsdi .bar { display: flex; align-items: center; gap: .4rem; white-space: nowrap; }
.tsdi .bar i { height: .7em; border-radius: 2px; flex: none; }
.tsdi .plain i { background: #d55e00; }
.tsdi .debiased i { background: #0072b2; }
.tsdi .scale { position: relative; height: 1.6rem; margin: .6rem 0 2.6rem;
  border-bottom: 2px solid; }
.tsdi .scale span { position: absolute; bottom: -2.1rem; font-size: .8rem;
  transform: translateX(-50%); white-space: nowrap; }
.tsdi .scale b, .tsdi .scale s { position: absolute; bottom: 0; height: 1.4rem; width: 1px;
  background: currentColor; }
.tsdi .scale b { width: 4px; margin-left: -2px; background: #0072b2; }
.tsdi .scale i { position: absolute; bottom: 2px; height: .6rem; width: 2px; background: #d55e00; }
.tsdi .scale i.harmless { bottom: calc(-.6rem - 4px); background: #009e73; }
@media (max-width: 640px) {
  .tsdi .columns { grid-template-columns: 1fr; }
  .tsdi .first th { width: 4rem; }
}
"""


def escaped(text: str) -> str:
    """Text from elsewhere for HTML, and for templates, which would fill in `${..}` and `{{..}}`."""
    return html.escape(text).translate(_BRACES)


def factor(moved: float) -> str:
    """A change of log-probability in words, such as "12 times likelier"."""
    if abs(moved) < LEAST:
        return "as likely"
    times = math.exp(min(abs(moved), 700))
    shown = f"{times:.1f}" if times < 10 else f"{times:.0f}" if times < 1000 else "over 1,000"
    return f"{shown} times {'likelier' if moved > 0 else 'less likely'}"


def both(found: Both, said: str) -> str:
    """Both answers, what the condition read, and the first tokens.

    Args:
        found: The answers as far as they have come.
        said: What was asked for, in words.
    """
    status = "Done." if found.done else "Answering …"
    return (
        f'<section class="tsdi"><p class="note" role="status">{status} {escaped(said)}</p>'
        f'<div class="columns">{_answer("Plain", found.plain, "would be made")}'
        f"{_answer('Debiased', found.debiased, 'was made')}</div>"
        '<p class="note">Green, underlined: subtraction makes this token likelier here. Pink,'
        " dashed: less likely. In the plain answer it is what subtraction would do.</p>"
        f"{_reading(found)}{_first(found.first)}</section>"
    )


def problem(text: str) -> str:
    """An error in place of the answers."""
    return f'<section class="tsdi"><p role="alert">{escaped(text)}</p></section>'


def _answer(title: str, answer: Answer, verb: str) -> str:
    words = "".join(map(_token, answer.tokens))
    ended = _ENDS[answer.finish]
    end = f'<p class="note">{len(answer.tokens)} tokens, {ended}</p>' if ended else ""
    return (
        f'<article aria-label="{title} answer"><h2>{title}</h2><p class="answer">{words}</p>'
        f"{end}{_moved(answer, verb)}</article>"
    )


def _token(token: Token) -> str:
    text = escaped(token.text)
    if abs(token.moved) < LEAST or not text:
        return text
    kind = "up" if token.moved > 0 else "down"
    depth = 0.12 + 0.48 * min(1.0, abs(token.moved) / _MOST)
    return (
        f'<span class="{kind}" style="--m:{depth:.2f}" title="{factor(token.moved)}">{text}</span>'
    )


def _moved(answer: Answer, verb: str) -> str:
    """The moved tokens in words, for who sees no colours."""
    moved = [one for one in answer.tokens if abs(one.moved) >= LEAST and one.text]
    if not moved or not answer.finish:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_shown(one.text)}</th><td>{factor(one.moved)}</td></tr>'
        for one in moved
    )
    number = f"{len(moved)} of {len(answer.tokens)} tokens"
    return (
        f"<details><summary>What {verb} likelier or less likely: {number}</summary>"
        f"<table><tbody>{rows}</tbody></table></details>"
    )


def read(found: Both) -> str:
    """The condition's reading of a prompt in words; "" without a condition."""
    reading = found.reading
    if reading is None:
        return ""
    side = (
        "above the threshold, 0: rather harmful"
        if reading.score > 0
        else ("below the threshold, 0: rather harmless")
    )
    used = f"so the strength is {reading.strength:.2f}"
    if abs(found.strength - reading.strength) > 1e-6:
        used = f"which would set {reading.strength:.2f}; the strength that was named wins"
    return f"h(x) = {reading.score:.2f}, {side}; {used}.{_among(reading)}"


def _among(reading: Reading) -> str:
    """Where a reading is among the labelled prompts' in words; "" where these are not known."""
    shares = [
        f"{bisect(scores, reading.score)} of the {len(scores)} {kind} ones"
        for kind in _KINDS
        if (scores := reading.labelled.get(kind))
    ]
    if not shares:
        return ""
    return f" Of the labelled prompts, held out, {' and '.join(shares)} are read lower."


def percent(share: float) -> str:
    """A probability in percent."""
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def _reading(found: Both) -> str:
    if found.reading is None:
        return ""
    return f"<h2>What the condition read</h2><p>{read(found)}</p>{_scale(found.reading)}"


def _scale(reading: Reading) -> str:
    """The reading and the threshold on a line."""
    labelled = {kind: _some(reading.labelled.get(kind, ())) for kind in _KINDS}
    shown = [reading.score, *(one for some in labelled.values() for one in some)]
    widest = max(4.0, *(math.ceil(abs(one) * 1.1) for one in shown if math.isfinite(one)))

    def place(score: float) -> str:
        return f"{50 + 50 * max(-1.0, min(1.0, score / widest)):.1f}%"

    marks = "".join(
        f'<i class="{kind}" style="left:{place(one)}"></i>'
        for kind, some in labelled.items()
        for one in some
    )
    return (
        f'<div class="scale" aria-hidden="true">{marks}<s style="left:50%"></s>'
        f'<b style="left:{place(reading.score)}"></b><span style="left:50%">0</span>'
        '<span style="left:12%">harmless</span><span style="left:88%">harmful</span></div>'
        f"{_LABELLED if marks else ''}"
    )


def _some(scores: Sequence[float]) -> list[float]:
    """Scores at even ranks, `_MARKS` at most."""
    number = min(_MARKS, len(scores))
    return [scores[len(scores) * (2 * place + 1) // (2 * number)] for place in range(number)]


def _first(candidates: tuple[Candidate, ...]) -> str:
    if not candidates:
        return ""
    most = max(max(one.before, one.after) for one in candidates)
    rows = "".join(
        f'<tr><th scope="row">{_shown(one.text)}</th>{_bar("plain", one.before, most)}'
        f"{_bar('debiased', one.after, most)}</tr>"
        for one in candidates
    )
    return (
        '<h2>The likeliest first tokens</h2><table class="first"><thead><tr>'
        '<th scope="col">token</th><th scope="col">plain</th><th scope="col">debiased</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _bar(kind: str, share: float, most: float) -> str:
    bar = f'<i style="width:{50 * share / most:.1f}%"></i>'
    return f'<td class="{kind}"><div class="bar">{bar}{escaped(percent(share))}</div></td>'


def _shown(token: str) -> str:
    """A token by itself: quoted where white space would not be seen."""
    return token_text(token).translate(_BRACES)
