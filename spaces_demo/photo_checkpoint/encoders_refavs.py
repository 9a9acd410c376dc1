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
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForTextEncoding, PreTrainedConfig, PreTrainedModel

from .modeling_vggish import RefAVSVggishModel


PIXELS_AT_ONCE = 2 * 384**2  # of frames, see [`frames_at_once`]

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


def encode_frames(encoder: PreTrainedModel, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """`(frames, 3, H, W)` -> the backbone's four stages, `(frames, C, h, w)` each."""
    split = frames.split(frames_at_once(frames, PIXELS_AT_ONCE))
    parts = [encoder(part).feature_maps for part in split]
    return tuple(map(join_parts, zip(*parts, strict=True)))


def frames_at_once(maps: torch.Tensor, places: int) -> int:
    """How many maps pass through a part at a time: on a CPU as many as have so many places, at
    least one, so that its caches hold what one layer hands to the next; elsewhere all."""
    return max(
        1, places // (maps.shape[-1] * maps.shape[-2]) if maps.device.type == "cpu" else len(maps)
    )


def join_parts(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class RefAVSEncodersMixin:
    """What is done with the encoders inside of a model: running and freezing them; and with the
    embeddings of frames and of words what transformers does with those of a language model.

    Encoders are `vision_encoder`, `text_encoder` and `audio_encoder`; the last two may be None
    where the configuration's `use_text_cues` and `use_audio_cues` are off."""

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

    def _encode_frames(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The four stages of the vision encoder, `(clips, frames, C, h, w)` each."""
        if pixel_values.dim() != 5:
            raise ValueError(
                "pixel_values must be (clips, frames, 3, height, width), got "
                f"{tuple(pixel_values.shape)}"
            )
        stages = encode_frames(self.vision_encoder, pixel_values.flatten(0, 1))
        return tuple(stage.unflatten(0, pixel_values.shape[:2]) for stage in stages)

    def _encode_audio(
        self,
        steps: torch.Size,
        input_features: torch.Tensor | None,
        input_features_mask: torch.Tensor | None,
        audio_features: torch.Tensor | None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """F_A and which steps have sound; a model without audio has neither, a clip without
        sound has no such step."""
        if not self.config.use_audio_cues:
            return None, None
        if audio_features is None and input_features is None:
            size = audio_size(self.config.audio_config)
            silence = torch.zeros(*steps, size, device=self.device, dtype=self.dtype)
            return silence, torch.zeros(steps, dtype=torch.bool, device=self.device)
        audio_features = (
            encode_seconds(self.audio_encoder, input_features)
            if audio_features is None
            else audio_features
        )
        if audio_features.shape[:2] != steps:
            raise ValueError(
                f"each frame needs one second of sound: got {tuple(steps)} (clips, frames) "
                f"and {tuple(audio_features.shape[:2])} (clips, log-mel examples)"
            )
        return (
            audio_features,
            None if input_features_mask is None else input_features_mask.bool().any(dim=-1),
        )

    def encode_text(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """F_T and which of its tokens are real; a model without text has neither."""
        if not self.config.use_text_cues:
            return None, None
        tokens = text_features[..., 0] if input_ids is None else input_ids
        attention_mask = torch.ones_like(tokens) if attention_mask is None else attention_mask
        if text_features is None:
            text_features = self.text_encoder(
                input_ids, attention_mask=attention_mask
            ).last_hidden_state
        return text_features, attention_mask.bool()

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
    "encode_frames",
    "encode_seconds",
    "frames_at_once",
    "frozen_names",
    "join_parts",
    "make_text_encoder",
    "text_config_of",
    "text_encoder_class",
]
