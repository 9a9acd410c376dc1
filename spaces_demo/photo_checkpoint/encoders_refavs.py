"""The encoders of Sec. 4.2, of any architecture: what each must give, and how it is made.

| part | what | gives |
|---|---|---|
| vision | anything that `AutoBackbone` makes | four maps, the last of them is F_V |
| text | anything that `AutoModelForTextEncoding` makes | `last_hidden_state`, F_T |
| sound | VGGish, YAMNet, or any audio model of transformers | one vector for each second, F_A |
"""

import contextlib
import inspect
import re
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel

from .modeling_vggish import RefAVSVggishModel


# What FSDP, checkpointing and `torch.compile` put into the name of a module that they wrap.
WRAPPER = re.compile(r"\._(fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)(?=\.|$)")


def text_config_of(config: PreTrainedConfig) -> PreTrainedConfig:
    """Of a model of several modalities, such as CLIP, the text's part."""
    return getattr(config, "text_config", config)


def audio_config_of(config: PreTrainedConfig) -> PreTrainedConfig:
    """Of a model of several modalities, such as CLAP, the sound's part."""
    return getattr(config, "audio_config", config)


def text_encoder_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Raises:
    ValueError: no text encoder is of this type.
    """
    kind = AutoModelForTextEncoding._model_mapping.get(type(config), None)
    if kind is None:
        raise ValueError(
            f"text_config is of type {config.model_type}, which AutoModelForTextEncoding does not "
            "know: RoBERTa, BERT, T5 and CLIP's text model are some that it does"
        )
    return kind


def make_text_encoder(config: PreTrainedConfig, folder: str | None = None) -> PreTrainedModel:
    """With no layer above `last_hidden_state`.

    Args:
        folder: or Hub id, where its weights are; None: they are drawn at random.
    """
    kind = text_encoder_class(config)
    has_pooler = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    options = {"add_pooling_layer": False} if has_pooler else {}
    if folder is None:
        return kind._from_config(config, **options)
    return kind.from_pretrained(folder, config=config, **options)


def audio_encoder_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Raises:
    ValueError: no audio encoder is of this type.
    """
    if config.model_type == "refavs_vggish":
        return RefAVSVggishModel
    if config.model_type == "clap_audio_model":  # which AutoModel knows only as a part of CLAP
        from transformers import ClapAudioModel

        return ClapAudioModel
    if config.model_type == "whisper":  # AutoModel would take the decoder along
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        return WhisperEncoder
    kind = AutoModel._model_mapping.get(type(config), None)
    if kind is None:
        raise ValueError(
            f"audio_config is of type {config.model_type}, which AutoModel does not know: VGGish, "
            "YAMNet, AST, CLAP's audio model and Whisper are some that work"
        )
    return kind


def audio_size(config: PreTrainedConfig) -> int:
    """Length of the vector that stands for one second of sound."""
    return getattr(config, "embedding_size", None) or config.hidden_size


def encode_seconds(encoder: PreTrainedModel, input_features: torch.Tensor) -> torch.Tensor:
    """F_A: each second alone, so that a stream hears what a whole clip does.

    Args:
        input_features: `(clips, steps, ...)`, what the feature extractor made of each second.

    Returns:
        `(clips, steps, D)`: the encoder's `pooler_output` or else the mean of its
        `last_hidden_state`.
    """
    leading = input_features.shape[:2]
    outputs = encoder(input_features.flatten(0, 1))
    vectors = getattr(outputs, "pooler_output", None)
    if vectors is None:
        vectors = outputs.last_hidden_state
        if vectors.dim() == 3:  # (N, tokens, D)
            vectors = vectors.mean(dim=1)
    return vectors.unflatten(0, leading)


