"""EEMC from its encoders to the mask queries (paper, Sec. 4.3), in the order of the paper.

Projections F'_A, F'_V, F'_T; the temporal bi-modal transformers (Eq. 1); the cached memory (Eq.
2-3); modality encoding and the multimodal integration transformer (Eq. 4); CATF (Eq. 5). All of it
works inside one step, a frame and its second of sound, but the cached memory: the mean of the past
is the only tie between steps, so a running sum and a count carry a clip of any length.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding
from transformers.utils import ModelOutput

from .configuration_refavs import RefAVSConfig
from .encoders_refavs import audio_size


def attention_weights(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """`softmax(Q K^T / sqrt(d))`: `(N, heads, queries, keys)`, 0 where `mask` is False."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One of transformers' attention functions: `(N, queries, heads, d)`, and the weights."""
    weights = attention_weights(query, key, attention_mask)
    attended = nn.functional.dropout(weights, dropout) @ value
    return attended.transpose(1, 2).contiguous(), weights


def choose_attention(config: PreTrainedConfig) -> Callable:
    """What `attn_implementation` says, `"sdpa"` or `"eager"`."""
    name = config._attn_implementation or "sdpa"
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)


class RefAVSAttention(nn.Module):
    """Multi-head attention of a sequence to itself or to a context."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.dropout = config.dropout
        self.query_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.key_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.value_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor,
        context_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            hidden_states: `(N, queries, D)`.
            context: `(N, keys, D)`.
            context_mask: `(N, keys)` bool, False where a key is padding; every row holds at least
                one True.

        Returns:
            `(N, queries, D)`; and the weights `(N, heads, queries, keys)` with
            `attn_implementation="eager"`, which alone holds them.
        """
        attended, weights = choose_attention(self.config)(
            self,
            self._split_heads(self.query_projection(hidden_states)),
            self._split_heads(self.key_projection(context)),
            self._split_heads(self.value_projection(context)),
            None if context_mask is None else context_mask[:, None, None, :],
            dropout=self.dropout if self.training else 0.0,
            is_causal=False,
        )
        # (N, S, heads, d) -> (N, S, D)
        return self.output_projection(attended.flatten(2)), weights

    def weights(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor,
        context_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """[`attention_weights`] of what `forward` is given, whatever the implementation."""
        queries = self._split_heads(self.query_projection(hidden_states))
        keys = self._split_heads(self.key_projection(context))
        mask = None if context_mask is None else context_mask[:, None, None, :]
        return attention_weights(queries, keys, mask)

    def _split_heads(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # (N, S, D) -> (N, heads, S, d)
        return hidden_states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class RefAVSTransformerLayer(GradientCheckpointingLayer):
    """The layer that Eq. 1, 4 and 5 are stacked from: attention and feed-forward, each residual,
    with norms after them or, with `cue_pre_norm`, before. Its arguments are passed by position:
    only so do gradients pass a checkpoint of the reentrant form."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.pre_norm = config.cue_pre_norm
        self.attention = RefAVSAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.hidden_size, config.intermediate_size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.intermediate_size, config.hidden_size),
        )
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor | None = None,
        context_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend to `context`, or without one to `hidden_states` itself; shapes as in
        [`RefAVSAttention`]."""
        if self.pre_norm:
            normed = self.attention_norm(hidden_states)
            attended, _ = self.attention(
                normed, normed if context is None else context, context_mask
            )
            hidden_states = hidden_states + self.dropout(attended)
            return hidden_states + self.dropout(
                self.feed_forward(self.feed_forward_norm(hidden_states))
            )
        attended, _ = self.attention(
            hidden_states, hidden_states if context is None else context, context_mask
        )
        hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
        return self.feed_forward_norm(
            hidden_states + self.dropout(self.feed_forward(hidden_states))
        )


class RefAVSCueProjection(nn.Module):
    """F'_A, F'_V and F'_T: one linear map to d_V for each modality.

    A frame is pooled to a grid of visual tokens, to which a 2-D sine position is added.

    Args:
        visual_channels: of F_V, the last map of the vision encoder.
    """

    def __init__(self, config: RefAVSConfig, visual_channels: int):
        super().__init__()
        self.grid_size = config.visual_grid_size
        self.visual = nn.Linear(visual_channels, config.hidden_size)
        # Without a place on each token no sentence about left and right could be understood.
        self.position = Mask2FormerSinePositionEmbedding(config.hidden_size // 2, normalize=True)
        self.audio = self.text = None
        if config.use_audio_cues:
            self.audio = nn.Linear(audio_size(config.audio_config), config.hidden_size)
        if config.use_text_cues:
            self.text = nn.Linear(config.text_config.hidden_size, config.hidden_size)

    def project_audio(self, audio_features: torch.Tensor) -> torch.Tensor:
        """F_A `(clips, steps, 128)` of VGGish -> F'_A `(clips, steps, 1, D)`."""
        return self.audio(audio_features).unsqueeze(2)

    def pool_frames(self, frame_features: torch.Tensor) -> torch.Tensor:
        """F_V `(clips, steps, C, h, w)` -> `(clips, steps, 64, C)`."""
        pooled = nn.functional.adaptive_avg_pool2d(frame_features.flatten(0, 1), self.grid_size)
        # (steps, C, 8, 8) -> (steps, 64, C)
        return pooled.flatten(2).transpose(1, 2).unflatten(0, frame_features.shape[:2])

    def project_frames(self, frame_features: torch.Tensor) -> torch.Tensor:
        """F_V `(clips, steps, C, h, w)` -> F'_V `(clips, steps, 64, D)`."""
        tokens = self.visual(self.pool_frames(frame_features))
        position = self.position(
            (1, 0, self.grid_size, self.grid_size), tokens.device, tokens.dtype
        )
        return tokens + position.flatten(2).transpose(1, 2)

    def project_text(self, text_features: torch.Tensor) -> torch.Tensor:
        """F_T `(expressions, L, 768)` of RoBERTa -> F'_T `(expressions, L, D)`, before it is
        repeated over the steps."""
        return self.text(text_features)


class RefAVSTemporalBimodalTransformer(nn.Module):
    """Eq. 1, `[F^_M ; F^_T_M] = SelfAttn([F'_M ; F'_T])`, one stack for each modality M in {A,
    V}."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.layers = nn.ModuleList(
            RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers)
        )

    def forward(
        self,
        cues: torch.Tensor,
        text: torch.Tensor | None = None,
        cue_mask: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            cues: `(steps, S, D)`, F'_M: 1 audio token or 64 visual tokens a step.
            text: `(steps, L, D)`, F'_T; None in the ablation without text.
            cue_mask, text_mask: `(steps, S)` and `(steps, L)` bool, False where a token is padding.

        Returns:
            F^_M `(steps, S, D)` and F^_T_M `(steps, L, D)`, or None without text.
        """
        if text is None:
            return self._attend(cues, None), None
        mask = None
        if text_mask is not None:
            cue_mask = text_mask.new_ones(cues.shape[:2]) if cue_mask is None else cue_mask
            mask = torch.cat([cue_mask, text_mask], dim=1)
        fused = self._attend(torch.cat([cues, text], dim=1), mask)
        return fused[:, : cues.shape[1]], fused[:, cues.shape[1] :]

    def _attend(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states, None, mask)
        return hidden_states


@dataclass
class RefAVSCueMemory(ModelOutput):
    """What one modality remembers: `total (expressions, S, D)`, the sum of F^_M over past steps,
    and `count (expressions,)`."""

    total: torch.FloatTensor | None = None
    count: torch.FloatTensor | None = None


@dataclass
class RefAVSObjectMemory(ModelOutput):
    """What [`RefAVSObjectHead`] remembers, all 0 where there was nothing.

    Args:
        tracks: of the objects of the step before, `(expressions, num_queries, D + 8)`.
        heard: the first sound and the sum of all, `(expressions, 2, D + classes + 1)`.
        claims: what the last ten steps said of their objects, `(expressions, 10, num_queries, D +
            21)`, see [`RefAVSClipHead`].
    """

    tracks: torch.FloatTensor | None = None
    heard: torch.FloatTensor | None = None
    claims: torch.FloatTensor | None = None


@dataclass
class RefAVSMemory(ModelOutput):
    """The whole state between two calls of the model; without audio cues `audio` is None, without
    an object head `objects`."""

    audio: RefAVSCueMemory | None = None
    visual: RefAVSCueMemory | None = None
    objects: RefAVSObjectMemory | None = None

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "RefAVSMemory":
        """The memory with `change` done to each of its tensors, whose rows are expressions."""
        return RefAVSMemory.from_dict(
            {name: change(tensor) for name, tensor in self.to_dict().items()}
        )

    def to_dict(self) -> dict[str, torch.Tensor]:
        """Its tensors by name, such as `visual.total`."""
        return {
            f"{part}.{name}": tensor
            for part, tensors in self.items()
            for name, tensor in tensors.items()
        }

    @classmethod
    def from_dict(cls, tensors: dict[str, torch.Tensor]) -> "RefAVSMemory | None":
        """The inverse of `to_dict`; None if there is nothing to remember."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, field = name.partition(".")
            parts.setdefault(part, {})[field] = tensor
        kinds = {"objects": RefAVSObjectMemory}
        made = {part: kinds.get(part, RefAVSCueMemory)(**parts[part]) for part in parts}
        return cls(**made) if made else None


class RefAVSCachedMemory(nn.Module):
    """Eq. 2 and 3: `Q_M(t) = (beta + 1) F^_M(t) - beta C_M(t)`, where C_M(t) is the mean of F^_M
    over
    the steps before t, 0 at the first."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(
        self, cues: torch.Tensor, step_mask: torch.Tensor, memory: RefAVSCueMemory | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, RefAVSCueMemory]:
        """
        Args:
            cues: `(expressions, steps, S, D)`, F^_M of a whole clip, of some of its steps, or of
                one.
            step_mask: `(expressions, steps)` bool; a step that is padding is not remembered.
            memory: what the steps before these left; None at the start of a clip.

        Returns:
            Q_M and C_M, `(expressions, steps, S, D)` each, and the memory after the last step.
        """
        # bfloat16 cannot count beyond 256 steps
        wide = torch.promote_types(cues.dtype, torch.float32)
        if memory is None:
            memory = RefAVSCueMemory(
                torch.zeros_like(cues[:, 0], dtype=wide), cues.new_zeros(len(cues), dtype=wide)
            )
        weights = step_mask.to(wide)
        kept = cues * weights[:, :, None, None]
        totals = memory.total.unsqueeze(1) + kept.cumsum(dim=1)  # the current step included
        counts = memory.count.unsqueeze(1) + weights.cumsum(dim=1)
        past = (totals - kept) / (counts - weights).clamp(min=1)[:, :, None, None]
        recalled = (self.beta + 1) * cues - self.beta * past
        return (
            recalled.to(cues.dtype),
            past.to(cues.dtype),
            RefAVSCueMemory(totals[:, -1], counts[:, -1]),
        )


class RefAVSMultimodalIntegration(nn.Module):
    """Eq. 4, `Q_m = SelfAttn([Q_A ; [aud] ; Q_V ; [vis] ; Q_T])`, and the layout of Q_m.

    Ours, with `use_audio_memory_cue`: C_A, the mean of the sounds before, comes after Q_A.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.past_encoding = None
        if config.has_audio_memory_cue:  # tells C_A from Q_A
            self.past_encoding = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.audio_tag = self.visual_tag = None
        if config.use_modality_encoding:
            self.visual_tag = nn.Parameter(torch.zeros(1, config.hidden_size))
            if config.use_audio_cues:
                self.audio_tag = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.layers = nn.ModuleList(
            RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers)
        )

    def forward(
        self,
        audio_cues: torch.Tensor | None,
        visual_cues: torch.Tensor,
        text_cues: torch.Tensor | None,
        audio_mask: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        audio_memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, slice]]:
        """
        Args:
            audio_cues, visual_cues, text_cues: Q_A `(steps, 1, D)`, Q_V `(steps, 64, D)`, Q_T
                `(steps, L, D)`; None where an ablation leaves a modality out.
            audio_mask, text_mask: `(steps, 1)` and `(steps, L)` bool, False where a token is
                padding.
            audio_memory: C_A `(steps, 1, D)`, with `use_audio_memory_cue`.

        Returns:
            Q_m `(steps, M, D)`, M = 1 + 1 + 64 + 1 + L (and 1 with C_A); which of its tokens are
            real, `(steps, M)` bool; and where in M each of its segments lies: `audio`,
            `audio_memory`, `audio_tag`, `visual`, `visual_tag` and `text`, those that there are.
        """
        if self.past_encoding is not None:
            audio_memory = audio_memory + self.past_encoding
        parts = {
            "audio": (audio_cues, audio_mask),
            "audio_memory": (audio_memory if self.past_encoding is not None else None, None),
            "audio_tag": (self._tag(self.audio_tag, visual_cues), None),
            "visual": (visual_cues, None),
            "visual_tag": (self._tag(self.visual_tag, visual_cues), None),
            "text": (text_cues, text_mask),
        }
        segments, tokens, masks, end = {}, [], [], 0
        for name, (segment, mask) in parts.items():
            if segment is None:
                continue
            segments[name] = slice(end, end + segment.shape[1])
            end += segment.shape[1]
            tokens.append(segment)
            masks.append(
                segment.new_ones(segment.shape[:2], dtype=torch.bool) if mask is None else mask
            )
        cues, cue_mask = torch.cat(tokens, dim=1), torch.cat(masks, dim=1)
        for layer in self.layers:
            cues = layer(cues, None, cue_mask)
        return cues, cue_mask, segments

    @staticmethod
    def _tag(tag: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
        return None if tag is None else tag.expand(like.shape[0], -1, -1)


class RefAVSCrossAttentionTransformer(nn.Module):
    """CATF, Eq. 5, `q_Q = CATF(query = q, key = Q_m, value = Q_m)`: the cues of a step update the
    mask
    queries.

    The update is added through a projection that starts at zero, so that the queries are
    Mask2Former's own before training.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.layers = nn.ModuleList(
            RefAVSTransformerLayer(config) for _ in range(config.num_cue_layers)
        )
        self.update_projection = nn.Linear(config.hidden_size, config.hidden_size)

    @property
    def changes_queries(self) -> bool:
        """Has it learned to?"""
        return any(bool(parameter.any()) for parameter in self.update_projection.parameters())

    def forward(
        self, queries: torch.Tensor, cues: torch.Tensor, cue_mask: torch.Tensor
    ) -> torch.Tensor:
        """
        Args:
            queries: `(steps, num_queries, D)`, q.
            cues: `(steps, M, D)`, Q_m; `cue_mask (steps, M)` says which of them are real.

        Returns:
            q_Q, `(steps, num_queries, D)`.
        """
        updated = queries
        for layer in self.layers:
            updated = layer(updated, cues, cue_mask)
        return queries + self.update_projection(updated)


__all__ = [
    "RefAVSAttention",
    "RefAVSCachedMemory",
    "RefAVSCrossAttentionTransformer",
    "RefAVSCueMemory",
    "RefAVSCueProjection",
    "RefAVSMemory",
    "RefAVSMultimodalIntegration",
    "RefAVSObjectMemory",
    "RefAVSTemporalBimodalTransformer",
    "RefAVSTransformerLayer",
]
