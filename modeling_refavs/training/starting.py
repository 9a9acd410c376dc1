"""The model and the processor that a training starts with."""

import json
from collections.abc import Sequence

from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaTokenizer, ViTImageProcessorPil

from ..configuration_refavs import RefAVSConfig
from ..feature_extraction_refavs import RefAVSFeatureExtractor
from ..modeling_refavs import RefAVSForSegmentation, RefAVSPreTrainedModel
from ..modeling_refavs_stages import RefAVSForCueAlignment, RefAVSForCueLocalization
from ..processing_refavs import RefAVSProcessor
from .arguments import ModelArguments


KINDS = {"alignment": RefAVSForCueAlignment, "cues": RefAVSForCueLocalization, "masks": RefAVSForSegmentation}
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def start_model(arguments: ModelArguments, sentences: Sequence[str]) -> tuple[RefAVSPreTrainedModel, RefAVSProcessor]:
    """
    Args:
        arguments: a saved model, pretrained parts, or a configuration whose weights are drawn at random.
        sentences: of the training, which a tokenizer is made from where there is none.

    Raises:
        ValueError: something cannot be loaded, or is no field of the configuration.
    """
    kind = KINDS[arguments.stage]
    parts = {name: getattr(arguments, name) for name in ("mask2former", "text_model", "vggish")}
    try:
        if arguments.model:
            from .. import auto  # noqa: F401, a saved folder carries code too: the installed one is meant

            model = kind.from_pretrained(arguments.model)
            return model, RefAVSProcessor.from_pretrained(arguments.model)
        if arguments.mask2former:
            model = kind.from_backbones(**parts, **arguments.config)
            processor = RefAVSProcessor.from_backbones(
                arguments.mask2former,
                arguments.text_model,
                arguments.image_size,
                max_text_length=arguments.max_text_length,
                sentence_case=arguments.sentence_case,
            )
            return model, processor
    except OSError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"the model to start from cannot be loaded: {reason}") from error
    return _random_model(kind, arguments, sentences)


def _random_model(
    kind: type[RefAVSPreTrainedModel], arguments: ModelArguments, sentences: Sequence[str]
) -> tuple[RefAVSPreTrainedModel, RefAVSProcessor]:
    model = kind(RefAVSConfig(**arguments.config))
    size = {"height": arguments.image_size, "width": arguments.image_size}
    processor = RefAVSProcessor(
        ViTImageProcessorPil(size=size),
        RefAVSFeatureExtractor(),
        make_tokenizer(sentences, model.config.text_config.vocab_size),
        max_text_length=arguments.max_text_length,
        sentence_case=arguments.sentence_case,
    )
    return model, processor


def make_tokenizer(sentences: Sequence[str], vocabulary: int) -> RobertaTokenizer:
    """A byte-level BPE of these sentences, in RoBERTa's form."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        sentences, vocabulary, min_frequency=1, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(merge) for merge in merges])
