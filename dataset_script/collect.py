"""`refavs collect`: clips of ten seconds out of raw videos, as the media of a tree in the layout
of Ref-AVS Bench, and a report of what was left out and why (Ref-AVS, Sec. 3.2)."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from modeling_refavs.utils.files import (
    lock_folder,
    remove_leftovers,
    table,
    whole_file,
    whole_folder,
)
from modeling_refavs.video_refavs import VideoInfo, name_of, probe_video, read_steps

from .annotations import split_clip_id
from .collect_rules import (
    Candidate,
    Hearing,
    Measured,
    Rule,
    Second,
    choose,
    list_candidates,
    make_rules,
    measure_video,
)
from .media_files import SAMPLING_RATE, save_frame, write_sound
from .schema import CLIP_MS, NUM_FRAMES


CLIP_SECONDS = CLIP_MS // 1000
RECORDS, REPORT = "collected", "collected.json"
KEPT, SPACING = "kept", "too near a better one"


@dataclass(frozen=True)
class CollectOptions:
    """What is kept.

    Args:
        every: s, at least, from the start of one clip to that of the next; 10 or more.
        limits: of rules, in place of those of [`collect_rules.RULES`].
        audio_classifier: the name of what hears, kept in the report; None without.
    """

    every: float = float(CLIP_SECONDS)
    limits: Mapping[str, float] = field(default_factory=dict)
    audio_classifier: str | None = None

    def __post_init__(self):
        if not self.every >= CLIP_SECONDS:
            raise ValueError(f"clips must not overlap: every must be 10 s or more, {self.every}")


def collect_videos(
    videos: Sequence[str | Path],
    tree: str | Path,
    options: CollectOptions | None = None,
    hear: Hearing | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Write `media/<source>_<start ms>_<end ms>/` for each clip that is chosen, and in
    `collected/` a record and contact sheets of each video, which a later run finds done.

    Args:
        tree: a new folder, or one of an earlier run with the same options; `collected.json` and
            `collected.md` in it become the report of all its videos.
        hear: see [`measure_video`].

    Returns:
        What `collected.json` holds: `options`, `rules`, `clips` {source: ids} and `candidates`
        {rule or what became of them: how many} of all videos of the tree, and `unread` {video:
        error} of this run.

    Raises:
        ValueError: the tree is of other options, or another process writes it.
    """
    options, tree = options or CollectOptions(), Path(tree)
    rules, unread = make_rules(options.limits), {}
    with lock_folder(tree):
        for folder in (tree / "media", tree / RECORDS):
            folder.mkdir(exist_ok=True)
            remove_leftovers(folder)
        _check_options(tree, options)
        for video in tqdm(videos, desc="collecting", unit="video", disable=not progress):
            try:
                info = probe_video(Path(video))
                source = _name_source(Path(video))
                if not _is_done(tree, source, Path(video).stat().st_size):
                    _collect(info, source, tree, options, rules, hear)
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and error.filename != str(Path(video)):
                    raise  # of the output
                unread[name_of(video)] = str(error)
        return _write_report(tree, options, unread)


def _name_source(video: Path) -> str:
    """Of the file, for the ids of its clips."""
    source = video.stem
    if not source.isprintable() or split_clip_id(_clip_id(source, 0))["youtube_id"] != source:
        raise ValueError(f"{name_of(video)}: no clip can be named after it: rename the file")
    return source


def _clip_id(source: str, start: int) -> str:
    return f"{source}_{start * 1000}_{start * 1000 + CLIP_MS}"


def _record_path(tree: Path, source: str) -> Path:
    return tree / RECORDS / f"{source}.json"


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_records(tree: Path) -> list[dict[str, Any]]:
    """Of the videos that are done."""
    records = map(_read_json, sorted((tree / RECORDS).glob("*.json")))
    return [record for record in records if "candidates" in record]


def _check_options(tree: Path, options: CollectOptions) -> None:
    """Clips of two sets of options would not be told apart: the first run sets them."""
    if not (tree / REPORT).exists():
        _write_report(tree, options, {})
    before = _read_json(tree / REPORT)["options"]
    if before != json.loads(json.dumps(vars(options))):
        raise ValueError(
            f"{tree}: its clips were collected with other options, {before}: repeat them, or give "
            "a new folder"
        )


def _is_done(tree: Path, source: str, size: int) -> bool:
    path = _record_path(tree, source)
    if not path.exists():
        return False
    record = _read_json(path)
    if record["bytes"] != size:
        raise ValueError(f"{path} is of another video of that name: rename one, or remove it")
    return "candidates" in record


