"""An answer as the page shows it: what was found, over the sound, and the Python that finds the
same."""

import os
from html import escape
from pathlib import Path
from typing import Any

from modeling_refavs.visualization.overlay import colour_of


STYLE = """
.answer {display: flex; flex-direction: column; gap: 0.9rem}
.answer .found {font-size: 1.05rem; margin-bottom: 0.25rem}
.answer .dot {display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%; margin-right: 0.5em}
.answer .when {opacity: 0.8; margin-left: 0.5em}
.answer .nothing {display: block; margin-left: 1.3em}
.answer .bars {display: flex; align-items: flex-end; height: 2.5rem; border-bottom: 1px solid currentColor}
.answer .bars i {display: block; box-sizing: border-box; margin-right: 1px; border: 1px solid; min-height: 1px}
.answer .spectrogram {display: block; width: 100%; height: 5rem}
.answer .clock {display: flex; justify-content: space-between; font-size: 0.85rem; opacity: 0.8}
.refused {border-left: 0.3rem solid rgb(213, 94, 0); padding-left: 0.8rem}
.answer .legend {font-size: 0.85rem; opacity: 0.8}
#frames .grid-wrap {height: auto !important; min-height: 0; padding-top: 2rem}
#frames .grid-container {grid-template: none / repeat(auto-fill, minmax(5.5rem, 1fr)); grid-auto-rows: auto}
#frames .thumbnail-item {aspect-ratio: 4 / 3}
"""  # noqa: E501


def draw_answer(answer: dict[str, Any], texts: dict[str, str]) -> str:
    """HTML: for each sentence when its object is seen and how sure the model is in each second,
    over the spectrogram.

    Args:
        answer: of [`work.work`].
        texts: of one language.
    """
    summary = answer["summary"]
    rows = [
        _draw_sentence(number, found, summary, texts)
        for number, found in enumerate(summary["expressions"])
    ]
    return f'<div class="answer" role="status">{"".join(rows)}{_draw_sound(answer, texts)}</div>'


def draw_refusal(reason: str, texts: dict[str, str]) -> str:
    """HTML that stands in the answer's place."""
    return f'<div class="refused" role="alert"><b>{texts["refused"]}</b><br>{escape(reason)}</div>'


def _draw_sentence(
    number: int, found: dict[str, Any], summary: dict[str, Any], texts: dict[str, str]
) -> str:
    colour = "rgb({}, {}, {})".format(*colour_of(number))
    when = ", ".join(f"{start:g}-{end:g} s" for start, end in found["intervals"])
    said = (
        f'<span class="when">{texts["seen"].format(when=when)}</span>'
        if when
        else f'<span class="nothing">{texts["nothing"]}</span>'
    )
    percents = [round(100 * presence) for presence in found["presence"]]
    lengths = _lengths(summary)
    bars = "".join(
        f'<i style="flex: {length:g} 0 0; height: {percent}%; border-color: {colour}; '
        f'background: {colour if share else "none"}" '
        f'title="{texts["second"].format(second=second, percent=percent)}"></i>'
        for second, (percent, share, length) in enumerate(
            zip(percents, found["share"], lengths, strict=True)
        )
    )
    label = escape(texts["presence"].format(percent=", ".join(map(str, percents))))
    sentence = (
        f'<span class="dot" style="background: {colour}"></span><b>{escape(found["text"])}</b>'
    )
    bars = f'<div class="bars" role="img" aria-label="{label}">{bars}</div>'
    return f'<div><div class="found">{sentence}{said}</div>{bars}</div>'


def _lengths(summary: dict[str, Any]) -> list[float]:
    """Of each step, in s: the last one may be shorter or longer than a second."""
    video = summary["video"]
    return [1.0] * (video["steps"] - 1) + [max(video["duration"] - (video["steps"] - 1), 0.1)]


def _draw_sound(answer: dict[str, Any], texts: dict[str, str]) -> str:
    duration = f"{answer['summary']['video']['duration']:g} s"
    clock = f'<div class="clock"><span>0 s</span><span>{duration}</span></div>'
    if not answer["spectrogram"]:
        return f"<div>{clock}<p>{texts['no_sound']}</p></div>"
    source = f"data:image/png;base64,{answer['spectrogram']}"
    image = f'<img class="spectrogram" src="{source}" alt="{texts["sound"]}">'
    return f'<div>{image}{clock}<div class="legend">{texts["sound"]}</div></div>'


def python_lines(model: str, video: str, expressions: list[str]) -> str:
    """What a reader of the page may paste, with this package beside it."""
    folder = Path(model)
    if folder.is_dir():  # another folder than the current one is the server's own business
        model = (
            os.path.relpath(folder) if folder.resolve().is_relative_to(Path.cwd()) else folder.name
        )
    return f"""\
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.visualization.render import render_video
from modeling_refavs.inference.segment import segment_video

model = RefAVSForSegmentation.from_pretrained({model!r})
processor = RefAVSProcessor.from_pretrained({model!r})
result = segment_video(model, processor, {video!r}, {expressions!r})
print([result.intervals(number) for number in range(len(result.expressions))])  # when each is seen, in s
render_video(result, "overlay.mp4")
"""  # noqa: E501
