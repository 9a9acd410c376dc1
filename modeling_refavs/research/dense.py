"""Ways to masks at the video's own frame rate, on the page's two clips, whose true masks are
redrawn for every picture.

J: mean Jaccard index over pictures and the sentences that mean something. Flicker: the pixels that
change from one picture to the next though the truth does not, in percent of the object's mean area;
the truth itself changes by the last line. Seconds: of processor time for a clip of 10 s and all its
sentences.

python -m modeling_refavs.benchmarks.dense
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import interpolate

from dataset_script.synthetic.drawing import draw
from modeling_refavs import RefAVSForSegmentation, RefAVSProcessor
from modeling_refavs.feature_extraction_refavs import SAMPLING_RATE
from modeling_refavs.inference.segment import Timeline, decode_with_cues
from modeling_refavs.video_refavs import read_frames, read_sound
from spaces_demo.draw_examples import CLIPS, EXAMPLES, SECONDS, SIZE, THINGS, make_scene


FPS = 25
MODEL = EXAMPLES.with_name("synthetic_checkpoint")
HEARD = ("the first object to make a sound", "the last object to make a sound")
SMOOTHINGS = (0.08, 0.12, 0.2, 0.32, 0.52)  # s


@dataclass
class Clip:
    """`pictures`, 25 a second; `sound` at 16 kHz; `truth (expressions, pictures, height,
    width)`."""

    pictures: list[np.ndarray]
    sound: np.ndarray
    expressions: list[str]
    truth: np.ndarray


def main() -> None:
    torch.set_num_threads(1)
    model = RefAVSForSegmentation.from_pretrained(MODEL).eval()
    processor = RefAVSProcessor.from_pretrained(MODEL)
    clips = [load_clip(name) for name in CLIPS]
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for clip in clips:
        for name, (logits, seconds) in answer_in_all_ways(model, processor, clip).items():
            rows.setdefault(name, []).append((*score(logits, clip.truth), seconds))
    sys.stdout.write("| way | J | flicker | seconds |\n|---|---|---|---|\n")
    for name, values in rows.items():
        jaccard, flicker, seconds = np.mean(values, axis=0)
        sys.stdout.write(f"| {name} | {jaccard:.3f} | {100 * flicker:.1f} % | {seconds:.2f} |\n")
    truth = np.mean([change_of(clip.truth[clip.truth.any((1, 2, 3))]) for clip in clips])
    sys.stdout.write(f"| the truth's own change | | {100 * truth:.1f} % | |\n")


def load_clip(name: str) -> Clip:
    path, scene = EXAMPLES / f"{name}.mp4", make_scene(CLIPS[name])
    answers = {f"the {category}": category for category in THINGS}
    answers |= {f"the {colour} object": category for category, (colour, *_) in THINGS.items()}
    answers |= {"the striped object": "bell", "the drum": None}
    answers |= dict(zip(HEARD, CLIPS[name], strict=True))
    visible = np.stack(
        [draw(scene, number / FPS, *SIZE)[1] for number in range(SECONDS * FPS)], axis=1
    )
    truth = [
        np.zeros_like(visible[0]) if kind is None else visible[list(THINGS).index(kind)]
        for kind in answers.values()
    ]
    sound = np.concatenate([block.mean(axis=0) for block in read_sound(path, SAMPLING_RATE)])
    return Clip([frame.rgb for frame in read_frames(path)], sound, list(answers), np.stack(truth))


@torch.no_grad()
def answer_in_all_ways(model, processor, clip: Clip) -> dict[str, tuple[torch.Tensor, float]]:
    """Mask logits `(expressions, pictures, h, w)` of each way, and the seconds it took."""
    ways = {
        "one mask a second, held": lambda: retime(
            shifted_passes(model, processor, clip, 1), 1, None
        ),
        "one mask a second, interpolated": lambda: retime(
            shifted_passes(model, processor, clip, 1), 1, 0.0
        ),
        "25 passes, shifted, each with its memory": lambda: shifted_passes(
            model, processor, clip, FPS
        ),
        "each picture with its own sound, memory of whole seconds": lambda: of_one_memory(
            model, processor, clip, True
        ),
        "each picture with the second's sound, memory of whole seconds": lambda: of_one_memory(
            model, processor, clip, False
        ),
    }
    ways |= {
        f"cues of the second, {rate} frames a second"
        + ", interpolated" * (rate < FPS): lambda rate=rate: retime(
            cues_of_the_second(model, processor, clip, rate), rate, 0.0
        )
        for rate in (2, 5, FPS)
    }
    answers = {name: _timed(way) for name, way in ways.items()}
    dense, seconds = answers[f"cues of the second, {FPS} frames a second"]
    for smoothing in SMOOTHINGS:
        answers[f"the same, smoothed over {smoothing} s"] = retime(dense, FPS, smoothing), seconds
    dense, seconds = answers["25 passes, shifted, each with its memory"]
    answers["25 passes, smoothed over 0.12 s"] = retime(dense, FPS, 0.12), seconds
    return answers


def shifted_passes(model, processor, clip: Clip, passes: int) -> torch.Tensor:
    """Each a clip of its own at one step a second, which begins a part of a second later."""
    logits = []
    for number in range(passes):
        pictures = clip.pictures[number * FPS // passes :: FPS]
        sound = clip.sound[number * SAMPLING_RATE // passes :]
        inputs = processor(
            text=clip.expressions, frames=pictures, audio=sound, sampling_rate=SAMPLING_RATE
        )
        logits.append(model(**inputs).mask_logits)
    return torch.stack(logits, dim=2).flatten(
        1, 2
    )  # (E, seconds, passes, h, w) -> (E, seconds * passes, h, w)


def of_one_memory(model, processor, clip: Clip, own_sound: bool) -> torch.Tensor:
    """Every picture is a step of its own after the seconds before; only whole seconds are
    remembered."""
    logits, memory, num_expressions = [], None, len(clip.expressions)
    for second in range(SECONDS):
        begins = [
            second * SAMPLING_RATE + own_sound * number * SAMPLING_RATE // FPS
            for number in range(FPS)
        ]
        inputs = processor(
            text=[clip.expressions] * FPS,
            frames=[[picture] for picture in clip.pictures[second * FPS : (second + 1) * FPS]],
            audio=[clip.sound[begin : begin + SAMPLING_RATE] for begin in begins],
            sampling_rate=SAMPLING_RATE,
        )
        before = memory and memory.map(lambda rows: rows.repeat(FPS, *[1] * (rows.dim() - 1)))
        outputs = model(**inputs, memory=before)
        memory = outputs.memory.map(lambda rows: rows[:num_expressions])
        logits.append(
            outputs.mask_logits[:, 0].unflatten(0, (FPS, num_expressions)).transpose(0, 1)
        )
    return torch.cat(logits, dim=1)


def cues_of_the_second(model, processor, clip: Clip, rate: int) -> torch.Tensor:
    """What `refavs segment --fps` does."""
    logits, memory = [], None
    tokens = dict(processor(text=clip.expressions))
    for second in range(SECONDS):
        numbers = [(second * rate + index) * FPS // rate for index in range(rate)]
        sound = clip.sound[second * SAMPLING_RATE : (second + 1) * SAMPLING_RATE]
        inputs = processor(
            frames=[clip.pictures[n] for n in numbers], audio=sound, sampling_rate=SAMPLING_RATE
        )
        features = model.encode_clips(**inputs)
        outputs = decode_with_cues(model, features, features, tokens, memory)
        memory = outputs.memory
        logits.append(outputs.mask_logits)
    return torch.cat(logits, dim=1)


def retime(logits: torch.Tensor, rate: int, smoothing: float | None) -> torch.Tensor:
    """Answers to pictures; `smoothing` None holds each answer."""
    num_answers = logits.shape[1]
    if smoothing is None:
        return logits[:, torch.arange(SECONDS * FPS) * rate // FPS]
    timeline = Timeline(FPS, rate, smoothing)
    pictures = [timeline.frames_of(number, num_answers) for number in range(SECONDS * FPS)]
    return torch.stack(
        [torch.einsum("erhw,r->ehw", logits[:, i], torch.tensor(w).float()) for i, w in pictures],
        dim=1,
    )


def score(logits: torch.Tensor, truth: np.ndarray) -> tuple[float, float]:
    """J and flicker, over the sentences that mean something."""
    meant = truth.any(axis=(1, 2, 3))
    truth = truth[meant]
    masks = np.stack(
        [(interpolate(rows[None], SIZE, mode="bilinear")[0] > 0).numpy() for rows in logits[meant]]
    )
    jaccard = (masks & truth).sum(axis=(2, 3)) / (masks | truth).sum(axis=(2, 3))
    return float(jaccard.mean()), change_of(masks, truth)


def change_of(masks: np.ndarray, truth: np.ndarray | None = None) -> float:
    """Pixels that change from picture to picture, and not in the truth, by the object's mean
    area."""
    changed = masks[:, 1:] ^ masks[:, :-1]
    area = (masks if truth is None else truth).sum(axis=(2, 3)).mean(axis=1)
    if truth is not None:
        changed &= ~(truth[:, 1:] ^ truth[:, :-1])
    return float((changed.sum(axis=(2, 3)).mean(axis=1) / area).mean())


def _timed(way: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float]:
    begin = time.process_time()
    return way(), time.process_time() - begin


if __name__ == "__main__":
    main()
