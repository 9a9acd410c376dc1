"""What is timed: each is made once from a model, and then run as often as asked.

Frames, sound and words are noise: what they are changes nothing of the cost.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn
from transformers.utils import is_torchvision_available

from .. import deformable_attention
from ..configuration_refavs import RefAVSConfig
from ..configuration_refavs_released import RefAVSReleasedConfig
from ..feature_extraction_refavs import SAMPLING_RATE, RefAVSFeatureExtractor
from ..inference.cuda_graphs import record_graphs
from ..inference.loading import compile_layers, quantize
from ..modeling_refavs import RefAVSForSegmentation
from ..modeling_refavs_released import RefAVSReleasedForSegmentation
from ..processing_refavs import RefAVSProcessor
from ..streaming_refavs import RefAVSStream
from ..training.train import make_tokenizer


if is_torchvision_available():  # as `from_pretrained` chooses
    from transformers import ViTImageProcessor as ImageProcessor
else:
    from transformers import ViTImageProcessorPil as ImageProcessor


TEXT_LENGTH = 25  # tokens
SENTENCE = "the first object to make a sound"
VIDEO_SIZE = (720, 1280)  # height and width of the frames that are made ready
Run = Callable[[], object]


class Workload:
    """
    Args:
        model: of [`make_model`].
        frames, size: of the clip; height and width in pixels.
        sentences: asked of it.
    """

    def __init__(self, model: nn.Module, frames: int, sentences: int, size: int):
        self.model, self.frames, self.sentences, self.size = model, frames, sentences, size
        self.device = next(model.parameters()).device
        self.is_released = isinstance(model, RefAVSReleasedForSegmentation)

    def inputs(self, sentences: int) -> dict[str, torch.Tensor]:
        """One clip and some sentences."""
        config, noise = self.model.config, partial(torch.randn, device=self.device)
        clip = {"pixel_values": noise(1, self.frames, 3, self.size, self.size)}
        if self.is_released:
            clip["audio_features"] = noise(1, self.frames, config.audio_feature_size)
            return {
                **clip,
                "text_features": noise(sentences, config.text_length, config.text_feature_size),
            }
        audio = config.audio_config
        clip["input_features"] = noise(1, self.frames, audio.num_mel_frames, audio.num_mel_bands)
        clip = {name: value.to(self.model.dtype) for name, value in clip.items()}
        words = torch.randint(
            4, config.text_config.vocab_size, (sentences, TEXT_LENGTH), device=self.device
        )
        return {
            **clip,
            "input_ids": words,
            "clip_index": torch.zeros(sentences, dtype=torch.long, device=self.device),
        }

    def one(self) -> Run:
        """A clip and a sentence to masks."""
        return self._ask(1)

    def several(self) -> Run:
        """A clip and all its sentences; the released model goes through the clip anew for each."""
        return self._ask(self.sentences)

    def _ask(self, sentences: int) -> Run:
        if not self.is_released:
            inputs = self.inputs(sentences)
            return torch.no_grad()(lambda: self.model(**inputs))
        inputs = self.inputs(1)

        @torch.no_grad()
        def one_after_the_other() -> None:
            for _ in range(sentences):
                self.model(**inputs)

        return one_after_the_other

    def clip(self) -> Run:
        """From a clip's decoded frames, of 720p, its sound and all sentences to masks of the
        frames' size."""
        processor = make_processor(self.model, self.size)
        random = np.random.default_rng(0)
        pictures = list(random.integers(0, 256, (self.frames, *VIDEO_SIZE, 3), dtype=np.uint8))
        sound = random.standard_normal(self.frames * SAMPLING_RATE).astype(np.float32) * 0.1
        sentences = [SENTENCE] * self.sentences

        @torch.inference_mode()
        def run() -> None:
            inputs = processor(sentences, pictures, sound, SAMPLING_RATE, device=self.device)
            outputs = self.model(**inputs.to(dtype=self.model.dtype))
            processor.post_process_masks(outputs, VIDEO_SIZE)

        return run

    def training(self) -> Run:
        """One step for all sentences of a clip: forward, backward and AdamW; of the released model
        for one sentence."""
        sentences = 1 if self.is_released else self.sentences
        inputs = self.inputs(sentences)
        masks = torch.zeros(sentences, self.frames, self.size, self.size, device=self.device)
        masks[..., : self.size // 2, : self.size // 2] = 1
        self.model.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(p for p in self.model.parameters() if p.requires_grad)

        def step() -> None:
            self.model(**inputs, mask_labels=masks).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    def live(self) -> Run:
        """One more second of a stream, from frame and sound to masks of the frame's size."""
        stream = RefAVSStream(self.model, make_processor(self.model, self.size), [SENTENCE])
        frame = np.random.default_rng(0).integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        second = np.random.default_rng(1).standard_normal(SAMPLING_RATE).astype(np.float32) * 0.1
        return lambda: stream.step(frame, second)


WORKLOADS = {
    name: getattr(Workload, name) for name in ("one", "several", "clip", "training", "live")
}
UNABLE = {
    "clip": ("released", "released_once"),
    "live": ("released", "released_once"),
    "training": ("graphs", "int8"),
}  # the released ones are given features and whole clips, the others cannot learn


def make_processor(model: nn.Module, size: int) -> RefAVSProcessor:
    return RefAVSProcessor(
        ImageProcessor(size={"height": size, "width": size}),
        RefAVSFeatureExtractor(),
        make_tokenizer([SENTENCE], model.config.text_config.vocab_size),
    )


Load = Callable[[], nn.Module]


def released(load: Load) -> nn.Module:
    """The released model as its code runs it: a pass of an unprompted Mask2Former before each of
    its own."""
    model = released_once(load)
    model.register_forward_pre_hook(_run_unprompted, with_kwargs=True)
    return model


def released_once(load: Load) -> nn.Module:
    """The released model as it runs here."""
    return RefAVSReleasedForSegmentation(RefAVSReleasedConfig()).eval()


def plain(load: Load) -> nn.Module:
    """EEMC with transformers' own deformable attention."""
    deformable_attention.choose_sampling = lambda device, dtype: None
    return load()


def eemc(load: Load) -> nn.Module:
    """EEMC as it comes."""
    return load()


def checkpointed(load: Load) -> nn.Module:
    """EEMC that computes the inside of layers again on the way back: for training in less
    memory."""
    model = load()
    model.gradient_checkpointing_enable()
    return model


def bf16(load: Load) -> nn.Module:
    return load().to(torch.bfloat16)


def graphs(load: Load) -> nn.Module:
    """EEMC in bf16, replayed: as a command runs it with `--dtype bf16` on CUDA."""
    model = bf16(load)
    record_graphs(model)
    return model


def int8(load: Load) -> nn.Module:
    return quantize(load())


def compiled(load: Load) -> nn.Module:
    model = load()
    compile_layers(model)
    return model


SETTINGS = {
    setting.__name__: setting
    for setting in (
        released,
        released_once,
        plain,
        eemc,
        checkpointed,
        bf16,
        graphs,
        int8,
        compiled,
    )
}


def make_model(setting: str, folder: str | None, device: str = "cpu") -> nn.Module:
    """With the weights of `folder`, or random ones at the paper's size."""

    def load() -> RefAVSForSegmentation:
        if folder is not None:
            return RefAVSForSegmentation.from_pretrained(folder).eval().requires_grad_(False)
        return RefAVSForSegmentation(RefAVSConfig()).eval().requires_grad_(False)

    torch.manual_seed(0)
    with torch.device(device):
        return SETTINGS[setting](load).to(device)


@torch.no_grad()
def _run_unprompted(
    model: RefAVSReleasedForSegmentation, args: tuple, inputs: dict[str, torch.Tensor]
) -> None:
    """From Mask2Former's own queries to masks and classes: the released code's first pass, of which
    it uses Swin's last stage alone."""
    frames = inputs["pixel_values"].flatten(0, 1)
    pixels = model.mask2former.pixel_level_module(frames)
    decoder = model.mask2former.transformer_module
    decoded = decoder(
        decoder.queries_features.weight.expand(len(frames), -1, -1),
        pixels.decoder_hidden_states,
        pixels.decoder_last_hidden_state,
    )
    for (
        queries
    ) in decoded.intermediate_hidden_states:  # the released code classifies after every layer
        model.class_predictor(queries)
