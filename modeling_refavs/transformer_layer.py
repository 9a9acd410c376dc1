"""The one transformer layer that fusion (Eq. 1), integration (Eq. 4) and CATF (Eq. 5) are stacked from."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_refavs import RefAVSConfig


class RefAVSAttention(nn.Module):
    """Multi-head attention of a sequence to itself or to a context."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.dropout = config.dropout
        self.query_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.key_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.value_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_projection = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            hidden_states: `(N, queries, D)`.
            context: `(N, keys, D)`.
            context_mask: `(N, keys)` bool, False where a key is padding; every row holds at least one True.

        Returns:
            `(N, queries, D)`.
        """
        attended = nn.functional.scaled_dot_product_attention(
            self._split_heads(self.query_projection(hidden_states)),
            self._split_heads(self.key_projection(context)),
            self._split_heads(self.value_projection(context)),
            attn_mask=None if context_mask is None else context_mask[:, None, None, :],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output_projection(attended.transpose(1, 2).flatten(2))  # (N, heads, S, d) -> (N, S, D)

    def weights(
        self, hidden_states: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`softmax(Q K^T / sqrt(d))`, which `forward` never holds: `(N, heads, queries, keys)`, 0 where a key is padding."""
        queries = self._split_heads(self.query_projection(hidden_states))
        keys = self._split_heads(self.key_projection(context))
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        if context_mask is not None:
            scores = scores.masked_fill(~context_mask[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1)

    def _split_heads(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (N, S, D) -> (N, heads, S, d)


class RefAVSTransformerLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, each residual; normalised before or after, as `cue_pre_norm` or else Mask2Former's decoder says."""

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        self.pre_norm = config.mask2former_config.pre_norm if config.cue_pre_norm is None else config.cue_pre_norm
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
        """Attend to `context`, or without one to `hidden_states` itself; shapes as in [`RefAVSAttention`]."""
        if self.pre_norm:
            normed = self.attention_norm(hidden_states)
            attended = self.attention(normed, normed if context is None else context, context_mask)
            hidden_states = hidden_states + self.dropout(attended)
            return hidden_states + self.dropout(self.feed_forward(self.feed_forward_norm(hidden_states)))
        attended = self.attention(hidden_states, hidden_states if context is None else context, context_mask)
        hidden_states = self.attention_norm(hidden_states + self.dropout(attended))
        return self.feed_forward_norm(hidden_states + self.dropout(self.feed_forward(hidden_states)))


__all__ = ["RefAVSAttention", "RefAVSTransformerLayer"]