class RefAVSEncodersMixin:
    """What is done with the encoders inside of a model: freezing them; and with the embeddings of
    frames and of words what transformers does with those of a language model."""

    _resting = _frozen = frozenset()

    def _freeze(self, modules: set[str], parameters: set[str]) -> None:
        """Modules, by name, stay in eval mode and parameters without gradient, whenever `train` or
        `eval` is called. By name, since `from_pretrained` replaces parameters and makes them
        trainable; what is put into an encoder later, such as LoRA's adapters, is none of them."""
        self._resting, self._frozen = modules, parameters
        self.train()

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        for name, module in self.named_modules():
            if WRAPPER.sub("", name) in self._resting:
                module.training = False
        for name, parameter in self.named_parameters():
            if WRAPPER.sub("", name) in self._frozen:
                parameter.requires_grad_(False)
        return self

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        """Of the text encoder; see `PreTrainedModel`."""
        encoder = self.base_model.text_encoder
        if encoder is None:
            raise ValueError("there is no text encoder here whose vocabulary could be resized")
        return encoder.resize_token_embeddings(*args, **kwargs)

    def enable_input_require_grads(self) -> None:
        """As `PreTrainedModel` does it, with embeddings too that give a tuple, such as Swin's."""

        def require_grads(module: nn.Module, inputs: tuple, output) -> None:
            for value in output if isinstance(output, tuple) else (output,):
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    value.requires_grad_(True)

        embeddings = []
        for part in self.modules():
            if isinstance(part, PreTrainedModel):
                with contextlib.suppress(NotImplementedError):  # it has none, as VGGish
                    embeddings.append(part.get_input_embeddings())
        self._require_grads_hooks = [
            module.register_forward_hook(require_grads) for module in dict.fromkeys(embeddings)
        ]
        self._require_grads_hook = self._require_grads_hooks[0]


def frozen_names(model: PreTrainedModel) -> tuple[set[str], set[str]]:
    """Of [`RefAVSModel`] the modules of frozen encoders, and all parameters that its config
    freezes."""
    config, level = model.config, "mask2former.pixel_level_module."
    candidates = [
        (config.freeze_vision_encoder, f"{level}encoder."),
        (config.freeze_text_encoder, "text_encoder."),
        (config.freeze_audio_encoder, "audio_encoder."),
    ]
    encoders = tuple(prefix for frozen, prefix in candidates if frozen)
    modules = {name for name, _ in model.named_modules() if f"{name}.".startswith(encoders)}
    whole = encoders + ((f"{level}decoder.",) if config.freeze_pixel_decoder else ())
    whole += ("naming.",)
    whole += ("cue_projection.",) if config.freeze_cue_projection else ()
    decoders = (f"{level}decoder.", "mask2former.transformer_module.")
    parameters = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(whole)
        or (config.freeze_mask_decoder and name.startswith(decoders) and "adapter." not in name)
    }
    return modules, parameters


class RefAVSSimplePyramid(nn.Module):
    """Four maps of one stride, as a plain vision transformer gives them, to four strides: a quarter
    of its own, half, its own and twice (ViTDet, arXiv 2203.16527, Sec. 3). It is learned with the
    decoder, and the encoder may be frozen."""

    def __init__(self, channels: int):
        super().__init__()

        def larger() -> nn.Module:
            return nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2)

        self.scales = nn.ModuleList(
            [
                nn.Sequential(larger(), nn.GroupNorm(1, channels), nn.GELU(), larger()),
                larger(),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=True),
            ]
        )

    @staticmethod
    def is_needed(channels: list[int]) -> bool:
        """A pyramid has more channels where it is coarser; a plain transformer has as many
        everywhere."""
        return len(set(channels)) == 1

    def forward(self, stages: list[torch.Tensor]) -> list[torch.Tensor]:
        """`(frames, C, h, w)` four times -> the same of sizes 4h, 2h, h, h/2."""
        return [scale(stage) for scale, stage in zip(self.scales, stages, strict=True)]


__all__ = [
    "RefAVSEncodersMixin",
    "RefAVSSimplePyramid",
    "audio_config_of",
    "audio_encoder_class",
    "audio_size",
    "encode_seconds",
    "frozen_names",
    "make_text_encoder",
    "text_config_of",
    "text_encoder_class",
]
