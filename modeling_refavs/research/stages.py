"""Two stages of training before the masks: the modalities are aligned, then the cues learn to point
at the object.

The cue transformers learn from nothing where the paper's encoders bring much, and a sound that
matches an object is hard to find by attention alone without it (docs/results.md). So the
projections are aligned before they are fused, as in ALBEF (arXiv 2107.07651). Parameters have the
names that they have in [`RefAVSForSegmentation`], which starts from what these leave.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput

from ..configuration_refavs import RefAVSConfig
from ..eemc import RefAVSAttention
from ..grounding_refavs import RefAVSGroundingHead, grounding_criterion, mean_token, normalise
from ..loss_refavs import RefAVSLossCounts
from ..modeling_outputs_refavs import (
    RefAVSClipFeatures,
    RefAVSInputs,
    of_expressions,
    of_steps,
    split_inputs,
)
from ..modeling_refavs import RefAVSModel, RefAVSPreTrainedModel


SCALE_WEIGHT = 0.02  # of the penalty that keeps aligned tokens at unit scale


@dataclass
class RefAVSGroundingOutput(ModelOutput):
    """
    Args:
        loss: of `grounding_criterion`, weighted; only with `mask_labels`. `loss_parts` holds it as
            `loss_cue`.
        grounding_logits: `(expressions, frames, 64)`; the sigmoid tells how far the referred object
            covers a visual token.
    """

    loss: torch.FloatTensor | None = None
    grounding_logits: torch.FloatTensor | None = None
    loss_parts: dict[str, torch.FloatTensor] | None = None


class RefAVSCueStage(RefAVSPreTrainedModel):
    """What both stages share: no mask is decoded, and the loss is that of grounding."""

    loss_names = ("loss_cue",)

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        if not config.grounding_config.loss_weight:
            raise ValueError(
                "grounding_config.loss_weight must be above 0 for the cues to learn anything"
            )
        self.model = RefAVSModel(config)

    def learned_modules(self) -> list[nn.Module]:
        raise NotImplementedError

    def ground(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | float]:
        """Grounding logits `(expressions, steps, tokens)`, and a penalty to add to the loss."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "RefAVSCueStage":
        super().train(mode)
        learned = {
            id(parameter) for module in self.learned_modules() for parameter in module.parameters()
        }
        for parameter in self.parameters():
            if id(parameter) not in learned:
                parameter.requires_grad_(False)
        return self

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        loss_counts: RefAVSLossCounts | None = None,
        **inputs: Unpack[RefAVSInputs],
    ) -> RefAVSGroundingOutput:
        """See [`RefAVSInputs`], and [`RefAVSForSegmentation`] for the other arguments."""
        clip_inputs, text_inputs = split_inputs(inputs)
        clips = self.model.encode_clips(pixel_values, **clip_inputs, decode=False)
        clip_index = text_inputs.pop("clip_index", None)
        grounding_logits, penalty = self.ground(clips, clip_index, **text_inputs)
        loss = parts = None
        if mask_labels is not None:
            real = of_steps(of_expressions(clips.frame_mask, clip_index), clips.step_index)
            loss = self.config.grounding_config.loss_weight * grounding_criterion(
                grounding_logits[real], mask_labels[real], loss_counts
            )
            parts = {"loss_cue": loss.detach()}
            loss = loss + penalty
        return RefAVSGroundingOutput(loss=loss, grounding_logits=grounding_logits, loss_parts=parts)


class RefAVSForCueAlignment(RefAVSCueStage):
    """The first stage: F'_A, F'_V and F'_T alone learn to share one space.

    The grounding logit of a visual token is its product with the expression and, as far as the
    expression asks for it, with the sound of this step and with the mean of the sounds so far; all
    of them normalised, as the cue transformers will see them. Queries and keys of the cue
    transformers start alike, so that in the next stage tokens attend to what is near them in that
    space.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        self.listening = (
            nn.Linear(config.hidden_size, 1)
            if config.use_text_cues and config.use_audio_cues
            else None
        )
        self.visibility = nn.Linear(config.hidden_size, 1)
        self.post_init()
        tie_attention_start(self.model)
        self.train()

    def learned_modules(self) -> list[nn.Module]:
        return [
            self.model.cue_projection,
            self.visibility,
            *([] if self.listening is None else [self.listening]),
        ]

    def ground(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        frames = of_steps(clips.frame_features, clips.step_index)
        visual = self.model.cue_projection.project_frames(frames)
        scale = unit_scale_penalty(visual)
        visual = normalise(of_expressions(visual, clip_index))  # (expressions, steps, tokens, D)
        logits, gate = self.visibility(visual).squeeze(-1), 1.0
        wanted = torch.zeros_like(visual[:, :, 0])  # (expressions, steps, D)
        words, real = self.model.encode_text(**text)
        if words is not None:
            words = self.model.cue_projection.project_text(words)
            scale = scale + unit_scale_penalty(words)
            expression = normalise(mean_token(words, real)).unsqueeze(1)
            wanted = wanted + expression
            if self.listening is not None:  # from 1 on: "sounding" is near the sound, not opposite
                gate = 1 + self.listening(expression)
        if clips.audio_features is not None:
            # (clips, steps, 1, D) -> (clips, steps, D)
            sound = self.model.cue_projection.project_audio(clips.audio_features).squeeze(2)
            scale = scale + unit_scale_penalty(sound)
            sound = normalise(sound)
            count = torch.arange(1, sound.shape[1] + 1, device=sound.device)[:, None]
            heard = of_steps(sound + sound.cumsum(1) / count, clips.step_index)
            wanted = wanted + gate * of_expressions(heard, clip_index)
        return logits + (visual * wanted.unsqueeze(2)).sum(-1) / visual.shape[-1] ** 0.5, scale


def unit_scale_penalty(tokens: torch.Tensor) -> torch.Tensor:
    """Keeps tokens at deviation 1, at which the cue transformers start to work on them: what is
    normalised before use has no scale of its own and would grow."""
    return SCALE_WEIGHT * (tokens.square().mean(dim=-1).clamp(min=1e-6).log().square()).mean()


@torch.no_grad()
def tie_attention_start(model: nn.Module) -> None:
    """Every key projection of the cue transformers starts as its query projection."""
    for module in model.modules():
        if isinstance(module, RefAVSAttention):
            module.key_projection.weight.copy_(module.query_projection.weight)


class RefAVSForCueLocalization(RefAVSCueStage):
    """The second stage: the cue transformers, Eq. 1 to 4, learn to point at the object."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        self.cue_predictor = RefAVSGroundingHead(config)
        self.post_init()
        tie_attention_start(self.model)
        self.train()

    def learned_modules(self) -> list[nn.Module]:
        parts = (
            self.model.visual_fusion,
            self.model.audio_fusion,
            self.model.integration,
            self.model.alignment,
        )
        return [
            self.cue_predictor,
            self.model.cue_projection,
            *(part for part in parts if part is not None),
        ]

    def ground(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> tuple[torch.Tensor, float]:
        cues = self.model.gather_cues(clips, clip_index=clip_index, **text)
        return self.cue_predictor(cues), 0.0


STAGE_CLASSES = {"alignment": RefAVSForCueAlignment, "cues": RefAVSForCueLocalization}


__all__ = ["RefAVSForCueAlignment", "RefAVSForCueLocalization"]
