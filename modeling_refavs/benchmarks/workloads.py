"""What `refavs benchmark` times: the workloads, and the settings of the model that runs them.

A workload is made once from a model and then run repeatedly. Frames, sound and tokens are noise:
their content does not change the cost.
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
EXPRESSION = "the first object to make a sound"
VIDEO_SIZE = (720, 1280)  # height and width of the frames in `clip`

Run = Callable[[], object]
Load = Callable[[], nn.Module]


class Workload:
    """A clip and some expressions for a model; each of its methods returns what is timed.

    Args:
        model: see [`make_model`].
        num_frames, num_expressions: of the clip.
        size: height and width of a frame, pixels.
    """

    def __init__(self, model: nn.Module, num_frames: int, num_expressions: int, size: int):
        self.model, self.size = model, size
        self.num_frames, self.num_expressions = num_frames, num_expressions
        self.device = next(model.parameters()).device
        self.is_released = isinstance(model, RefAVSReleasedForSegmentation)

    def inputs(self, num_expressions: int) -> dict[str, torch.Tensor]:
        """The model's inputs for one clip and `num_expressions` expressions."""
        config, noise = self.model.config, partial(torch.randn, device=self.device)
        clip = {"pixel_values": noise(1, self.num_frames, 3, self.size, self.size)}
        if self.is_released:
            text_shape = (num_expressions, config.text_length, config.text_feature_size)
            clip["audio_features"] = noise(1, self.num_frames, config.audio_feature_size)
            return {**clip, "text_features": noise(*text_shape)}
        audio, vocab_size = config.audio_config, config.text_config.vocab_size
        mel_shape = (audio.num_mel_frames, audio.num_mel_bands)
        clip["input_features"] = noise(1, self.num_frames, *mel_shape)
        clip = {name: value.to(self.model.dtype) for name, value in clip.items()}
        tokens = (num_expressions, TEXT_LENGTH)
        return {
            **clip,
            "input_ids": torch.randint(4, vocab_size, tokens, device=self.device),
            "clip_index": torch.zeros(num_expressions, dtype=torch.long, device=self.device),
        }

    def one(self) -> Run:
        """A clip and one expression to masks."""
        return self._forward(1)

    def several(self) -> Run:
        """A clip and all its expressions to masks; the released model runs once for each."""
        return self._forward(self.num_expressions)

    def _forward(self, num_expressions: int) -> Run:
        if not self.is_released:
            inputs = self.inputs(num_expressions)
            return torch.no_grad()(lambda: self.model(**inputs))
        inputs = self.inputs(1)

        @torch.no_grad()
        def run() -> None:
            for _ in range(num_expressions):
                self.model(**inputs)

        return run

    def clip(self) -> Run:
        """Decoded 720p frames, sound and all expressions to masks of the frames' size."""
        processor = make_processor(self.model, self.size)
        random = np.random.default_rng(0)
        frames = list(random.integers(0, 256, (self.num_frames, *VIDEO_SIZE, 3), dtype=np.uint8))
        samples = self.num_frames * SAMPLING_RATE
        audio = random.standard_normal(samples).astype(np.float32) * 0.1
        expressions = [EXPRESSION] * self.num_expressions

        @torch.inference_mode()
        def run() -> None:
            inputs = processor(expressions, frames, audio, SAMPLING_RATE, device=self.device)
            outputs = self.model(**inputs.to(dtype=self.model.dtype))
            processor.post_process_masks(outputs, VIDEO_SIZE)

        return run

    def training(self) -> Run:
        """One step for all expressions of a clip: forward, backward and AdamW; the released model
        takes one expression."""
        num_expressions = 1 if self.is_released else self.num_expressions
        inputs = self.inputs(num_expressions)
        masks = torch.zeros(
            num_expressions, self.num_frames, self.size, self.size, device=self.device
        )
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
        stream = RefAVSStream(self.model, make_processor(self.model, self.size), [EXPRESSION])
        random = np.random.default_rng(0)
        frame = random.integers(0, 256, (self.size, self.size, 3), dtype=np.uint8)
        audio = random.standard_normal(SAMPLING_RATE).astype(np.float32) * 0.1
        return lambda: stream.step(frame, audio)


WORKLOADS = {
    name: getattr(Workload, name) for name in ("one", "several", "clip", "training", "live")
}
UNSUPPORTED = {  # workload -> settings that cannot run it
    "clip": ("released", "released_once"),  # they take features
    "live": ("released", "released_once"),  # they take whole clips
    "training": ("graphs", "int8"),  # they have no gradient
}


def make_processor(model: nn.Module, size: int) -> RefAVSProcessor:
    """A processor with frames of `size` and a tokenizer of the model's vocabulary size."""
    return RefAVSProcessor(
        ImageProcessor(size={"height": size, "width": size}),
        RefAVSFeatureExtractor(),
        make_tokenizer([EXPRESSION], model.config.text_config.vocab_size),
    )


@torch.no_grad()
def _run_unprompted(
    model: RefAVSReleasedForSegmentation, args: tuple, inputs: dict[str, torch.Tensor]
) -> None:
    """Run Mask2Former from its own queries to masks and classes: the released code's first pass,
    from which it uses only Swin's last stage."""
    frames = inputs["pixel_values"].flatten(0, 1)
    pixels = model.mask2former.pixel_level_module(frames)
    decoder = model.mask2former.transformer_module
    decoded = decoder(
        decoder.queries_features.weight.expand(len(frames), -1, -1),
        pixels.decoder_hidden_states,
        pixels.decoder_last_hidden_state,
    )
    # The released code classifies after every layer.
    for queries in decoded.intermediate_hidden_states:
        model.class_predictor(queries)


def released(load: Load) -> nn.Module:
    """The released model as its code runs it: a pass of an unprompted Mask2Former before each
    prompted one."""
    model = released_once(load)
    model.register_forward_pre_hook(_run_unprompted, with_kwargs=True)
    return model


def released_once(load: Load) -> nn.Module:
    """The released model without the unprompted pass, as this package runs it."""
    return RefAVSReleasedForSegmentation(RefAVSReleasedConfig()).eval()


def plain(load: Load) -> nn.Module:
    """EEMC with transformers' own deformable attention."""
    deformable_attention.choose_sampling = lambda device, dtype: None
    return load()


def eemc(load: Load) -> nn.Module:
    """EEMC with the deformable attention that is chosen for its device."""
    return load()


def checkpointed(load: Load) -> nn.Module:
    """EEMC with gradient checkpointing, for training in less memory."""
    model = load()
    model.gradient_checkpointing_enable()
    return model


def bf16(load: Load) -> nn.Module:
    """EEMC in bf16."""
    return load().to(torch.bfloat16)


def graphs(load: Load) -> nn.Module:
    """EEMC in bf16 with CUDA graphs, as a command runs it with `--dtype bf16` on CUDA."""
    model = bf16(load)
    record_graphs(model)
    return model


def int8(load: Load) -> nn.Module:
    """EEMC quantized to int8."""
    return quantize(load())


def compiled(load: Load) -> nn.Module:
    """EEMC with compiled layers."""
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
    """Make the model of a setting.

    Args:
        setting: name out of `SETTINGS`.
        folder: of saved weights; None: random ones at the paper's size.
        device: where it is made.
    """

    def load() -> RefAVSForSegmentation:
        if folder is not None:
            return RefAVSForSegmentation.from_pretrained(folder).eval().requires_grad_(False)
        return RefAVSForSegmentation(RefAVSConfig()).eval().requires_grad_(False)

    torch.manual_seed(0)
    with torch.device(device):
        return SETTINGS[setting](load).to(device)