def _begin(tree: Path, source: str, size: int, clips: Sequence[str]) -> None:
    """Before the first clip the record says whose they are."""
    if _record_path(tree, source).exists():
        return  # a run that was killed
    for clip in clips:
        if (tree / "media" / clip).exists():
            raise ValueError(f"{tree}: it holds a clip {clip} of another origin: rename the video")
    _write_json(_record_path(tree, source), {"source": source, "bytes": size})


def _collect(
    info: VideoInfo,
    source: str,
    tree: Path,
    options: CollectOptions,
    rules: Mapping[str, Rule],
    hear: Hearing | None,
) -> None:
    """One video; its record is complete when all the rest is there."""
    size = Path(info.path).stat().st_size
    video = measure_video(info, hear)
    candidates = list_candidates(video, rules, with_classes=hear is not None)
    chosen = choose(candidates, options.every)
    clips = [_clip_id(source, candidate.start) for candidate in chosen]
    _begin(tree, source, size, clips)
    _write_clips(info, source, [candidate.start for candidate in chosen], tree)
    for page, sheet in enumerate(draw_sheets(source, video, candidates, chosen, rules)):
        with whole_file(tree / RECORDS / f"{source}_{page}.jpg") as unfinished:
            sheet.save(unfinished, quality=90)
    record = {
        "source": source,
        "video": info.name,
        "bytes": size,
        "duration": round(video.duration, 3),
        "clips": clips,
        "candidates": [
            {
                "start": candidate.start,
                "outcome": _outcome(candidate, chosen),
                "measured": candidate.measured,
                "seconds_that_sound": candidate.num_sounding,
            }
            for candidate in candidates
        ],
        "heard": [
            [[name, round(probability, 3)] for name, probability in second.heard]
            for second in video.seconds
        ],
    }
    _write_json(_record_path(tree, source), record)


def _outcome(candidate: Candidate, chosen: Sequence[Candidate]) -> list[str]:
    """The rules that it breaks, or what became of it."""
    return candidate.broken or [KEPT if candidate in chosen else SPACING]


def _write_clips(info: VideoInfo, source: str, starts: Sequence[int], tree: Path) -> None:
    done, steps = 0, iter(read_steps(info, SAMPLING_RATE))
    for start in starts:
        path = tree / "media" / _clip_id(source, start)
        if path.exists():  # of a run that was killed
            continue
        clip = list(islice(steps, start - done, start - done + NUM_FRAMES))
        done = start + NUM_FRAMES
        if len(clip) < NUM_FRAMES:
            raise ValueError(f"{info.name}: it changed while it was read")
        with whole_folder(path) as folder:
            (folder / "frames").mkdir()
            samples = np.zeros(NUM_FRAMES * SAMPLING_RATE, dtype=np.float32)
            for number, step in enumerate(clip):
                save_frame(folder / "frames" / f"{number}.jpg", step.frame)
                if step.audio is not None:
                    begin = number * SAMPLING_RATE
                    samples[begin : begin + len(step.audio)] = step.audio
            write_sound(folder / "audio.wav", samples)


# The report


def _write_report(tree: Path, options: CollectOptions, unread: Mapping[str, str]) -> dict[str, Any]:
    records, rules = _read_records(tree), make_rules(options.limits)
    report = {
        "options": vars(options),
        "rules": {name: rule._asdict() for name, rule in rules.items()},
        "clips": {record["source"]: record["clips"] for record in records},
        "candidates": _count_outcomes(records),
        "unread": dict(unread),
    }
    with whole_file(tree / "collected.md") as unfinished:
        unfinished.write_text(format_report(records, unread, rules), encoding="utf-8")
    _write_json(tree / REPORT, report)
    return report


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with whole_file(path) as unfinished:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def format_report(
    records: Sequence[Mapping[str, Any]], unread: Mapping[str, str], rules: Mapping[str, Rule]
) -> str:
    """Markdown: the rules, and for each video what was kept, and what was not, beside the limit."""
    outcomes = _count_outcomes(records)
    lines = [
        f"# Collected: {outcomes[KEPT]} clips of {len(records)} videos",
        "",
        "A candidate is ten seconds from any whole second; one may break several rules.",
        "",
        table(
            ["rule", "what is measured", "limit", "candidates left out"],
            [
                [name, rule.meaning, _limit(rule), outcomes[name]]
                for name, rule in rules.items()
                if any(name in one["measured"] for r in records for one in r["candidates"])
            ]
            + [[SPACING, "they start too near a clip of higher rank", "", outcomes[SPACING]]],
        ),
    ]
    for record in records:
        head = ["starts, s", "outcome", "measured", "limit"]
        lines += ["", f"## {record['source']}", ""]
        lines += [f"{record['video']}, {record['duration']:g} s", ""]
        lines += [table(head, list(_report_rows(record["candidates"], rules)))]
    if unread:
        lines += ["", "## Not read", "", *(f"- {error}" for error in unread.values())]
    return "\n".join(lines) + "\n"


