"""EEMC, "Expression Enhancing with Multimodal Cues": the model of Ref-AVS (ECCV 2024, arXiv
2407.10957, Sec. 4).

`encode_clips` runs once a clip, whatever the number of sentences; `segment` runs once a sentence.
A clip may also be segmented in pieces: pass `memory` on from one to the next. Without an object
head nothing else ties one step to another, and the pieces are answered as the whole clip is.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .checkpoint_refavs import StrictLoadingMixin
from .clip_head_refavs import RefAVSClipHead, claim_objects, fade
from .configuration_refavs import RefAVSConfig, use_four_stages
from .eemc import (
    RefAVSAttention,
    RefAVSCachedMemory,
    RefAVSCrossAttentionTransformer,
    RefAVSCueMemory,
    RefAVSCueProjection,
    RefAVSMemory,
    RefAVSMultimodalIntegration,
    RefAVSTemporalBimodalTransformer,
    RefAVSTransformerLayer,
)
from .encoders_refavs import (
    RefAVSEncodersMixin,
    audio_config_of,
    audio_encoder_class,
    frozen_names,
    make_text_encoder,
    text_config_of,
    text_encoder_class,
)
from .grounding_refavs import (
    RefAVSAlignmentHead,
    RefAVSEvidence,
    RefAVSGroundingHead,
    RefAVSIoUHead,
    RefAVSNamingHead,
    grounding_criterion,
    iou_criterion,
    mask_iou,
    mean_token,
    normalise,
    pool_under_masks,
)
from .loss_refavs import RefAVSLossCounts, set_criterion
from .mask2former_refavs import RefAVSMask2FormerModel, RefAVSPixels
from .modeling_outputs_refavs import (
    RefAVSClipFeatures,
    RefAVSInputs,
    RefAVSModelOutput,
    RefAVSSegmentationOutput,
    combine_queries,
    count_expressions,
    is_regular,
    of_expressions,
    of_steps,
    split_inputs,
)
from .object_head_refavs import (
    RefAVSMeaning,
    RefAVSObjectHead,
    RefAVSObjects,
    choose_query,
    compare,
    describe_objects,
    object_criterion,
    object_scores,
    remember,
    share,
    weigh_choice,
)
from .video_session_refavs import (
    RefAVSVideoInferenceSession,
    RefAVSVideoSegmentationOutput,
    RefAVSVideoSessionMixin,
)


class RefAVSPreTrainedModel(StrictLoadingMixin, RefAVSEncodersMixin, PreTrainedModel):
    config_class = RefAVSConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("video", "audio", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _can_record_outputs = {  # noqa: RUF012, the name and form are transformers'
        "hidden_states": OutputRecorder(
            RefAVSTransformerLayer,
            layer_name="integration",
            num_hidden_layers_key="num_cue_layers",
        ),
        "attentions": OutputRecorder(RefAVSAttention, index=1, layer_name="integration"),
        "cross_attentions": OutputRecorder(RefAVSAttention, index=1, layer_name="catf"),
    }
    accepts_loss_kwargs = False  # the loss is a mean over masks: Trainer must not rescale it
    _no_split_modules = ("SwinLayer", "RefAVSMaskDecoderLayer", "RefAVSTransformerLayer")

    @classmethod
    def is_custom_code(cls) -> bool:
        """See [`RefAVSMask2FormerModel.is_custom_code`]: the outermost model decides for all its
        parts."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(
            module, nn.Linear
        ):  # Xavier, as Mask2Former starts its layers: a narrow model needs it to learn
            init.xavier_uniform_(module.weight)
        elif isinstance(module, RefAVSMultimodalIntegration):
            for tag in (module.audio_tag, module.visual_tag, module.past_encoding):
                if tag is not None:
                    init.normal_(tag, std=self.config.initializer_range)
        elif isinstance(module, RefAVSCrossAttentionTransformer):
            init.zeros_(module.update_projection.weight)
            init.zeros_(module.update_projection.bias)
        elif isinstance(module, RefAVSObjectHead):
            init.ones_(module.direct)
            init.eye_(module.whitening.weight)
            for part in (module.visual, module.audio, module.asked[-1]):
                init.zeros_(part.weight)
            for part in (module.visual, module.audio, module.asked[-1], module.whitening):
                init.zeros_(part.bias)
        elif isinstance(module, RefAVSClipHead):
            init.zeros_(module.middle)
            init.ones_(module.deviation)
            init.zeros_(module.asked[-1].weight)
            init.zeros_(module.asked[-1].bias)
        elif isinstance(module, RefAVSAlignmentHead):
            init.zeros_(module.gates.weight)
            init.zeros_(module.gates.bias)

    @classmethod
    def from_backbones(
        cls,
        mask2former: str | None = None,
        text_model: str | None = None,
        audio_model: str | None = None,
        *,
        vision: str | None = None,
        **config_fields,
    ) -> "RefAVSPreTrainedModel":
        """The start of training: every pretrained part in place, the cue transformers and adapters
        new.

        Args:
            mask2former: Hub id or local folder of a Mask2Former; or None, and its decoders are new.
            text_model, audio_model: of a text encoder and of an audio encoder; see docs/encoders.md
                for what fits.
            vision: of a backbone, in place of `mask2former`.
            config_fields: fields of [`RefAVSConfig`], such as `num_cue_layers`; in
                `mask2former_config` and `vision_config` dicts of the fields that differ from the
                pretrained one's, such as `{"class_weight": 2.0}`.

        Raises:
            ValueError: not exactly one of `mask2former` and `vision` is given, or a part is of a
                type that does not fit.
        """
        audio_model = config_fields.pop("vggish", audio_model)  # its name while VGGish was all
        if (mask2former is None) == (vision is None):
            raise ValueError("pass mask2former, or vision for new decoders on a backbone")
        changed = config_fields.pop("mask2former_config", {})
        kind = RefAVSMask2FormerModel
        if vision is not None:
            backbone = AutoConfig.from_pretrained(vision, **config_fields.pop("vision_config", {}))
            use_four_stages(backbone)
            changed = kind.config_class(**changed, backbone_config=backbone)
        else:
            changed = kind.config_class.from_pretrained(mask2former, **changed)
        config = RefAVSConfig(
            mask2former_config=changed,
            text_config=text_config_of(AutoConfig.from_pretrained(text_model)),
            audio_config=audio_config_of(AutoConfig.from_pretrained(audio_model)),
            **config_fields,
        )
        model = cls(config)
        parts = model.base_model
        if vision is not None:
            level = parts.mask2former.pixel_level_module
            level.encoder = type(level.encoder).from_pretrained(vision, config=config.vision_config)
        else:
            parts.mask2former = kind.from_pretrained(
                mask2former, config=config.mask2former_config, adapter_size=config.adapter_size
            )
        if parts.text_encoder is not None:
            parts.text_encoder = make_text_encoder(config.text_config, text_model)
        if parts.audio_encoder is not None:
            parts.audio_encoder = type(parts.audio_encoder).from_pretrained(
                audio_model, config=config.audio_config
            )
        return model.eval()


