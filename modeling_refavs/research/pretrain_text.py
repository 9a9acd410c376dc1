"""A small RoBERTa that knows the benchmark's English, by masked language modelling as RoBERTa
itself was trained."""

import json
import re
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    Trainer,
    TrainingArguments,
)

from dataset_script.annotations import read_annotations
from dataset_script.synthetic.objects import CATEGORIES


VOCABULARY = (
    600  # tokens: 5 special ones, 256 bytes, and enough merges for every word of the benchmark
)
MASKED_SHARE = 0.25  # of the tokens
SWAPPED_SHARE = 0.5  # of the category words
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_CATEGORY = re.compile(rf"\b({'|'.join(CATEGORIES)})\b")


def read_sentences(tree: Path, split: str) -> list[str]:
    """The sentences of a split, in the order of metadata.csv."""
    sentences = [
        row.expression for row in read_annotations(tree / "metadata.csv").rows if row.split == split
    ]
    if not sentences:
        raise ValueError(
            f"{tree / 'metadata.csv'} holds no sentence of split {split}: nothing to learn words "
            "from"
        )
    return sentences


def swap_categories(sentence: str) -> str:
    """Half of a sentence's category words become another of the same super-category, unseen ones
    too.

    Harp, tambourine, drill and owl stand in no training sentence, but a RoBERTa has read of them:
    this tells the model that there are such words, and what kind of word each of them is. It tells
    nothing of what they look or sound like.
    """
    return _CATEGORY.sub(lambda match: _swap(match[0]), sentence)


def _swap(category: str) -> str:
    if torch.rand(()) >= SWAPPED_SHARE:
        return category
    kin = [
        name
        for name in CATEGORIES
        if CATEGORIES[name].super_category == CATEGORIES[category].super_category
    ]
    return kin[int(torch.randint(len(kin), ()))]


def train_tokenizer(sentences: list[str]) -> RobertaTokenizer:
    """Byte-level pairs of the sentences' words; each category counts as often as any other."""
    trained = ByteLevelBPETokenizer()
    texts = [*sentences, *(f"The {category}." for category in CATEGORIES for _ in range(100))]
    trained.train_from_iterator(
        texts, VOCABULARY, min_frequency=1, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    merges = json.loads(trained.to_str())["model"]["merges"]
    return RobertaTokenizer(vocab=trained.get_vocab(), merges=[tuple(merge) for merge in merges])


def make_config(tokenizer: RobertaTokenizer) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=40,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


class Sentences(torch.utils.data.Dataset):
    """Sentences as tokens; with `swap`, their category words are drawn anew each time."""

    def __init__(self, sentences: list[str], tokenizer: RobertaTokenizer, swap: bool):
        self.sentences, self.tokenizer, self.swap = sentences, tokenizer, swap

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        sentence = self.sentences[index]
        return dict(self.tokenizer(swap_categories(sentence) if self.swap else sentence))


def masked_accuracy(prediction) -> dict[str, float]:
    """Share of the masked tokens that are guessed: `predictions` and `label_ids (sentences,
    tokens)`, -100 unmasked."""
    masked = prediction.label_ids != -100
    return {
        "masked_accuracy": float((prediction.predictions == prediction.label_ids)[masked].mean())
    }


def pretrain_text(
    tree: Path, output: Path, arguments: TrainingArguments, resume: bool = False
) -> None:
    """Train on a synthetic tree's sentences and save a folder that `from_backbones(text_model=...)`
    takes."""
    sentences = read_sentences(tree, "train")
    tokenizer = train_tokenizer(sentences)
    torch.manual_seed(arguments.seed)
    model = RobertaForMaskedLM(make_config(tokenizer))
    trainer = Trainer(
        model,
        arguments,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED_SHARE),
        train_dataset=Sentences(sentences, tokenizer, swap=True),
        eval_dataset=Sentences(read_sentences(tree, "val"), tokenizer, swap=False),
        compute_metrics=masked_accuracy,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )
    trainer.train(resume_from_checkpoint=resume)
    scores = trainer.evaluate()
    if trainer.is_world_process_zero():
        model.roberta.save_pretrained(output)
        tokenizer.save_pretrained(output)
        kept = {name: round(scores[f"eval_{name}"], 4) for name in ("loss", "masked_accuracy")}
        (output / "scores.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
