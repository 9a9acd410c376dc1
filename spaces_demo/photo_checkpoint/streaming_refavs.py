"""RefAVSStream: a video or a live source, one second at a time, in constant memory.

EEMC looks only back, and all that it keeps of the past are means (Eq. 3): second after second gives
what the whole clip gives. With an object head it also keeps the objects of ten seconds and the
first sound, and answers each second as a call that ends there: without what comes after.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, repeat
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .clip_head_refavs import CLAIMED, REMEMBERED
from .eemc import RefAVSMemory
from .feature_extraction_refavs import SAMPLING_RATE, prepare_waveform
from .modeling_outputs_refavs import RefAVSSegmentationOutput, RefAVSStreamOutput, mask_scores
from .object_head_refavs import TRACKED
from .video_refavs import to_rgb


STATE_FORMAT = "refavs stream 3"


class RefAVSStream:
    """Asks sentences of a stream, one second after the other.

    Sentences may come and go while it runs. A new one starts with an empty memory, as if the clip
    began there: what was seen and heard before is not known to it, since the memory is of a
    sentence's own cues. The others do not notice.

    Args:
        model, processor: [`RefAVSForSegmentation`] and [`RefAVSProcessor`].
        expressions: sentences to begin with; none is allowed.
        threshold: a pixel is of the object if its probability is above this.

    Raises:
        ValueError: another kind of model, or sound examples that do not keep step with the seconds.

    Example:
        stream = RefAVSStream(model, processor, ["the dog that is barking"])
        for frame, second in source:  # (height, width, 3) uint8; 16,000 samples
            masks = stream.step(frame, second).masks
    """

    def __init__(
        self, model: Any, processor: Any, expressions: Sequence[str] = (), threshold: float = 0.5
    ):
        if model.config.model_type != "refavs":
            raise ValueError(
                f"a stream needs a model of type refavs, got {model.config.model_type}: the "
                "released one sees whole clips"
            )
        if getattr(processor.feature_extractor, "mode", "aligned") != "aligned":
            raise ValueError(
                "a stream needs a feature extractor with mode='aligned', which gives one example a "
                "second"
            )
        if isinstance(expressions, str):
            raise ValueError(
                f"expressions must be a list of sentences, got the string {expressions!r}"
            )
        self.model, self.processor, self.threshold = model, processor, threshold
        self.num_steps = 0
        self._expressions: list[str] = []
        self._memory: RefAVSMemory | None = None
        self._text: dict[str, torch.Tensor] = {}
        for expression in expressions:
            self.add(expression)

    @property
    def expressions(self) -> tuple[str, ...]:
        return tuple(self._expressions)

    def add(self, expression: str) -> None:
        """Ask one more sentence from the next step on, with an empty memory.

        Raises:
            ValueError: it is empty, or asked already.
        """
        if expression in self._expressions:
            raise ValueError(f"this sentence is asked already: {expression!r}")
        self._encode_text([*self._expressions, expression])
        self._expressions.append(expression)
        self._memory = self._memory and self._memory.map(
            lambda rows: torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
        )

    def remove(self, expression: str) -> None:
        """Ask a sentence no more, and forget what it remembered.

        Raises:
            ValueError: it is not asked.
        """
        if expression not in self._expressions:
            raise ValueError(
                f"this sentence is not asked: {expression!r}; these are: {self._expressions}"
            )
        kept = [index for index, other in enumerate(self._expressions) if other != expression]
        self._expressions.remove(expression)
        self._encode_text(self._expressions)
        self._memory = self._memory and self._memory.map(lambda rows: rows[kept])

    def step(
        self, frame: Any, audio_second: np.ndarray | None = None, sampling_rate: int = SAMPLING_RATE
    ) -> RefAVSStreamOutput:
        """The next second, with masks of the frame's size.

        Args:
            frame, audio_second, sampling_rate: see `segment`.

        Raises:
            ValueError: more than a second of sound, or what the processor refuses.
        """
        rgb = to_rgb(frame)
        outputs, size = self.segment(rgb, audio_second, sampling_rate), rgb.shape[:2]
        masks = self.processor.post_process_masks(outputs, size, self.threshold)
        mask_logits, iou_scores = outputs.mask_logits[:, 0], outputs.iou_scores
        mask_logits = mask_logits.to("cpu", torch.promote_types(mask_logits.dtype, torch.float32))
        return RefAVSStreamOutput(
            step=self.num_steps - 1,
            expressions=self.expressions,
            masks=np.concatenate([np.zeros((0, *size), dtype=bool), *masks]),
            presence=outputs.presence_logits[:, 0].float().sigmoid().cpu().numpy(),
            scores=mask_scores(mask_logits, self.threshold).float().numpy(),
            mask_logits=mask_logits,
            iou_scores=None if iou_scores is None else iou_scores[:, 0].float().cpu().numpy(),
        )

    @torch.no_grad()
    def segment(
        self, frame: Any, audio_second: np.ndarray | None = None, sampling_rate: int = SAMPLING_RATE
    ) -> RefAVSSegmentationOutput:
        """The next second, at the model's resolution.

        Args:
            frame: on display at its start: `(height, width, 3)` uint8, or what else
                [`RefAVSProcessor`] takes.
            audio_second: its sound, `(samples,)`, `(channels, samples)` or `(samples, channels)`,
                at most 1 s; None or fewer samples where there is none.
            sampling_rate: of the sound, Hz. Any but 16 kHz is resampled second by second, which
                differs a little at the seams from a whole clip resampled at once.

        Returns:
            What the model says, `(expressions, 1, ...)`.

        Raises:
            ValueError: more than a second of sound, or what the processor refuses.
        """
        rgb = to_rgb(frame)
        if audio_second is not None and max(np.shape(audio_second), default=0) > sampling_rate:
            raise ValueError(
                f"a step is one second: at most {sampling_rate} samples, got "
                f"{max(np.shape(audio_second))}: call step() for each"
            )
        if self._expressions:
            device = self.model.device
            inputs = self.processor(
                frames=[rgb], audio=audio_second, sampling_rate=sampling_rate, device=device
            )
            clip_index = torch.zeros(len(self._expressions), dtype=torch.long, device=device)
            inputs = {**inputs.to(dtype=self.model.dtype), **self._text, "clip_index": clip_index}
            outputs = self.model(**inputs, memory=self._memory)
            self._memory = outputs.memory
        else:
            outputs = RefAVSSegmentationOutput(
                mask_logits=torch.zeros(0, 1, 1, 1), presence_logits=torch.zeros(0, 1)
            )
        self.num_steps += 1
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """All that a stream knows of the past: `expressions`, `num_steps` and the tensors of
        `memory` by name."""
        tensors = self._memory.to_dict() if self._memory else {}
        return {
            "expressions": list(self._expressions),
            "num_steps": self.num_steps,
            "memory": tensors,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another stream of the same model was.

        Raises:
            ValueError: the state is of a model of other sizes, or cannot be of a stream.
        """
        expressions, tensors = list(state["expressions"]), state["memory"]
        for name, tensor in tensors.items():
            expected = self._expected_shape(name, len(expressions))
            if tuple(tensor.shape) != expected:
                raise ValueError(
                    f"the state is of another model: {name} is {tuple(tensor.shape)}, not "
                    f"{expected}"
                )
        self._encode_text(expressions)
        memory = RefAVSMemory.from_dict(tensors)
        self._memory = memory and memory.map(lambda rows: rows.to(self.model.device))
        self._expressions, self.num_steps = expressions, int(state["num_steps"])

    def save(self, path: str | Path) -> None:
        """Write the state as one safetensors file, which takes its name when it is complete."""
        state, path = self.state_dict(), Path(path)
        facts = {"format": STATE_FORMAT, "expressions": json.dumps(state["expressions"])}
        unfinished = path.with_name(f".{uuid4().hex}{path.suffix}")
        try:
            unfinished.write_bytes(
                save(state["memory"], {**facts, "num_steps": str(state["num_steps"])})
            )
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)

    def restore(self, path: str | Path) -> None:
        """Go on where the stream was that wrote this file.

        Raises:
            ValueError: the file is none of [`RefAVSStream.save`], or of a model of other sizes.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file, or damaged: {error}") from error
        if facts.get("format") != STATE_FORMAT:
            raise ValueError(f"{path}: not the state of a stream: RefAVSStream.save writes one")
        expressions = json.loads(facts["expressions"])
        self.load_state_dict(
            {"expressions": expressions, "num_steps": int(facts["num_steps"]), "memory": tensors}
        )

    def _expected_shape(self, name: str, num_rows: int) -> tuple[int | None, ...]:
        config = self.model.config
        return {
            "audio.total": (num_rows, 1, config.hidden_size),
            "visual.total": (num_rows, config.visual_grid_size**2, config.hidden_size),
            "objects.tracks": (
                num_rows,
                config.mask2former_config.num_queries,
                config.hidden_size + TRACKED,
            ),
            "objects.claims": (
                num_rows,
                REMEMBERED,
                config.mask2former_config.num_queries,
                config.hidden_size + CLAIMED,
            ),
            "objects.heard": (
                num_rows,
                2,
                config.hidden_size + config.grounding_config.vocabulary_size + 1,
            ),
        }.get(name, (num_rows,))

    @torch.no_grad()
    def _encode_text(self, expressions: list[str]) -> None:
        """The text encoder runs when sentences change, not every second."""
        self._text = {}
        if expressions:
            self._text = dict(self.processor(text=expressions, device=self.model.device))
            encoder = self.model.base_model.text_encoder
            if encoder is not None:
                tokens, mask = self._text.pop("input_ids"), self._text["attention_mask"]
                self._text["text_features"] = encoder(tokens, attention_mask=mask).last_hidden_state


def pair_steps(
    frames: Iterable, audio: Any = None, sampling_rate: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Frames, one a second, and their sound, as [`RefAVSProcessor`] takes both, to steps: each
    frame `(height, width, 3)` uint8 and its second of sound at 16 kHz; None where there is none at
    all."""
    seconds: Iterator = repeat(None)
    if audio is not None:
        waveform = prepare_waveform(audio, sampling_rate)
        seconds = (waveform[begin : begin + SAMPLING_RATE] for begin in count(step=SAMPLING_RATE))
    return zip(map(to_rgb, frames), seconds, strict=False)


__all__ = ["RefAVSStream", "RefAVSStreamOutput", "mask_scores", "pair_steps"]