class RefAVSModel(RefAVSPreTrainedModel):
    """EEMC without its class head: clips and sentences in, mask queries and their masks out."""

    _keys_to_ignore_on_load_unexpected = (r"^(class|cue|iou|object)_predictor\.",)

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        # what cannot be an encoder is refused before its size is asked for
        text_encoder_class(config.text_config)
        audio_encoder = audio_encoder_class(config.audio_config)
        self.mask2former = RefAVSMask2FormerModel(config.mask2former_config, config.adapter_size)
        channels = self.vision_encoder.channels[-1]
        self.cue_projection = RefAVSCueProjection(config, channels)
        self.visual_fusion = RefAVSTemporalBimodalTransformer(config)
        self.text_encoder = self.audio_encoder = self.audio_fusion = None
        if config.use_text_cues:
            self.text_encoder = make_text_encoder(config.text_config)
        if config.use_audio_cues:
            self.audio_encoder = audio_encoder(config.audio_config)
            self.audio_fusion = RefAVSTemporalBimodalTransformer(config)
        self.cached_memory = RefAVSCachedMemory(config.memory_beta)
        self.integration = RefAVSMultimodalIntegration(config)
        self.catf = RefAVSCrossAttentionTransformer(config)
        self.alignment = self.naming = None
        if config.grounding_config.use_alignment and config.use_text_cues:
            self.alignment = RefAVSAlignmentHead(config)
            if config.grounding_config.vocabulary_size:
                self.naming = RefAVSNamingHead(config, channels)
        self.post_init()
        self._freeze(*frozen_names(self))

    @property
    def vision_encoder(self) -> nn.Module:
        return self.mask2former.pixel_level_module.encoder

    def get_input_embeddings(self) -> nn.Module:
        """Of the main input, pixels: the vision encoder's patches."""
        return self.vision_encoder.get_input_embeddings()

    def encode_clips(
        self,
        pixel_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        frame_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        vision_features: tuple[torch.Tensor, ...] | None = None,
        frame_features: torch.Tensor | None = None,
        step_index: torch.Tensor | None = None,
        decode: bool = True,
    ) -> RefAVSClipFeatures:
        """Everything that does not depend on a sentence: the encoders of frames and sound and the
        pixel decoder, once a clip.

        Args:
            pixel_values, ...: see [`RefAVSClipInputs`].
            decode: False leaves out the pixel decoder, for cues alone; frames are then not needed
                beside `frame_features`.
        """
        given = [frames for frames in (pixel_values, vision_features) if frames is not None]
        if len(given) > 1 or (not given and (decode or frame_features is None)):
            raise ValueError("frames are needed: pass pixel_values or vision_features, one of them")
        stages = (
            self._encode_frames(pixel_values)
            if vision_features is None and given
            else vision_features
        )
        if frame_features is None:
            frame_features = stages[-1]
            stages = tuple(of_steps(stage, step_index) for stage in stages)
            if pixel_values is not None:
                pixel_values = of_steps(pixel_values, step_index)
        pixels = self._decode_pixels(stages) if decode else None
        steps = frame_features.shape[:2]
        everything = torch.ones(steps, dtype=torch.bool, device=frame_features.device)
        frame_mask = everything if frame_mask is None else frame_mask.bool()
        audio_features, audio_mask = self._encode_audio(
            steps, input_features, input_features_mask, audio_features
        )
        clips = RefAVSClipFeatures(
            frame_features=frame_features,
            audio_features=audio_features,
            audio_mask=(everything if audio_mask is None else audio_mask) & frame_mask,
            frame_mask=frame_mask,
            step_index=step_index,
        )
        if pixels is not None:
            chosen = stages[0].shape[:2]
            clips.mask_features = pixels.mask_features.unflatten(0, chosen)
            clips.multi_scale_features = tuple(
                level.unflatten(0, chosen) for level in pixels.multi_scale_features
            )
            if self.config.grounding_config.refine_masks and pixel_values is not None:
                size = clips.mask_features.shape[-2:]
                frames = pixel_values.flatten(0, 1)
                pictures = nn.functional.interpolate(frames, size=size, mode="area")
                clips.pictures = pictures.unflatten(0, chosen)
        return clips

    def segment(
        self,
        clip_features: RefAVSClipFeatures,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        memory: RefAVSMemory | None = None,
    ) -> RefAVSModelOutput:
        """Ask expressions of encoded clips.

        Args:
            clip_features: what `encode_clips` returned.
            input_ids, ...: see [`RefAVSTextInputs`].
            memory: what the previous piece of the same clips left; None at the start.
        """
        outputs = self.gather_cues(
            clip_features, input_ids, attention_mask, clip_index, text_features, memory
        )
        cues = outputs.cue_hidden_states.flatten(0, 1)
        cue_mask = outputs.cue_mask.flatten(0, 1).bool()
        decoder = self.mask2former.transformer_module
        queries = decoder.start_queries(cues.shape[0], cues.device)
        levels, pixels = clip_features.multi_scale_features, clip_features.mask_features
        if not is_regular(clip_index, len(pixels)):  # each sentence gets a clip of its own
            levels, pixels = (
                tuple(of_expressions(level, clip_index) for level in levels),
                of_expressions(pixels, clip_index),
            )
        decoded = decoder(self.catf(queries, cues, cue_mask), levels, pixels)
        outputs.query_hidden_states, outputs.masks_queries_logits = decoded
        outputs.mask_features = pixels
        return outputs

    def gather_cues(
        self,
        clip_features: RefAVSClipFeatures,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        memory: RefAVSMemory | None = None,
    ) -> RefAVSModelOutput:
        """The cues Q_m that prompt the mask queries, without the queries: Eq. 1 to 4; arguments as
        in `segment`."""
        expressions = count_expressions(clip_features, input_ids, text_features, clip_index)
        audio, visual = self._project_clips(clip_features)
        text_features, text_mask = self.encode_text(input_ids, attention_mask, text_features)
        text = None
        if text_features is not None:
            text = self.cue_projection.project_text(text_features)
        audio, visual = (of_expressions(tokens, clip_index) for tokens in (audio, visual))
        clips = clip_features.of_expressions(clip_index)
        cues, cue_mask, segments, memory = self._gather_cues(
            audio, visual, text, text_mask, clips, memory
        )
        alignment_logits = None
        if self.alignment is not None:
            of_wanted = partial(of_steps, step_index=clips.step_index)
            alignment_logits = self.alignment(
                of_wanted(visual),
                text,
                text_mask,
                None if audio is None else of_wanted(audio),
                None if audio is None else of_wanted(clips.audio_mask),
            )
        named = None
        if self.naming is not None:
            named = self.naming.read(text_features, text_mask)
        cues, cue_mask = (value.unflatten(0, (expressions, -1)) for value in (cues, cue_mask))
        return RefAVSModelOutput(
            cue_hidden_states=cues,
            visual_cues=cues[..., segments["visual"], :],
            alignment_logits=alignment_logits,
            named_classes=named,
            cue_mask=cue_mask.long(),
            memory=memory,
        )

    @capture_outputs
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        memory: RefAVSMemory | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        **inputs: Unpack[RefAVSInputs],
    ) -> RefAVSModelOutput:
        """`encode_clips`, then `segment`; see [`RefAVSInputs`].

        Args:
            output_hidden_states, output_attentions: of these hooks keep what [`RefAVSModelOutput`]
                holds; attentions with `attn_implementation="eager"` alone.
        """
        clip_inputs, text_inputs = split_inputs(inputs)
        clip_features = self.encode_clips(pixel_values, **clip_inputs)
        return self.segment(clip_features, **text_inputs, memory=memory)

    def _gather_cues(
        self,
        audio: torch.Tensor | None,
        visual: torch.Tensor,
        text: torch.Tensor | None,
        text_mask: torch.Tensor | None,
        clips: RefAVSClipFeatures,
        memory: RefAVSMemory | None,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, slice], RefAVSMemory]:
        """F'_A, F'_V, F'_T to Q_m: Eq. 1 to 4. Everything but the memory works on `(E*T, tokens,
        D)`; after it the steps
        whose masks are wanted go on alone."""
        steps = visual.shape[:2]

        def wanted(tokens: torch.Tensor | None) -> torch.Tensor | None:
            if tokens is None or clips.step_index is None:
                return tokens
            return of_steps(tokens.unflatten(0, steps), clips.step_index).flatten(0, 1)

        if text is not None:
            text = text.repeat_interleave(
                steps[1], dim=0
            )  # (E, L, D) -> (E*T, L, D): the same at every step
            text_mask = text_mask.repeat_interleave(steps[1], dim=0)
        text_cues = [text]
        audio_mask = audio_memory = past_audio = None
        if audio is not None:
            audio_mask = clips.audio_mask.flatten().unsqueeze(1)  # (E, T) -> (E*T, 1)
            audio, text_of_audio = self.audio_fusion(
                audio.flatten(0, 1), text, audio_mask, text_mask
            )
            audio, past_audio, audio_memory = self._recall(
                audio.unflatten(0, steps), clips.audio_mask, memory and memory.audio
            )
            text_cues.append(text_of_audio)
        visual, text_of_visual = self.visual_fusion(visual.flatten(0, 1), text, text_mask=text_mask)
        visual, _, visual_memory = self._recall(
            visual.unflatten(0, steps), clips.frame_mask, memory and memory.visual
        )
        text_cues.append(text_of_visual)
        text = None if text is None else torch.stack(text_cues).mean(dim=0)  # Q_T
        inputs = (audio, visual, text, audio_mask, text_mask, past_audio)
        cues, cue_mask, segments = self.integration(*map(wanted, inputs))
        return cues, cue_mask, segments, RefAVSMemory(audio_memory, visual_memory)

    def _recall(
        self, cues: torch.Tensor, step_mask: torch.Tensor, memory: RefAVSCueMemory | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, RefAVSCueMemory | None]:
        """Q_M and C_M, steps as rows again, and what is remembered."""
        if not self.config.use_cached_memory:
            return cues.flatten(0, 1), None, None
        cues, past, memory = self.cached_memory(cues, step_mask, memory)
        return cues.flatten(0, 1), past.flatten(0, 1), memory

    def _decode_pixels(self, stages: Sequence[torch.Tensor]) -> RefAVSPixels:
        """What Mask2Former's pixel decoder makes of the four stages, `(clips * frames, ...)`
        each."""
        return self.mask2former.decode_pixels([stage.flatten(0, 1) for stage in stages])

    def _project_clips(self, clips: RefAVSClipFeatures) -> tuple[torch.Tensor | None, torch.Tensor]:
        audio = (
            self.cue_projection.project_audio(clips.audio_features)
            if self.config.use_audio_cues
            else None
        )
        return audio, self.cue_projection.project_frames(clips.frame_features)


