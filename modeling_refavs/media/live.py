"""`refavs live`: sentences asked of a camera, a microphone or any stream, second by second, as far as the model keeps up."""

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..modeling_outputs_refavs import RefAVSStreamOutput
from ..streaming_refavs import RefAVSStream
from .answering import SAMPLING_RATE
from .live_source import LiveSecond, LiveSource
from .loading import choose_device, load_model
from .opening import LiveInput
from .overlay import PAPER, colour_of, font_of, tint_of
from .segmentation import check_request
from .writing import SOUND_LAYOUT, SOUND_RATE, VideoWriter, encoding_of, write_video


PATIENCE = 2  # s of the source that may wait; beyond that all but the newest are dropped


@dataclass(frozen=True)
class LiveAnswer:
    """What the sentences mean in one second of a live source.

    Args:
        second: its number and pictures.
        output: of [`RefAVSStream.step`].
        dropped: the seconds before it that the model did not see, since it was behind.
        delay: s, from the end of the second to the answer.
    """

    second: LiveSecond
    output: RefAVSStreamOutput
    dropped: list[LiveSecond]
    delay: float


def follow(source: LiveSource, stream: RefAVSStream) -> Iterator[LiveAnswer]:
    """Answers as they come, until the source ends. What is dropped is not remembered either: the memory is of seconds seen."""
    waiting: deque[LiveSecond] = deque()
    while True:
        waiting.extend(source.take(wait=not waiting))
        if not waiting:
            return
        dropped = [waiting.popleft() for _ in range(len(waiting) - 1)] if len(waiting) > PATIENCE else []
        second = waiting.popleft()
        output = stream.step(second.frame.rgb, second.sounds[0][0] if second.sounds else None)
        yield LiveAnswer(second, output, dropped, source.clock - second.number - 1)


def describe(answer: LiveAnswer) -> dict[str, Any]:
    """One line of JSON."""
    rows = zip(
        answer.output.expressions, answer.output.masks, answer.output.presence, answer.output.scores, strict=True
    )
    return {
        "second": answer.second.number,
        "dropped": len(answer.dropped),
        "delay": round(answer.delay, 3),
        "expressions": [
            {
                "text": text,
                "presence": round(float(presence), 4),
                "score": round(float(score), 4),
                "share": round(float(mask.mean()), 6),
                "box": box_of(mask),
            }
            for text, mask, presence, score in rows
        ],
    }


def box_of(mask: np.ndarray) -> list[int] | None:
    """[left, top, right, bottom] of `mask (h, w)` in pixels, the last two excluded; None if it is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1] if len(rows) else None


class _Blocks(deque):
    """Sound as an iterator that may run dry and go on later."""

    def __next__(self) -> np.ndarray:
        if not self:
            raise StopIteration
        return self.popleft()


class Recorder:
    """The source's own pictures and sound in a file, coloured with the newest answer; opened by the first second."""

    def __init__(self, path: Path, source: LiveSource):
        self.path, self.source, self.stack = path, source, ExitStack()
        self.video: VideoWriter | None = None
        self.sounds, self.num_sounds = _Blocks(), 0  # of a second each
        self.layer: Image.Image | None = None

    def __enter__(self) -> "Recorder":
        self.stack.__enter__()
        return self

    def __exit__(self, *failure) -> None:
        self.stack.__exit__(*failure)

    def record(self, answer: LiveAnswer) -> None:
        """Dropped seconds keep the masks from before."""
        for second in answer.dropped:
            self._write(second)
        self.layer = self._draw_layer(answer.output)
        self._write(answer.second)

    def _write(self, second: LiveSecond) -> None:
        if self.video is None:
            sound = self.sounds if self.source.has_sound else None
            writer = write_video(self.path, second.frame.size, self.source.frame_rate, sound)
            self.video = self.stack.enter_context(writer)
        if self.source.has_sound:
            self._add_sound(second.number, second.sounds[1])
        for frame in second.pictures:
            picture = Image.fromarray(frame.rgb)
            if self.layer:
                picture.paste(self.layer, mask=self.layer)
            self.video.write(np.asarray(picture), frame.time, frame.end)

    def _add_sound(self, number: int, samples: np.ndarray) -> None:
        """Silence stands for seconds that were lost, and for what has not come."""
        silence = np.zeros((2, SOUND_RATE), dtype=np.float32)
        while self.num_sounds < number:
            self.sounds.append(silence)
            self.num_sounds += 1
        self.sounds.append(np.concatenate([samples, silence], axis=1)[:, :SOUND_RATE])
        self.num_sounds += 1

    def _draw_layer(self, output: RefAVSStreamOutput) -> Image.Image:
        """The masks, and each sentence in its colour behind a full disc or, where its object is not there, a ring."""
        layer = tint_of(output.masks)
        pen, unit = ImageDraw.Draw(layer), max(12, layer.height // 24)
        for index, (text, mask) in enumerate(zip(output.expressions, output.masks, strict=True)):
            top, colour = unit * (0.4 + 1.4 * index), colour_of(index)
            disc = (unit * 0.4, top + unit * 0.15, unit * 1.2, top + unit * 0.95)
            pen.ellipse(disc, fill=colour if mask.any() else None, outline=colour, width=max(1, unit // 8))
            pen.text((unit * 1.7, top), text, font=font_of(unit), fill=colour, stroke_width=2, stroke_fill=PAPER)
        return layer


def run_live(args: argparse.Namespace, emit: Callable[[str], None]) -> str:
    """Carry out the command until the source ends, `args.seconds` are over, or it is interrupted.

    Args:
        args: of the command.
        emit: takes one line of JSON for each second that is answered.

    Returns:
        One line: how many seconds were answered, and how many dropped.

    Raises:
        ValueError: any input or output that cannot work.
    """
    check_request(args.expressions, args.threshold)
    pictures = LiveInput(args.source, args.format)
    sound = LiveInput(args.sound, args.sound_format) if args.sound else None
    for source in filter(None, (pictures, sound)):
        source.check()
    waveforms = [(SAMPLING_RATE, None)]
    if args.output:
        encoding_of(args.output)
        waveforms.append((SOUND_RATE, SOUND_LAYOUT))
    model, processor = load_model(args.model, choose_device(args.device), args.dtype)
    stream = RefAVSStream(model, processor, args.expressions, args.threshold)
    source = LiveSource(pictures, sound, waveforms, keep_pictures=bool(args.output))
    answered, dropped = 0, 0
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(args.output, source)) if args.output else None
        try:
            for answer in follow(source, stream):
                emit(json.dumps(describe(answer), ensure_ascii=False))
                answered, dropped = answered + 1, dropped + len(answer.dropped)
                if recorder:
                    recorder.record(answer)
                if args.seconds and answer.second.number + 1 >= args.seconds:
                    break
        except KeyboardInterrupt:  # the usual end of a live source: the recording is whole
            pass
        finally:
            source.stop()
    if not answered:
        raise ValueError(f"{args.source}: not one second came of it")
    return f"{answered} s answered, {dropped + source.lost} s dropped"
