"""Two stages of training before EEMC's own, both ours: align the modalities, then let the cues find
the object.

The cue transformers learn from nothing where the paper's encoders bring much, and a sound that
matches an object is hard to find by attention alone without it (docs/reproduction.md). So the
projections are aligned before they are fused, as in ALBEF (arXiv 2107.07651). Parameters have the
names that they have in [`RefAVSForSegmentation`], which starts from what these leave.
"""

import torch
from torch import nn

from ..configuration_refavs import RefAVSConfig
from ..grounding_refavs import cue_criterion
from ..loss_refavs import RefAVSLossCounts
from ..modeling_outputs_refavs import RefAVSClipFeatures, RefAVSCueOutput, of_expressions, of_steps
from ..modeling_refavs import RefAVSModel, RefAVSPreTrainedModel


SCALE_WEIGHT = 0.02  # of the penalty that keeps aligned tokens at unit scale


class RefAVSCueStage(RefAVSPreTrainedModel):
    """What both stages share: nothing is decoded, and the loss is that the right visual tokens
    light up."""

    loss_names = ("loss_cue",)

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        if not config.cue_loss_weight:
            raise ValueError("cue_loss_weight must be above 0 for the cues to learn anything")
        self.model = RefAVSModel(config)

    def learned_modules(self) -> list[nn.Module]:
        raise NotImplementedError

    def light_up(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> torch.Tensor:
        """`(expressions, steps, tokens)` logits: where the object is."""
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
        input_features: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        vision_features: tuple[torch.Tensor, ...] | None = None,
        frame_features: torch.Tensor | None = None,
        step_index: torch.Tensor | None = None,
        loss_counts: RefAVSLossCounts | None = None,
    ) -> RefAVSCueOutput:
        """Arguments as in [`RefAVSForSegmentation`]."""
        clips = self.model.encode_clips(
            pixel_values,
            input_features,
            input_features_mask,
            frame_mask,
            audio_features,
            vision_features,
            frame_features,
            step_index,
            decode=False,
        )
        text = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "text_features": text_features,
        }
        cue_logits, penalty = self.light_up(clips, clip_index, **text)
        loss = parts = None
        if mask_labels is not None:
            real = of_steps(of_expressions(clips.frame_mask, clip_index), step_index)
            loss = self.config.cue_loss_weight * cue_criterion(
                cue_logits[real], mask_labels[real], loss_counts
            )
            parts = {"loss_cue": loss.detach()}
            loss = loss + penalty
        return RefAVSCueOutput(loss=loss, cue_logits=cue_logits, loss_parts=parts)


class RefAVSForCueAlignment(RefAVSCueStage):
    """The first: F'_A, F'_V and F'_T alone, in one space. A visual token lights up by its product
    with the sentence and, as far as
    the sentence says so, with the sound of this second and of those before it; normalised, as the
    cue transformers will see them."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        self.listening = (
            nn.Linear(config.hidden_size, 1)
            if config.use_text_cues and config.use_audio_cues
            else None
        )
        self.visibility = nn.Linear(config.hidden_size, 1)
        self.post_init()
        self.train()

    def learned_modules(self) -> list[nn.Module]:
        return [
            self.model.cue_projection,
            self.visibility,
            *([] if self.listening is None else [self.listening]),
        ]

    def light_up(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        visual = self.model.cue_projection.project_frames(clips.frame_features)
        scale = unit_scale_penalty(visual)
        visual = normalise(
            of_expressions(of_steps(visual, clips.step_index), clip_index)
        )  # (expressions, steps, tokens, D)
        logits, gate = self.visibility(visual).squeeze(-1), 1.0
        wanted = torch.zeros_like(visual[:, :, 0])  # (expressions, steps, D)
        words, real = self.model.encode_text(**text)
        if words is not None:
            scale = scale + unit_scale_penalty(words)
            sentence = normalise(
                (words * real[..., None]).sum(1) / real.sum(1, keepdim=True)
            ).unsqueeze(1)
            wanted = wanted + sentence
            if (
                self.listening is not None
            ):  # from 1 on: "sounding" shall be near the sound, not opposite
                gate = 1 + self.listening(sentence)
        if clips.audio_features is not None:
            sound = self.model.cue_projection.project_audio(clips.audio_features).squeeze(
                2
            )  # (clips, steps, D)
            scale = scale + unit_scale_penalty(sound)
            sound = normalise(sound)
            count = torch.arange(1, sound.shape[1] + 1, device=sound.device)[:, None]
            heard = of_steps(sound + sound.cumsum(1) / count, clips.step_index)
            wanted = wanted + gate * of_expressions(heard, clip_index)
        return logits + (visual * wanted.unsqueeze(2)).sum(-1) / visual.shape[-1] ** 0.5, scale


def normalise(tokens: torch.Tensor) -> torch.Tensor:
    """To mean 0 and deviation 1 over the last dimension."""
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])


def unit_scale_penalty(tokens: torch.Tensor) -> torch.Tensor:
    """Keeps tokens at the deviation 1 at which the cue transformers start to work on them; what is
    normalised has no scale of its
    own, and would grow."""
    return SCALE_WEIGHT * (tokens.square().mean(dim=-1).clamp(min=1e-6).log().square()).mean()


class RefAVSForCueLocalization(RefAVSCueStage):
    """The second: the cue transformers, Eq. 1 to 4."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        self.cue_predictor = nn.Linear(config.hidden_size, 1)
        self.post_init()
        self.train()

    def learned_modules(self) -> list[nn.Module]:
        parts = (self.model.visual_fusion, self.model.audio_fusion, self.model.integration)
        return [
            self.cue_predictor,
            self.model.cue_projection,
            *(part for part in parts if part is not None),
        ]

    def light_up(
        self, clips: RefAVSClipFeatures, clip_index: torch.Tensor | None, **text: torch.Tensor
    ) -> torch.Tensor:
        cues = self.model.gather_cues(clips, clip_index=clip_index, **text)
        return self.cue_predictor(cues.visual_cues).squeeze(-1), 0.0


STAGE_CLASSES = {"alignment": RefAVSForCueAlignment, "cues": RefAVSForCueLocalization}


__all__ = ["RefAVSForCueAlignment", "RefAVSForCueLocalization"]
