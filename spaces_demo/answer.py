"""An answer as the page shows it: what was found, second by second, over the sound, and the Python
that finds the same."""

from html import escape
from pathlib import Path
from typing import Any

from modeling_refavs.visualization.overlay import colour_of


PEAKS = 25  # of the sound, a second
HEIGHT = 40  # of a lane, in which the sound is twice its loudness high


def draw_heading(text: str) -> str:
    """HTML over an answer."""
    return f"<h2>{text}</h2>"


def draw_refusal(reason: str, texts: dict[str, str]) -> str:
    """HTML that stands in the answer's place."""
    return f'<div class="refused" role="alert"><b>{texts["refused"]}</b><br>{escape(reason)}</div>'


def draw_answer(answer: dict[str, Any], texts: dict[str, str]) -> str:
    """HTML: for each sentence when its object is seen, how sure the model is in each second, and
    the sound, in colour where the object is heard.

    Args:
        answer: of [`work.answer`].
        texts: of one language.
    """
    video = answer["summary"]["video"]
    lanes = [
        _draw_sentence(number, found, answer, texts)
        for number, found in enumerate(answer["summary"]["expressions"])
    ]
    clock = f"<span>0 s</span><span>{_time(video['duration'])} s</span>"
    legend = texts["legend"] if answer["wave"] else texts["no_sound"]
    style = f"<style>#overlay video {{--ratio: {answer['ratio']:.4f}}}</style>"
    return (
        f'{style}<div class="answer" role="status">{"".join(lanes)}'
        f'<div class="clock">{clock}</div><p class="legend">{legend}</p></div>'
    )


def _time(seconds: float) -> str:
    return f"{round(seconds, 1):g}"


def _draw_sentence(
    number: int, found: dict[str, Any], answer: dict[str, Any], texts: dict[str, str]
) -> str:
    when = ", ".join(f"{_time(start)}-{_time(end)} s" for start, end in found["intervals"])
    if when:
        said = f'<span class="when">{texts["seen"].format(when=when)}</span>'
    else:
        said = f'<span class="nothing">{_draw_nothing(answer["nearest"][number], texts)}</span>'
    text, duration = escape(found["text"]), answer["summary"]["video"]["duration"]
    percents = ", ".join(str(round(100 * presence)) for presence in found["presence"])
    label = escape(texts["lane"].format(text=found["text"], percents=percents), quote=True)
    return (
        f'<div class="found" style="--colour: rgb{colour_of(number)}">'
        f'<span class="dot"></span><b>{text}</b> {said}'
        f'<div class="lane" role="slider" tabindex="0" aria-label="{label}" aria-valuemin="0" '
        f'aria-valuemax="{_time(duration)}" aria-valuenow="0">'
        f"{_draw_lane(number, found, answer, texts)}</div></div>"
    )


def _draw_nothing(nearest: dict[str, Any], texts: dict[str, str]) -> str:
    facts = {
        "presence": f"{100 * nearest['presence']:.0f}",
        "second": nearest["second"],
        "name": escape(nearest.get("name", "")),
        "probability": f"{100 * nearest.get('probability', 0):.0f}",
    }
    kind = "nothing_named" if "name" in nearest else "nothing"
    return texts[kind].format(**facts)


def _draw_lane(
    number: int, found: dict[str, Any], answer: dict[str, Any], texts: dict[str, str]
) -> str:
    """SVG, a second 10 wide: a bar of how sure the model is, filled where the object is seen, a
    line for how good it takes its mask to be, where it tells that, and the sound."""
    duration, parts = answer["summary"]["video"]["duration"], []
    for second, (presence, share) in enumerate(zip(found["presence"], found["share"], strict=True)):
        height, kind = max(presence * HEIGHT, 1), "seen" if share else "absent"
        percent = round(100 * presence)
        parts.append(
            f'<rect class="{kind}" x="{10 * second}" y="{HEIGHT - height:.1f}" width="9.6" '
            f'height="{height:.1f}">'
            f"<title>{texts['second'].format(second=second, percent=percent)}</title></rect>"
        )
    if iou_scores := found.get("iou_scores"):
        heights = [f"{HEIGHT * (1 - value):.1f}" for value in iou_scores]
        line = " ".join(
            f"{10 * second},{height} {10 * second + 10},{height}"
            for second, height in enumerate(heights)
        )
        parts.append(f'<polyline class="quality" points="{line}"/>')
    if answer["wave"]:
        heard = answer["sounding"] and answer["sounding"][number]
        parts.append(_draw_wave(answer["wave"], heard))
    return (
        f'<svg viewBox="0 0 {10 * duration:.1f} {HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(parts)}</svg><i class="now"></i>'
    )


def _draw_wave(wave: list[float], heard: list[bool] | None) -> str:
    """Each peak as a stroke around the middle, as high as it is beside the loudest."""
    loudest, strokes = max(*wave, 1e-3), {"": "", "heard": ""}
    for index, peak in enumerate(wave):
        kind = "heard" if heard and heard[min(index // PEAKS, len(heard) - 1)] else ""
        reach = max(peak / loudest * HEIGHT * 0.48, 0.3)
        x = (index + 0.5) * 10 / PEAKS
        strokes[kind] += f"M{x:.1f} {HEIGHT / 2 - reach:.1f}v{2 * reach:.1f}"
    return "".join(
        f'<path class="wave {kind}" d="{path}"/>' for kind, path in strokes.items() if path
    )


def python_lines(model: str, video: str, expressions: list[str]) -> str:
    """What a reader of the page may paste, in the repository or a clone of the Space."""
    model, video = _seen_from_root(model), _seen_from_root(video)
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


def _seen_from_root(path: str) -> str:
    """A path of the repository as its root sees it; of another, the server's own business, the
    name; a Hub id as it is."""
    folder = Path(__file__).resolve().parent
    root = folder if (folder / "modeling_refavs").is_dir() else folder.parent  # as on a Space
    if not Path(path).exists():
        return path
    whole = Path(path).resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.name
