"""What a model sees and hears in a video, in its own encoders' words: sentences to try, and what an
answer of nothing was nearest to."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from modeling_refavs.feature_extraction_refavs import SAMPLING_RATE
from modeling_refavs.grounding_refavs import mean_token, normalise, pool_under_masks
from modeling_refavs.modeling_outputs_refavs import RefAVSClipFeatures
from modeling_refavs.video_refavs import Step, VideoInfo, read_steps


# What may be seen to make a sound, and sounds that tell of it, of AudioSet's classes.
SOUNDS = {
    "person": "speech;conversation;singing;laughter;shout;whistling;child speech;baby cry",
    "animal": "animal;dog;bark;cat;meow;horse;neigh;cattle;moo;pig;oink;sheep;goat;bleat;roar;howl;"
    "frog;croak;bird;chirp;crow;pigeon;owl;goose;honk;duck;quack;turkey;fowl;chicken;crowing;bee",
    "instrument": "musical instrument;guitar;banjo;piano;organ;drum;cymbal;violin;cello;flute;"
    "saxophone;trumpet;harp;accordion;bell;xylophone",
    "vehicle": "vehicle;car;truck;fire engine;motorcycle;train;train whistle;aircraft;helicopter;"
    "motorboat;siren",
    "machine": "engine;vacuum cleaner;chainsaw;drill;lawn mower;printer;clock;tick;telephone",
}
SOUNDING = "The {} that is making a sound"
STEPS = 6  # of a video that are looked at and listened to, evenly spaced
SEEN, MOST_SEEN = 0.02, 3  # of the frames, by the classifier; how many things are named
FAINTEST = 0.01  # of full scale, the peak of a second that is listened to
HEARD = 0.4  # correlation of a sound with a name


@dataclass(frozen=True)
class Likeness:
    """What the classifier of frames takes a part of one for.

    Args:
        name: of its class.
        probability: of that.
    """

    name: str
    probability: float


def has_vocabulary(model: Any) -> bool:
    """Whether the model holds a classifier of frames whose classes have names."""
    naming = getattr(model.base_model, "naming", None)
    return naming is not None and len(_class_names(model)) == naming.classifier.out_features


def _class_names(model: Any) -> list[str]:
    return [name for _, name in sorted(model.config.vision_config.id2label.items())]


@torch.inference_mode()
def suggest(model: Any, processor: Any, info: VideoInfo) -> list[str]:
    """Sentences on what is seen and heard, the most probable first; what is heard comes last.

    Args:
        model, processor: see [`segment_video`].
        info: of the video.
    """
    steps = list(read_steps(info, SAMPLING_RATE))
    steps = [steps[place] for place in sorted({n * len(steps) // STEPS for n in range(STEPS)})]
    loud = [step.audio is not None and np.abs(step.audio).max() > FAINTEST for step in steps]
    if not has_vocabulary(model):
        return [SOUNDING.format("object")] if any(loud) else []
    features = _encode(model, processor, steps)
    said = [f"The {name}" for name in _things_seen(model, features.frame_features)]
    if any(loud):
        thing = _thing_heard(model, processor, features.audio_features[:, loud])
        said.append(SOUNDING.format(thing or "thing"))
    return said


def _encode(model: Any, processor: Any, steps: Sequence[Step]) -> RefAVSClipFeatures:
    """Features of frames and sound, without the pixel decoder."""
    has_sound = steps[0].audio is not None
    inputs = processor(
        frames=[processor.resize_frames([step.frame])[0] for step in steps],
        audio=np.concatenate([step.audio for step in steps]) if has_sound else None,
        sampling_rate=SAMPLING_RATE,
        device=model.device,
    )
    return model.encode_clips(**inputs.to(dtype=model.dtype), decode=False)


def _things_seen(model: Any, frame_features: torch.Tensor) -> list[str]:
    """By the share of all places that the classifier takes for each class."""
    parts, names = model.base_model, _class_names(model)
    places = parts.cue_projection.pool_frames(frame_features)  # (1, steps, places, C)
    shares = parts.naming.classifier(places).softmax(-1).mean((0, 1, 2))
    best = zip(*(found.tolist() for found in shares.topk(MOST_SEEN)), strict=True)
    return [names[index] for share, index in best if share > SEEN]


def _thing_heard(model: Any, processor: Any, audio_features: torch.Tensor) -> str | None:
    """Sounds and names share one space: the thing whose sounds have the nearest names, if any is
    near."""
    parts = model.base_model
    heard = parts.cue_projection.project_audio(audio_features).flatten(0, 2)  # (steps, D)
    likeness = normalise(heard) @ normalise(_names_of_sounds(parts, processor)).T
    best = likeness.amax(0).max(0)
    if best.values < HEARD * heard.shape[-1]:
        return None
    return [thing for thing, sounds in SOUNDS.items() for _ in sounds.split(";")][best.indices]


@cache
def _names_of_sounds(parts: Any, processor: Any) -> torch.Tensor:
    """`(sounds, D)`: the mean F'_T of each sound of [`SOUNDS`]."""
    tokens = processor.tokenize(";".join(SOUNDS.values()).split(";"))
    ids, mask = (
        torch.as_tensor(tokens[key], device=parts.device) for key in ("input_ids", "attention_mask")
    )
    texts, mask = parts.encode_text(ids, mask)
    return mean_token(parts.cue_projection.project_text(texts), mask)


@torch.inference_mode()
def liken(model: Any, processor: Any, frame: np.ndarray, mask_logits: torch.Tensor) -> Likeness:
    """What the classifier takes the likeliest part of a frame for.

    Args:
        model, processor: see [`segment_video`]; [`has_vocabulary`].
        frame: `(height, width, 3)` uint8.
        mask_logits: `(h, w)`; the part is the likeliest hundredth at least.
    """
    parts = model.base_model
    inputs = processor(frames=[processor.resize_frames([frame])[0]], device=model.device)
    frames = model.encode_clips(**inputs.to(dtype=model.dtype), decode=False).frame_features
    places = parts.cue_projection.pool_frames(frames)[0]  # (1, places, C)
    logits = mask_logits - mask_logits.flatten().quantile(0.99).clamp(max=0)
    shown = pool_under_masks(logits[None, None].to(places), places)
    found = parts.naming.classifier(shown).softmax(-1).flatten().max(0)
    return Likeness(_class_names(model)[int(found.indices)], float(found.values))
