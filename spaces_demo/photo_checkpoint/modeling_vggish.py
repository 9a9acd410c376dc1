"""VGGish: one log-mel example (0.96 s of sound) in, one vector out (Hershey et al., 2017; paper,
Sec. 4.2)."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple

from .checkpoint_refavs import StrictLoadingMixin
from .configuration_refavs import RefAVSAudioConfig


class RefAVSVggishModel(StrictLoadingMixin, PreTrainedModel):
    """Convolutions and three linear layers, without a last ReLU and without PCA, as the Ref-AVS
    features are made.

    Parameter names are those of the public PyTorch port: `features.{0,3,6,8,11,13}` and
        `embeddings.{0,2,4}`.
    """

    config_class = RefAVSAudioConfig
    base_model_prefix = "audio_encoder"
    main_input_name = "input_features"
    _supports_sdpa = True  # or whatever is asked for: it has no attention

    def __init__(self, config: RefAVSAudioConfig):
        super().__init__(config)
        self.features = nn.Sequential(*_stages(config))
        pooled = 2 ** len(config.depths)
        flat_size = (
            (config.num_mel_frames // pooled)
            * (config.num_mel_bands // pooled)
            * config.hidden_sizes[-1]
        )
        self.embeddings = nn.Sequential(
            nn.Linear(flat_size, config.intermediate_size),
            nn.ReLU(),
            nn.Linear(config.intermediate_size, config.intermediate_size),
            nn.ReLU(),
            nn.Linear(config.intermediate_size, config.embedding_size),
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)

    @can_return_tuple
    def forward(self, input_features: torch.Tensor) -> BaseModelOutput:
        """
        Args:
            input_features: `(..., 96, 64)` log-mel examples, time before band.

        Returns:
            `last_hidden_state (..., 128)`, one vector an example.
        """
        leading = input_features.shape[:-2]
        hidden_states = self.features(
            input_features.flatten(0, -3).unsqueeze(1)
        )  # (N, 1, 96, 64) -> (N, 512, 6, 4)
        hidden_states = hidden_states.permute(0, 2, 3, 1).flatten(
            1
        )  # -> (N, 6, 4, 512) -> (N, 12288)
        return BaseModelOutput(self.embeddings(hidden_states).unflatten(0, leading))


def _stages(config: RefAVSAudioConfig) -> list[nn.Module]:
    layers, channels = [], 1
    for hidden_size, depth in zip(config.hidden_sizes, config.depths, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, hidden_size, kernel_size=3, padding=1), nn.ReLU()]
            channels = hidden_size
        layers.append(nn.MaxPool2d(kernel_size=2))
    return layers


RefAVSVggishModel.register_for_auto_class("AutoModel")


__all__ = ["RefAVSVggishModel"]