def _count_outcomes(records: Sequence[Mapping[str, Any]]) -> Counter[str]:
    return Counter(
        name for record in records for one in record["candidates"] for name in one["outcome"]
    )


def _report_rows(
    candidates: Sequence[Mapping[str, Any]], rules: Mapping[str, Rule]
) -> Iterator[list[str]]:
    """A row for each run of candidates that are left out by one rule, and for each clip."""
    for outcome, run in groupby(candidates, key=lambda one: one["outcome"]):
        run = list(run)
        starts = _span([one["start"] for one in run])
        for name in outcome:
            if name in rules:
                values = _span([one["measured"][name] for one in run])
                yield [starts, name, values, _limit(rules[name])]
            else:
                measured = run[0]["measured"].items()
                shown = ", ".join(f"{rule} {value:g}" for rule, value in measured)
                yield [starts, name, shown if name == KEPT else "", ""]


def _limit(rule: Rule) -> str:
    return f"{rule.bound} {rule.limit:g} {rule.unit}"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


# The contact sheet

PAPER, INK, FAINT, GOOD = (18, 18, 18), (245, 245, 245), (150, 150, 150), (90, 200, 120)
COLUMN, GAP, MARGIN, TEXT, WAVE = 128, 4, 16, 13, 48  # pixels
ROWS = 20  # a sheet
LOUDEST = 0.05  # of full scale; a waveform that is lower is drawn as low


def draw_sheets(
    source: str,
    video: Measured,
    candidates: Sequence[Candidate],
    chosen: Sequence[Candidate],
    rules: Mapping[str, Rule],
) -> Iterator[Image.Image]:
    """Draw a row for each clip and, where ten seconds lie between them, for what was left out: the
    frames, the waveform under them and the likeliest sounds of each second."""
    shown = list(chosen)
    for candidate in candidates:
        if all(abs(candidate.start - other.start) >= CLIP_SECONDS for other in shown):
            shown.append(candidate)
    shown.sort()
    picture = max(second.picture.height for second in video.seconds)
    width, height = 2 * MARGIN + NUM_FRAMES * (COLUMN + GAP) - GAP, picture + WAVE + 6 * TEXT
    for first in range(0, len(shown), ROWS):
        page = shown[first : first + ROWS]
        sheet = Image.new("RGB", (width, len(page) * height + MARGIN), PAPER)
        for row, candidate in enumerate(page):
            top = MARGIN + row * height
            outcome = _outcome(candidate, chosen)
            values = (
                f"{name} {candidate.measured[name]:g}, {_limit(rules[name])}"
                if name in rules
                else name
                for name in outcome
            )
            title = f"{_clip_id(source, candidate.start)}: {'; '.join(values)}"
            ink = GOOD if outcome == [KEPT] else INK
            ImageDraw.Draw(sheet).text((MARGIN, top), title, font=_font(), fill=ink)
            seconds = video.seconds[candidate.start : candidate.start + NUM_FRAMES]
            for column, second in enumerate(seconds):
                corner = (MARGIN + column * (COLUMN + GAP), top + TEXT + GAP)
                sheet.paste(second.picture, corner)
                below = (corner[0], corner[1] + picture)
                _draw_sound(ImageDraw.Draw(sheet), below, second, max(video.loudest, LOUDEST))
        yield sheet


def _draw_sound(
    pen: ImageDraw.ImageDraw, corner: tuple[int, int], second: Second, loudest: float
) -> None:
    left, top = corner
    for x, peak in enumerate(second.peaks / loudest):
        reach = round(float(peak) * (WAVE - GAP) / 2)
        pen.line((left + x, top + WAVE // 2 - reach, left + x, top + WAVE // 2 + reach), fill=FAINT)
    for line, (name, probability) in enumerate(second.heard):
        text = f"{probability:.0%} {name}"
        while _font().getlength(text) > COLUMN:
            text = text[:-1]
        pen.text((left, top + WAVE + line * TEXT), text, font=_font(), fill=FAINT)


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(TEXT - 2)


__all__ = ["CollectOptions", "collect_videos", "draw_sheets", "format_report"]
