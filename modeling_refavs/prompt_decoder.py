"""CATF (paper, Eq. 5) and the Mask2Former that it prompts, with adapters in both of its decoders (Sec. 4.4, Fig. 3)."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel
from transformers import initialization as init

from .configuration_refavs import RefAVSConfig
from .mask_decoder import RefAVSMaskDecoder, RefAVSMaskDecoderLayer
from .pixel_decoder import RefAVSPixelDecoder, RefAVSPixelDecoderLayer, RefAVSPixels
from .transformer_layer import RefAVSTransformerLayer


PIXELS_AT_ONCE = 2 * 384**2
POSITIONS_AT_ONCE = 2 * 96**2  # of Swin's first stage


class RefAVSCrossAttentionTransformer(nn.Module):
    """CATF, `q_Q = CATF(query = q, key = Q_m, value = Q_m)`: the mask queries, updated by the cues of their step.

    The update is added through a projection that starts at zero: before training the queries are Mask2Former's own.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.layers = nn.ModuleList(RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers))
        self.update_projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, queries: torch.Tensor, cues: torch.Tensor, cue_mask: torch.Tensor) -> torch.Tensor:
        """
        Args:
            queries: `(steps, num_queries, D)`, q.
            cues: `(steps, M, D)`, Q_m; `cue_mask (steps, M)` says which of them are real.

        Returns:
            q_Q, `(steps, num_queries, D)`.
        """
        updated = queries
        for layer in self.layers:
            updated = layer(updated, context=cues, context_mask=cue_mask)
        return queries + self.update_projection(updated)


class RefAVSMask2FormerModel(Mask2FormerModel):
    """`Mask2FormerModel` with adapters, in two halves: `encode_frames` and `decode_pixels` once a clip, `transformer_module` once a
    sentence. On a CPU a few frames pass through the first half at a time, so that its caches hold what one layer hands to the next.

    Every parameter of Mask2Former keeps its name, so `from_pretrained` takes any Mask2Former; adapters are added.
    """

    def __init__(self, config: Mask2FormerConfig, adapter_size: int = 64):
        super().__init__(config)
        channels = self.pixel_level_module.encoder.channels
        self.pixel_level_module.decoder = RefAVSPixelDecoder(config, channels, adapter_size)
        self.transformer_module = RefAVSMaskDecoder(config, adapter_size)
        self.post_init()

    @classmethod
    def is_custom_code(cls) -> bool:
        """Names and initialisation are transformers': of custom code it would neither rename the keys of a checkpoint nor
        initialise modules without parameters of their own, such as deformable attention."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (RefAVSPixelDecoderLayer, RefAVSMaskDecoderLayer)):  # after the layer's own Xavier
            init.zeros_(module.adapter.up.weight)
            init.zeros_(module.adapter.up.bias)

    def encode_frames(self, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(frames, 3, H, W)` -> Swin's four stages, `(frames, C, h, w)` each."""
        split = frames.split(_frames_at_once(frames, PIXELS_AT_ONCE))
        parts = [self.pixel_level_module.encoder(part).feature_maps for part in split]
        return tuple(map(_join, zip(*parts, strict=True)))

    def decode_pixels(self, stages: Sequence[torch.Tensor]) -> RefAVSPixels:
        """Swin's four stages to the pixel decoder's maps."""
        count = _frames_at_once(stages[0], POSITIONS_AT_ONCE)
        split = zip(*(stage.split(count) for stage in stages), strict=True)
        parts = [self.pixel_level_module.decoder(list(part)) for part in split]
        levels, masks = zip(*parts, strict=True)
        return RefAVSPixels(tuple(map(_join, zip(*levels, strict=True))), _join(masks))

    def forward(self, *args, **kwargs):
        raise NotImplementedError("call encode_frames, decode_pixels, then transformer_module on queries and features")


def _frames_at_once(maps: torch.Tensor, places: int) -> int:
    """As many maps as have so many places, at least one; not on a CPU: all."""
    return max(1, places // (maps.shape[-1] * maps.shape[-2]) if maps.device.type == "cpu" else len(maps))


def _join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


__all__ = ["RefAVSCrossAttentionTransformer", "RefAVSMask2FormerModel", "RefAVSPixels"]
