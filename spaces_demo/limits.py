"""What the page accepts: files and sentences, checked before anything large is decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from modeling_refavs.video_refavs import VideoInfo, open_media, picture_stream, probe_video


MESSAGES = {
    "size": "the file has {came} MB; at most {most} MB are taken: cut or compress it",
    "format": "this is not a video that can be read here: it must be a whole file in {most} format",
    "sound_only": "there is no moving picture in this file: choose a video",
    "damaged": "not one picture of it can be decoded: it is damaged, or its pictures have more "
    "than {most} pixels",
    "pixels": "the pictures have {came} pixels; at most {most} are taken: export a smaller video",
    "length": "the video lasts {came} s; at most {most} s are taken: cut it",
    "pictures": "the video has {came} pictures; at most {most} are taken: cut it, or export fewer "
    "pictures a second",
    "no_sentence": "say in words which object is meant, one sentence a line",
    "too_many": "these are {came} sentences; at most {most} are taken at a time",
    "too_long": "sentence {number} has {came} characters; at most {most} are taken",
}


class LimitError(ValueError):
    """What came is beyond a limit.

    Args:
        kind: of the limit: a key of `MESSAGES`.
        facts: what came, and what is taken.
    """

    def __init__(self, kind: str, **facts: Any):
        super().__init__(MESSAGES[kind].format(**facts))
        self.kind, self.facts = kind, facts


@dataclass(frozen=True)
class Limits:
    """Args:
    num_bytes: of a file.
    containers: FFmpeg's names of those that are opened, each read by itself: no playlist, nothing
        that names other files.
    width, height: pixels; their product is the limit, so that upright videos are as welcome.
    seconds: that a video lasts, pictures or sound.
    num_pictures: in a video.
    num_sentences: at a time.
    sentence_length: characters.
    """

    num_bytes: int = 100 * 10**6
    containers: tuple[str, ...] = ("mov", "matroska", "avi")
    container_names: str = "MP4, MOV, WebM, MKV or AVI"
    width: int = 1920
    height: int = 1200
    seconds: float = 30.0
    num_pictures: int = 30 * 60
    num_sentences: int = 5
    sentence_length: int = 200

    @property
    def num_pixels(self) -> int:
        return self.width * self.height


def check_video(path: str | Path, limits: Limits) -> VideoInfo:
    """Refuse a file by its size, then by its headers, then by its packets; one picture at last is
    decoded.

    Raises:
        LimitError: the first limit that it breaks.
    """
    path, most_pixels = Path(path), f"{limits.width}x{limits.height}"
    if path.stat().st_size > limits.num_bytes:
        raise LimitError(
            "size", came=round(path.stat().st_size / 1e6), most=round(limits.num_bytes / 1e6)
        )
    try:
        container = open_media(path, limits.containers)
    except ValueError as error:
        raise LimitError("format", most=limits.container_names) from error
    with container:
        try:
            context = picture_stream(container).codec_context
        except ValueError as error:
            raise LimitError("sound_only") from error
        if context is None:
            raise LimitError("damaged", most=most_pixels)
        if context.width * context.height > limits.num_pixels:
            raise LimitError("pixels", came=f"{context.width}x{context.height}", most=most_pixels)
        _check_packets(container, limits)
    try:
        info = probe_video(path)
    except ValueError as error:
        raise LimitError("damaged", most=most_pixels) from error
    if (
        info.width * info.height > limits.num_pixels
    ):  # as displayed: stored pixels need not be square
        raise LimitError("pixels", came=f"{info.width}x{info.height}", most=most_pixels)
    return info


def _check_packets(container: av.container.InputContainer, limits: Limits) -> None:
    """Count what is there, whatever the file declares; nothing is decoded."""
    pictures, begin, seconds = 0, None, 0.0
    try:
        for packet in container.demux(*container.streams.video, *container.streams.audio):
            if packet.pts is None:  # the last, empty one of each stream
                continue
            time = float(packet.pts * packet.time_base)
            begin = time if begin is None else min(begin, time)
            seconds = max(seconds, time + float((packet.duration or 0) * packet.time_base) - begin)
            pictures += packet.stream.type == "video"
            if seconds > limits.seconds + 1:  # recorders overrun by a few pictures
                came = max(seconds, (container.duration or 0) / av.time_base)
                raise LimitError("length", came=round(came), most=round(limits.seconds))
            if pictures > limits.num_pictures:
                raise LimitError(
                    "pictures", came=f"more than {limits.num_pictures}", most=limits.num_pictures
                )
    except av.FFmpegError:  # it ends in mid-air: what came before is counted, and can be worked on
        return


def check_sentences(expressions: Sequence[str], limits: Limits) -> list[str]:
    """The sentences without what is empty; [`LimitError`] for none, too many or a long one."""
    said = [expression.strip() for expression in expressions if expression.strip()]
    if not said:
        raise LimitError("no_sentence")
    if len(said) > limits.num_sentences:
        raise LimitError("too_many", came=len(said), most=limits.num_sentences)
    for number, expression in enumerate(said, start=1):
        if len(expression) > limits.sentence_length:
            raise LimitError(
                "too_long", number=number, came=len(expression), most=limits.sentence_length
            )
    return said