class RefAVSForSegmentation(RefAVSVideoSessionMixin, RefAVSPreTrainedModel):
    """EEMC: frames, sound and sentences in; one mask a frame out for every sentence."""

    def __init__(self, config: RefAVSConfig):
        super().__init__(config)
        self.model = RefAVSModel(config)
        self.class_predictor = nn.Linear(config.hidden_size, 2)  # the referred object, or nothing
        self.cue_predictor = (
            RefAVSGroundingHead(config) if config.grounding_config.loss_weight else None
        )
        self.loss_names = ("loss_mask", "loss_dice", "loss_cross_entropy")
        if self.cue_predictor is not None:
            self.loss_names += ("loss_cue",)
        self.object_predictor = self.clip_predictor = None
        if config.has_object_head:
            channels = self.model.vision_encoder.channels[-1]
            self.object_predictor = RefAVSObjectHead(config, channels)
            self.clip_predictor = RefAVSClipHead(config)
            self.loss_names += ("loss_object",)
        self.iou_predictor = None
        if config.grounding_config.use_iou_head:
            self.iou_predictor = RefAVSIoUHead(config)
            self.loss_names += ("loss_iou",)
        self.post_init()

    def encode_clips(self, *args, **kwargs) -> RefAVSClipFeatures:
        """Once a clip: see [`RefAVSModel.encode_clips`]."""
        return self.model.encode_clips(*args, **kwargs)

    def find_objects(self, clip_features: RefAVSClipFeatures) -> tuple[RefAVSObjects, torch.Tensor]:
        """What the queries show whatever is asked, a row for each frame of each clip, and their
        `masks_queries_logits (rows, num_queries, h, w)`.

        Raises:
            ValueError: CATF has learned to change the queries by what is asked.
        """
        if self.model.catf.changes_queries:
            raise ValueError("the model's queries follow what is asked: its CATF is trained")
        levels, pixels = clip_features.multi_scale_features, clip_features.mask_features
        decoder = self.model.mask2former.transformer_module
        queries = decoder.start_queries(pixels.shape[0] * pixels.shape[1], pixels.device)
        states, masks = decoder(queries, levels, pixels)
        frames = of_steps(clip_features.frame_features, clip_features.step_index)
        tokens = self.model.cue_projection.pool_frames(frames).flatten(0, 1)
        return describe_objects(masks, self.class_predictor(states[-1]), tokens), masks

    def segment(
        self,
        clip_features: RefAVSClipFeatures,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        clip_index: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        mask_labels: torch.Tensor | None = None,
        memory: RefAVSMemory | None = None,
        loss_counts: RefAVSLossCounts | None = None,
    ) -> RefAVSSegmentationOutput:
        """Once a sentence: see [`RefAVSModel.segment`].

        Args:
            mask_labels: `(expressions, frames, h, w)` in [0, 1], of any size; all 0 in a frame
                without the object. With `step_index`, of its frames.
            loss_counts: what the loss is a mean over, if this is one of several calls before an
                update.
        """
        if self.object_predictor is not None:
            count_expressions(clip_features, input_ids, text_features, clip_index)
            text_features, attention_mask = self.model.encode_text(
                input_ids, attention_mask, text_features
            )
            input_ids = None
        outputs = self.model.segment(
            clip_features, input_ids, attention_mask, clip_index, text_features, memory
        )
        frame_mask = of_steps(
            of_expressions(clip_features.frame_mask, clip_index), clip_features.step_index
        )
        evidence = self._gather_evidence(outputs, clip_features, clip_index)
        class_logits = [self.class_predictor(states) for states in outputs.query_hidden_states]
        loss = parts = chosen_logits = None
        if self.object_predictor is not None:
            object_logits, chosen_logits = self._choose_objects(
                outputs, evidence, clip_features, clip_index, text_features, attention_mask, memory
            )
        if mask_labels is not None:
            loss, parts = self._compute_loss(
                outputs, class_logits, evidence, mask_labels, frame_mask, loss_counts
            )
            if chosen_logits is not None:
                loss_object = self._object_loss(
                    outputs, object_logits, mask_labels, frame_mask, loss_counts
                )
                loss, parts["loss_object"] = loss + loss_object, loss_object.detach()
        masks_queries_logits = outputs.masks_queries_logits.unflatten(0, frame_mask.shape)
        if chosen_logits is None:
            bias = self.config.grounding_config.object_score_bias
            class_logits = evidence.add_to(class_logits[-1], outputs.masks_queries_logits)
            referred, nothing = class_logits.unflatten(0, frame_mask.shape).unbind(-1)
            class_queries_logits = torch.stack([referred + bias, nothing], dim=-1)
            mask_logits, presence_logits = combine_queries(
                masks_queries_logits, class_queries_logits
            )
        else:
            chosen_logits = chosen_logits.unflatten(0, frame_mask.shape)
            class_queries_logits = object_scores(chosen_logits)
            pictures = of_expressions(clip_features.pictures, clip_index)
            mask_logits, presence_logits = choose_query(
                masks_queries_logits, chosen_logits, pictures
            )
        iou_scores = None
        if self.iou_predictor is not None:
            queries = (masks_queries_logits, class_queries_logits)
            iou_scores = self.iou_predictor(*queries, mask_logits, presence_logits)
            iou_scores = iou_scores.masked_fill(~frame_mask, 0.0)
            if loss is not None:
                loss_iou = iou_criterion(
                    iou_scores, mask_logits, mask_labels, frame_mask, loss_counts
                )
                loss, parts["loss_iou"] = loss + loss_iou, loss_iou.detach()
        lowest = torch.finfo(mask_logits.dtype).min  # in a frame that is only padding
        return RefAVSSegmentationOutput(
            loss=loss,
            mask_logits=mask_logits.masked_fill(~frame_mask[..., None, None], lowest),
            presence_logits=presence_logits.masked_fill(~frame_mask, lowest),
            masks_queries_logits=masks_queries_logits,
            class_queries_logits=class_queries_logits,
            iou_scores=iou_scores,
            loss_parts=parts,
            cue_hidden_states=outputs.cue_hidden_states,
            cue_mask=outputs.cue_mask,
            memory=outputs.memory,
        )

    @capture_outputs
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
        memory: RefAVSMemory | None = None,
        loss_counts: RefAVSLossCounts | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | None = None,
        inference_session: RefAVSVideoInferenceSession | None = None,
        frame: Any = None,
        audio: Any = None,
    ) -> RefAVSSegmentationOutput | RefAVSVideoSegmentationOutput:
        """`encode_clips`, then `segment`.

        Args:
            output_hidden_states, output_attentions: see [`RefAVSModel.forward`].
            pixel_values, ...: see [`RefAVSInputs`]; written out here, since transformers reads the
                names of a model's inputs from its signature.
            mask_labels, loss_counts: see `segment`.
            inference_session, frame, audio: in place of all others, the next step of a session of
                `processor.init_video_session`: see [`RefAVSVideoInferenceSession.step`].
        """
        if inference_session is not None:
            return inference_session.step(self, frame, audio)
        clip_features = self.encode_clips(
            pixel_values,
            input_features,
            input_features_mask,
            frame_mask,
            audio_features,
            vision_features,
            frame_features,
            step_index,
        )
        return self.segment(
            clip_features,
            input_ids,
            attention_mask,
            clip_index,
            text_features,
            mask_labels,
            memory,
            loss_counts,
        )

    def _gather_evidence(
        self,
        outputs: RefAVSModelOutput,
        clip_features: RefAVSClipFeatures,
        clip_index: torch.Tensor | None,
    ) -> RefAVSEvidence:
        config = self.config.grounding_config
        evidence = RefAVSEvidence(
            grounding_weight=config.grounding_weight,
            naming=self.model.naming,
        )
        if self.cue_predictor is not None:
            evidence.grounding_logits = self.cue_predictor(outputs).flatten(0, 1)
        if evidence.naming is not None:
            frames = of_steps(clip_features.frame_features, clip_features.step_index)
            pooled = self.model.cue_projection.pool_frames(frames)
            evidence.frame_tokens = of_expressions(pooled, clip_index).flatten(0, 1)
            evidence.named_classes = outputs.named_classes.repeat_interleave(frames.shape[1], dim=0)
        return evidence

    def _choose_objects(
        self,
        outputs: RefAVSModelOutput,
        evidence: RefAVSEvidence,
        clip_features: RefAVSClipFeatures,
        clip_index: torch.Tensor | None,
        text_features: torch.Tensor,
        text_mask: torch.Tensor,
        memory: RefAVSMemory | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of [`RefAVSObjectHead`] for each frame of each expression, the choice among
        queries weighed by what the cues point at and, as far as the expression asks for it, by
        the sound: of each frame by itself, which are what is learned, and of one object for all,
        but that another may sound later. What is remembered goes into the memory of `outputs`."""
        objects = describe_objects(
            outputs.masks_queries_logits,
            self.class_predictor(outputs.query_hidden_states[-1]),
            evidence.frame_tokens,
        )
        projection, naming = self.model.cue_projection, self.model.naming

        def of_frames(values: torch.Tensor) -> torch.Tensor:
            frames = of_steps(of_expressions(values, clip_index), clip_features.step_index)
            return frames.flatten(0, 1)

        head, heard = self.object_predictor, clip_features.audio_features
        sound = RefAVSMeaning(
            of_frames(projection.audio(heard) + head.audio(heard)),
            of_frames(naming.find_makers(heard)),
            of_frames(clip_features.audio_mask),
            of_frames(naming.hear(heard)),
        )
        frames = len(sound.mask) // len(text_features)
        words = RefAVSMeaning(
            projection.project_text(text_features),
            naming.name(text_features),
            text_mask,
            naming.read_verbs(text_features, text_mask),
        )
        words = RefAVSMeaning(*(part.repeat_interleave(frames, 0) for part in vars(words).values()))
        visual = projection.visual(objects.shown) + head.visual(objects.shown)
        classes = naming.classify(objects.shown)
        shared = share(objects, classes)
        frame_mask = of_frames(clip_features.frame_mask).unflatten(0, (-1, frames))
        is_first = frame_mask
        if (step_index := clip_features.step_index) is not None:  # a step may have several frames
            start = torch.ones_like(step_index[:1], dtype=torch.bool)
            is_first = is_first & torch.cat([start, step_index[1:] != step_index[:-1]])
        meaning = RefAVSMeaning(visual, shared)
        known = memory and memory.objects
        history, after = remember(objects.facts, meaning, sound, is_first, known)
        likenesses = compare(RefAVSMeaning(visual, classes), shared, words, sound)
        text_features = text_features.repeat_interleave(frames, dim=0)
        read = (text_features, words.mask, sound.projected, sound.mask)
        logits, seen = head(objects, history, likenesses, *read)
        expression = normalise(mean_token(words.projected, words.mask))
        gates = self.model.alignment.gates(expression)
        pointed = evidence.grounding_logits.unsqueeze(-1)
        pointed = pool_under_masks(outputs.masks_queries_logits, pointed).squeeze(-1)
        pointed = self.config.grounding_config.grounding_weight * pointed
        logits = weigh_choice(logits, pointed + gates[:, 1:] * likenesses.sounding())
        chosen, after.claims = self.clip_predictor.choose(
            expression[::frames],
            visual,
            objects.facts,
            claim_objects(logits, seen, likenesses.verbs),
            frame_mask,
            is_first,
            fade(gates[::frames, 1]),
            self.config.grounding_config.object_score_bias,
            known and known.claims,
        )
        outputs.memory = RefAVSMemory(outputs.memory.audio, outputs.memory.visual, after)
        return logits, chosen

    def _object_loss(
        self,
        outputs: RefAVSModelOutput,
        object_logits: torch.Tensor,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts | None,
    ) -> torch.Tensor:
        """The criterion of the object head on every real frame."""
        real = frame_mask.flatten()
        masks, labels = outputs.masks_queries_logits[real], mask_labels.flatten(0, 1)[real]
        iou = mask_iou(masks, labels.unsqueeze(1).expand(-1, masks.shape[1], -1, -1))
        shown = labels.flatten(1).any(dim=1)
        return object_criterion(object_logits[real].float(), iou * shown[:, None], shown, counts)

    def _compute_loss(
        self,
        outputs: RefAVSModelOutput,
        class_logits: list[torch.Tensor],
        evidence: RefAVSEvidence,
        mask_labels: torch.Tensor,
        frame_mask: torch.Tensor,
        counts: RefAVSLossCounts | None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The criterion on every real frame of every sentence, summed over the layers of the
        decoder; in float32."""
        if mask_labels.shape[:2] != frame_mask.shape:
            raise ValueError(
                "mask_labels must be (expressions, frames, h, w) with "
                f"{tuple(frame_mask.shape)} (expressions, frames), got {tuple(mask_labels.shape)}"
            )
        config = self.config.mask2former_config
        real = frame_mask.flatten()
        if not torch.compiler.is_compiling() and real.all():
            real = slice(None)  # which copies nothing
        labels = mask_labels.flatten(0, 1)[real]
        evidence = evidence.of_rows(real)
        layers = list(zip(outputs.query_hidden_states, class_logits, strict=True))
        if not config.use_auxiliary_loss:
            layers = layers[-1:]
        layers = [
            self._layer_loss(outputs, *layer, evidence, real, labels, counts) for layer in layers
        ]
        parts = {name: sum(layer[name] for layer in layers) for name in layers[0]}
        if evidence.grounding_logits is not None:
            parts["loss_cue"] = self.config.grounding_config.loss_weight * grounding_criterion(
                evidence.grounding_logits, labels, counts
            )
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}

    def _layer_loss(
        self,
        outputs: RefAVSModelOutput,
        states: torch.Tensor,
        classes: torch.Tensor,
        evidence: RefAVSEvidence,
        real: torch.Tensor | slice,
        labels: torch.Tensor,
        counts: RefAVSLossCounts | None,
    ) -> dict[str, torch.Tensor]:
        """The criterion on one layer's queries. All masks are matched, and the matched one of each
        frame is learned: it alone is
        made once more with a gradient."""
        decoder, pixels = self.model.mask2former.transformer_module, outputs.mask_features

        def predict(best: torch.Tensor) -> torch.Tensor:
            chosen = torch.zeros(len(states), dtype=torch.long, device=best.device)
            chosen[real] = best
            return decoder.predict_masks(states, pixels, chosen)[real]

        with torch.no_grad():
            masks = decoder.predict_masks(states, pixels)[real]
        classes = evidence.add_to(classes[real], masks)
        return set_criterion(
            masks, classes, labels, self.config.mask2former_config, counts, predict
        )


RefAVSModel.register_for_auto_class("AutoModel")
RefAVSForSegmentation.register_for_auto_class("AutoModel")


__all__ = ["RefAVSForSegmentation", "RefAVSModel", "RefAVSPreTrainedModel"]
