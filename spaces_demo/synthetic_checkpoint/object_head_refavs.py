"""Ours, not the paper's: which of the masks shows the object that the expression means, if any.

Mask2Former's queries find the objects of a frame whatever is asked, where CATF (Eq. 5) has not
learned to change them. The object head reads these objects together with the words and the sound
of the step: a small transformer whose attention takes in how one lies to the other, how surely it
is what a word names, and how near it is to the sound. It sees what an object is only by these
likenesses, so that kinds which it never learned from are judged as others are. The expression also
weighs the measures of an object by itself ("the leftmost": the smaller x, the likelier).
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .eemc import RefAVSObjectMemory
from .encoders_refavs import audio_size
from .grounding_refavs import mask_stability, mean_token, normalise, pool_under_masks
from .loss_refavs import RefAVSLossCounts
from .mask_refinement_refavs import refine_masks


SMALLEST = 1e-4  # share of the frame, below which a mask shows nothing
NUM_FACTS = 10  # of an object, see `describe_objects`
NUM_RELATIONS = 9  # of two objects, see `relate`
NUM_LIKENESSES = 14  # of an object, see `RefAVSObjectHead._measure`
NUM_HISTORY = 14  # of an object, see `remember`
TRACKED = 8  # numbers of an object that `follow` remembers beside F'_V
SAME_OBJECT = 0.2  # of the likeness of two steps' objects less how far they are apart
LEAST_SURE = 2e-4, 1e-2  # that an object is what is named, or what sounds: logarithms end there
MAKING, LEAST_MAKING = 1.5, 1e-3  # how much that an object makes the sound counts in its evidence
LEAST_HEARD = 1e-3  # of a sound: the logarithm ends there
LEAST_OWN = 1e-4  # of a query that no other overlaps and that shows no object
BARRED = -1e4  # a logit


@dataclass
class RefAVSObjects:
    """What the queries of each frame show, before any expression is asked.

    Args:
        shown: F_V under each mask, `(rows, num_queries, C)`.
        facts: `(rows, num_queries, 10)`, see [`describe_objects`].
        overlaps: `(rows, num_queries, num_queries, 2)`, of each mask with each other their IoU and
            the first one's share inside the other.
    """

    shown: torch.Tensor
    facts: torch.Tensor
    overlaps: torch.Tensor


@dataclass
class RefAVSMeaning:
    """What objects, words or sounds mean: a row for each frame of each expression.

    Args:
        projected: in the shared space, F'_V `(rows, num_queries, D)` of objects, F'_T `(rows, L,
            D)` of words, F'_A `(rows, D)` of sounds.
        classes: by the vocabulary of [`RefAVSNamingHead`], `(..., classes)`: the probabilities of
            what an object is, how surely a word names each class, how surely each makes the sound.
        mask: which words are real, `(rows, L)`, or which steps have sound, `(rows,)`.
        sounds: how surely the words are of each sound, or it is heard, `(rows, sound_classes)`.
    """

    projected: torch.Tensor
    classes: torch.Tensor
    mask: torch.Tensor | None = None
    sounds: torch.Tensor | None = None


def describe_objects(
    masks_queries_logits: torch.Tensor, class_logits: torch.Tensor, frame_tokens: torch.Tensor
) -> RefAVSObjects:
    """Ten facts of each mask: the root of its share of the frame; its middle, x and y; its left,
    right, upper and lower end, all as shares of the frame's sides; its stability; its mean
    probability; and how surely it shows an object at all.

    Args:
        masks_queries_logits: `(rows, num_queries, h, w)`.
        class_logits: of the queries themselves, `(rows, num_queries, 2)`.
        frame_tokens: F_V `(rows, tokens, C)`.
    """
    height, width = masks_queries_logits.shape[-2:]
    # half precision cannot count pixels
    wide = torch.promote_types(masks_queries_logits.dtype, torch.float32)
    inside = (masks_queries_logits > 0).to(wide)
    size = inside.sum((-1, -2)).clamp(min=1)
    columns, rows = inside.amax(-2), inside.amax(-1)
    x = torch.linspace(0, 1, width, device=inside.device, dtype=inside.dtype)
    y = torch.linspace(0, 1, height, device=inside.device, dtype=inside.dtype)
    facts = [
        inside.mean((-1, -2)).sqrt(),
        (inside.sum(-2) * x).sum(-1) / size,
        (inside.sum(-1) * y).sum(-1) / size,
        torch.where(columns > 0, x, 1.0).amin(-1),
        torch.where(columns > 0, x, 0.0).amax(-1),
        torch.where(rows > 0, y, 1.0).amin(-1),
        torch.where(rows > 0, y, 0.0).amax(-1),
        mask_stability(masks_queries_logits).to(wide),
        (masks_queries_logits.sigmoid() * inside).sum((-1, -2)) / size,
        class_logits[..., 0] - class_logits[..., 1],
    ]
    pixels = inside.flatten(2)
    both = pixels @ pixels.transpose(1, 2)
    either = size[:, :, None] + size[:, None] - both
    overlaps = torch.stack([both / either, both / size[:, :, None]], dim=-1)
    shown = pool_under_masks(masks_queries_logits, frame_tokens)
    facts = torch.stack(facts, dim=-1).to(shown.dtype)
    return RefAVSObjects(shown, facts, overlaps.to(shown.dtype))


def share(objects: RefAVSObjects, classes: torch.Tensor) -> torch.Tensor:
    """The mean of what queries show, `(rows, num_queries, classes)`, over those that overlap each
    or hold it, weighed by how surely they show an object at all: masks of nothing, which may look
    like anything, count for little."""
    iou, share = objects.overlaps.unbind(-1)
    weights = iou.square() + share.square() / 2
    weights = weights * (2 * objects.facts[:, None, :, -1]).sigmoid()
    own = LEAST_OWN * torch.eye(weights.shape[-1], device=weights.device, dtype=weights.dtype)
    weights = weights + own
    return (weights / weights.sum(-1, keepdim=True)) @ classes


def relate(objects: RefAVSObjects) -> torch.Tensor:
    """How each object lies to each other, `(rows, num_queries, num_queries, 9)`: the differences of
    their middles, x and y, and sizes, the gaps between their ends, and how they overlap."""
    size, x, y, left, right, upper, lower = objects.facts[..., :7].unbind(-1)

    def less(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return one[:, :, None] - other[:, None]

    iou, share = objects.overlaps.unbind(-1)
    places = [2 * less(x, x), 2 * less(y, y), 4 * less(size, size)]
    gaps = [less(left, right), less(right, left), less(upper, lower)]
    return torch.stack([*places, *gaps, iou, share, share.transpose(1, 2)], dim=-1)


def follow(
    visual: torch.Tensor, facts: torch.Tensor, tracks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each object has done since it was first seen. It is taken for that object of the step
    before which it is most like, where they are not too far apart.

    Args:
        visual: F'_V of the objects of one step, `(rows, num_queries, D)`.
        facts: see [`describe_objects`], `(rows, num_queries, 10)`.
        tracks: of the step before, `(rows, num_queries, D + 8)`, all 0 if there is none.

    Returns:
        `(rows, num_queries, 6)`: the mean change of its middle from step to step, x and y, the mean
        size of these changes, for how many steps it has been seen before, and how surely it is the
        object of the step before; and the tracks after this step.
    """
    visual, place = normalise(visual), facts[..., :3]
    size = visual.shape[-1]
    before, known = tracks[..., :size], tracks[..., size : size + 3]
    apart = (place[:, :, None] - known[:, None]).abs().sum(-1)
    likeness = visual @ before.transpose(1, 2) / size - apart
    likeness = likeness.masked_fill(known[:, None, :, 0].square() <= SMALLEST, -1.0)
    likeness, same = likeness.max(-1)
    found = (likeness > SAME_OBJECT) & (place[..., 0].square() > SMALLEST)
    found = found[..., None].to(visual.dtype)
    past = tracks[..., size:].take_along_dim(same[..., None], dim=1)
    change = place[..., 1:] - past[..., 1:3]
    sums = found * (past[..., 3:] + torch.cat([change, change.abs(), torch.ones_like(found)], -1))
    age = sums[..., 4:]
    sure = found * likeness[..., None]
    changes = torch.cat([5 * sums[..., :4] / age.clamp(min=1), age / 5, sure], dim=-1)
    return changes, torch.cat([visual, place, sums], dim=-1)


def hear(
    objects: RefAVSMeaning, sound: RefAVSMeaning, heard: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How near each object is to the first sound and to the mean of all sounds up to this step, and
    how surely it makes them.

    Args:
        objects, sound: of one step; the objects' classes by [`share`].
        heard: up to the step before, `(rows, 2, D + classes + 1)`: the first sound and the sum of
            all, with their number.

    Returns:
        `(rows, num_queries, 8)`: of both sounds the likeness and the sureness, each followed by how
        far it is below the best; and what is heard up to this step.
    """
    mask = sound.mask[:, None].to(sound.projected.dtype)
    now = torch.cat([normalise(sound.projected) * mask, sound.classes * mask, mask], dim=1)
    first = torch.where(heard[:, :1, -1] > 0, heard[:, 0], now)
    heard = torch.stack([first, heard[:, 1] + now], dim=1)
    number, size = heard[..., -1:], sound.projected.shape[-1]
    sounds = normalise(heard[..., :size]) * (number > 0).to(heard.dtype)
    likeness = normalise(objects.projected) @ sounds.transpose(1, 2) / size**0.5
    makers = heard[..., size:-1] / number.clamp(min=1)
    values = torch.cat([likeness, objects.classes @ makers.transpose(1, 2)], dim=-1)
    near = [part for one in values.unbind(-1) for part in (one, less_best(one))]
    return torch.stack(near, dim=-1), heard


def remember(
    facts: torch.Tensor,
    objects: RefAVSMeaning,
    sound: RefAVSMeaning,
    is_first: torch.Tensor,
    memory: RefAVSObjectMemory | None = None,
) -> tuple[torch.Tensor, RefAVSObjectMemory]:
    """[`follow`] and [`hear`] frame after frame.

    Args:
        facts: of the objects, see [`describe_objects`].
        objects, sound: the objects' classes by [`share`].
        is_first: which frames are the first of a step, `(expressions, frames)`. They alone are
            remembered, and the others of the step are compared with the step before, as they are;
            padding is the first of none.
        memory: what the steps before left.

    Returns:
        `(rows, num_queries, 14)`, and the memory after the last step.
    """
    shape, history = is_first.shape, []
    # half precision cannot count the steps of a long video
    wide = torch.promote_types(facts.dtype, torch.float32)
    values = (objects.projected, objects.classes, facts, sound.projected, sound.classes)
    values = [value.to(wide).unflatten(0, shape) for value in values]
    if memory is None:
        queries, size = objects.projected.shape[1:]
        start, sounds = values[0].new_zeros, size + objects.classes.shape[-1] + 1
        memory = RefAVSObjectMemory(
            start(shape[0], queries, size + TRACKED), start(shape[0], 2, sounds)
        )
    before = after = memory.tracks, memory.heard
    audible = sound.mask.unflatten(0, shape)
    for step, first in enumerate(is_first.unbind(1)):
        visual, classes, places, audio, makers = (value[:, step] for value in values)
        first = first[:, None, None]
        before = [torch.where(first, *both) for both in zip(after, before, strict=True)]
        changes, tracks = follow(visual, places, before[0])
        now = RefAVSMeaning(audio, makers, audible[:, step])
        near, heard = hear(RefAVSMeaning(visual, classes), now, before[1])
        after = [torch.where(first, *both) for both in zip((tracks, heard), after, strict=True)]
        history.append(torch.cat([changes, near], dim=-1))
    history = torch.stack(history, dim=1).flatten(0, 1).to(facts.dtype)
    return history, RefAVSObjectMemory(*after)


@dataclass
class RefAVSLikenesses:
    """How near objects, words and sound are to one another; a row for each frame of each
    expression.

    Args:
        names: how surely each object is what each word names, `(rows, num_queries, L)`.
        words: how near each is to each word in the shared space, `(rows, num_queries, L)`;
        expression: and to the mean of the words, `(rows, num_queries)`.
        sound: how near each object is to the sound, `(rows, num_queries)`, 0 where there is none;
        word_sound: and each word, `(rows, L)`.
        makes: how surely each object is of a kind that makes the sound, `(rows, num_queries)`;
        word_makes: and each word names one, `(rows, L)`.
        certainty: of what each object is, the highest probability of a class and the entropy of
            all, `(rows, num_queries, 2)`.
        verbs: how surely some word is of a sound, and that such a sound is heard, a logarithm,
            `(rows, 2)`.
    """

    names: torch.Tensor
    words: torch.Tensor
    expression: torch.Tensor
    sound: torch.Tensor
    word_sound: torch.Tensor
    makes: torch.Tensor
    word_makes: torch.Tensor
    certainty: torch.Tensor
    verbs: torch.Tensor

    def sounding(self) -> torch.Tensor:
        """Evidence that each object makes the sound, `(rows, num_queries)`."""
        return self.sound + MAKING * self.makes.clamp(min=LEAST_MAKING).log()


def compare(
    objects: RefAVSMeaning, shared: torch.Tensor, words: RefAVSMeaning, sound: RefAVSMeaning
) -> RefAVSLikenesses:
    """Objects, of which `shared` is the classes by [`share`], with words, with the expression and
    with the sound, and words with the sound."""
    scale = objects.projected.shape[-1] ** -0.5
    visual, text = normalise(objects.projected), normalise(words.projected) * words.mask[..., None]
    mask = sound.mask[:, None].to(visual.dtype)
    audio, makers = normalise(sound.projected) * mask, (sound.classes * mask)[..., None]
    named = words.classes * words.mask[..., None]
    expression = normalise(mean_token(words.projected, words.mask))
    classes = objects.classes
    entropy = -torch.special.xlogy(classes, classes).sum(-1)
    said = words.sounds.amax(-1)
    heard = (words.sounds * sound.sounds * mask).amax(-1)
    heard = (heard / said.clamp(min=LEAST_HEARD)).clamp(min=LEAST_HEARD).log() / 4
    return RefAVSLikenesses(
        names=classes @ named.transpose(1, 2),
        words=scale * (visual @ text.transpose(1, 2)),
        expression=scale * (visual @ expression[..., None]).squeeze(-1),
        sound=scale * (visual @ audio[..., None]).squeeze(-1),
        word_sound=scale * (text @ audio[..., None]).squeeze(-1),
        makes=(shared @ makers).squeeze(-1),
        word_makes=(named @ makers).squeeze(-1) / makers.sum(1).clamp(min=1),
        certainty=torch.stack([classes.amax(-1), entropy / 5], dim=-1),
        verbs=torch.stack([said, said * heard], dim=-1),
    )


class RefAVSObjectLayer(nn.Module):
    """Self-attention with a bias for each pair of tokens, and feed-forward, each after a norm."""

    def __init__(self, size: int, num_heads: int, dropout: float):
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.input_projection = nn.Linear(size, 3 * size)
        self.output_projection = nn.Linear(size, size)
        self.feed_forward = nn.Sequential(
            nn.Linear(size, 2 * size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * size, size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """`(rows, S, D)`, and `(rows, heads, S, S)` that is added to the attention's logits."""
        projected = self.input_projection(self.attention_norm(tokens))
        heads = projected.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*heads, attn_mask=bias)
        attended = self.output_projection(attended.transpose(1, 2).flatten(2))
        tokens = tokens + self.dropout(attended)
        return tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))


def two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class RefAVSObjectHead(nn.Module):
    """A logit for each query, that its mask shows the referred object, and one that none does: one
    of them is true of a frame.

    `visual` and `audio` are what the head adds to F'_V and F'_A before it compares them, at first
    nothing. `whitening` of the F_T by which the expression weighs the measures, at first nothing
    too, brings out what tells "left" from "right", which to the text encoder are nearly the same.

    Args:
        visual_channels: of F_V.
    """

    def __init__(self, config: RefAVSConfig, visual_channels: int):
        super().__init__()
        size, num_heads = config.grounding_config.object_head_size, config.num_attention_heads
        words = config.text_config.hidden_size
        self.biases = config.num_cue_layers, num_heads

        self.visual = nn.Linear(visual_channels, config.hidden_size)
        self.audio = nn.Linear(audio_size(config.audio_config), config.hidden_size)
        self.whitening = nn.Linear(words, words)
        self.facts = two_layers(NUM_FACTS, size, size)
        self.likeness = two_layers(NUM_LIKENESSES, size, size)
        self.history = two_layers(NUM_HISTORY, size, size)
        self.named_words, self.like_words = nn.Linear(words, size), nn.Linear(words, size)
        self.words, self.expression = nn.Linear(words, size), nn.Linear(words, size)
        self.sound = two_layers(config.hidden_size + 1, size, size)
        self.kinds = nn.Embedding(4, size)  # object, word, sound, nothing
        biases = math.prod(self.biases)
        self.object_object = two_layers(NUM_RELATIONS, 32, biases)
        self.object_word = nn.Linear(3, biases)
        self.object_sound, self.word_sound = nn.Linear(4, biases), nn.Linear(2, biases)
        self.layers = nn.ModuleList(
            RefAVSObjectLayer(size, num_heads, config.dropout) for _ in range(config.num_cue_layers)
        )
        self.norm = nn.LayerNorm(size)
        self.object_output, self.nothing_output = nn.Linear(size, 1), nn.Linear(size, 1)
        self.direct = nn.Parameter(torch.ones(2))  # of names and likeness as they are
        self.asked = two_layers(words, size, NUM_FACTS + NUM_LIKENESSES + NUM_HISTORY)

    def forward(
        self,
        objects: RefAVSObjects,
        history: torch.Tensor,
        likenesses: RefAVSLikenesses,
        text_features: torch.Tensor,
        text_mask: torch.Tensor,
        audio: torch.Tensor,
        audio_mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            objects, history, likenesses: of each row, a frame of an expression; for `history (rows,
                num_queries, 14)` see [`remember`].
            text_features, text_mask: F_T `(rows, L, C)`, and which tokens are real.
            audio, audio_mask: F'_A `(rows, D)`, and which steps have sound `(rows,)`.

        Returns:
            `(rows, num_queries + 1)`, the last for nothing; and the likenesses of each object as
            they are measured, `(rows, num_queries, 14)`.
        """
        words, expression = text_features, mean_token(text_features, text_mask)
        length = text_mask.sum(1)[:, None, None].clamp(min=1).to(words.dtype)
        named = likenesses.names.amax(-1)
        facts = torch.cat([4 * objects.facts[..., :-1] - 2, objects.facts[..., -1:]], dim=-1)
        seen = self._measure(named, likenesses)
        things = self.facts(facts) + self.history(history) + self.likeness(seen)
        things = things + self.expression(expression)[:, None]
        things = things + (likenesses.names / length) @ self.named_words(words)
        things = things + (likenesses.words / length) @ self.like_words(words)
        heard = audio_mask[:, None].to(audio.dtype)
        sound = self.sound(torch.cat([normalise(audio) * heard, heard], dim=-1))
        nothing = self.kinds.weight[3].expand(len(sound), 1, -1)
        tokens = [things, self.words(words), sound[:, None]]
        tokens = [part + self.kinds.weight[kind] for kind, part in enumerate(tokens)]
        tokens = torch.cat([*tokens, nothing], dim=1)
        shows = objects.facts[..., 0].square() > SMALLEST
        real = [shows, text_mask.bool(), shows.new_ones(len(shows), 2)]
        bias = self._relate(objects, likenesses, tokens.shape[1])
        bias = bias.masked_fill(~torch.cat(real, dim=1)[:, None, None, None], BARRED)
        for layer, added in zip(self.layers, bias.unbind(1), strict=True):
            tokens = layer(tokens, added)
        tokens = self.norm(tokens)
        logits = self.object_output(tokens[:, : shows.shape[1]]).squeeze(-1)
        logits = logits + self.direct[0] * named + self.direct[1] * likenesses.expression
        weights = self.asked(self.whitening(expression))[..., None]
        asked = torch.cat([facts, history, seen], dim=-1) @ weights
        logits = logits + asked.squeeze(-1) - asked.mean(1)
        logits = logits.masked_fill(~shows, BARRED)
        return torch.cat([logits, self.nothing_output(tokens[:, -1])], dim=1), seen

    def _measure(self, named: torch.Tensor, likenesses: RefAVSLikenesses) -> torch.Tensor:
        """How surely an object is what the expression names and what makes the sound, both also as
        logarithms, and how near it is to the expression and to the sound, each also against the
        best; and how certain it is what it is, `(rows, num_queries, 14)`."""
        surely = (named, likenesses.makes)
        logarithms = (
            one.clamp(min=least).log() / 4 for one, least in zip(surely, LEAST_SURE, strict=True)
        )
        measures = (*surely, *logarithms, likenesses.expression, likenesses.sound)
        compared = [part for measure in measures for part in (measure, less_best(measure))]
        return torch.cat([torch.stack(compared, dim=-1), likenesses.certainty], dim=-1)

    def _relate(
        self, objects: RefAVSObjects, likenesses: RefAVSLikenesses, tokens: int
    ) -> torch.Tensor:
        """`(rows, layers, heads, tokens, tokens)`."""
        rows, queries, words = likenesses.names.shape
        sound = queries + words
        between = objects.facts.new_zeros(rows, tokens, tokens, math.prod(self.biases))
        between[:, :queries, :queries] = self.object_object(relate(objects))
        names = likenesses.names
        named = self.object_word(torch.stack([names, likenesses.words, less_best(names)], dim=-1))
        between[:, :queries, queries:sound] = named
        between[:, queries:sound, :queries] = named.transpose(1, 2)
        heard = (likenesses.sound, likenesses.makes)
        heard = torch.stack([part for one in heard for part in (one, less_best(one))], dim=-1)
        between[:, :queries, sound] = between[:, sound, :queries] = self.object_sound(heard)
        between[:, queries:sound, sound] = self.word_sound(
            torch.stack([likenesses.word_sound, likenesses.word_makes], dim=-1)
        )
        return between.permute(0, 3, 1, 2).unflatten(1, self.biases)


def less_best(values: torch.Tensor) -> torch.Tensor:
    """How far each is below the highest, over dimension 1."""
    return values - values.amax(1, keepdim=True)


def object_scores(logits: torch.Tensor) -> torch.Tensor:
    """`(..., num_queries + 1)`, of which one is true, to `(..., num_queries, 2)`: that a query
    shows the referred object, or that another does or none."""
    shown = logits.log_softmax(-1)[..., :-1]
    others = torch.log1p(-shown.exp().clamp(max=1 - 1e-6))
    return torch.stack([shown, others], dim=-1)


def weigh_choice(logits: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
    """`(rows, num_queries + 1)` with `evidence (rows, num_queries)` on the choice among queries;
    that any of them shows the object stays as likely."""
    objects = logits[:, :-1]
    weighed = objects + evidence
    weighed = weighed + (objects.logsumexp(1) - weighed.logsumexp(1))[:, None]
    return torch.cat([weighed, logits[:, -1:]], dim=1)


def choose_query(
    masks_queries_logits: torch.Tensor, logits: torch.Tensor, pictures: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask of the likeliest query, and whether any query shows the object: others that are
    likely show it too, or a part of it. A pixel is as sure as the less sure of the two.

    Args:
        masks_queries_logits: `(..., num_queries, h, w)`.
        logits: `(..., num_queries + 1)`.
        pictures: `(..., 3, h, w)`, by which [`refine_masks`] refines that mask; None: it does not.

    Returns:
        `mask_logits (..., h, w)` and `presence_logits (...)`.
    """
    likeliest = logits[..., :-1].argmax(-1)[..., None, None, None]
    masks = masks_queries_logits.take_along_dim(likeliest, dim=-3).squeeze(-3)
    if pictures is not None:
        refined = refine_masks(masks.flatten(0, -3), pictures.flatten(0, -4))
        masks = refined.view_as(masks)
    presence = logits[..., :-1].logsumexp(-1) - logits[..., -1]
    return torch.minimum(masks, presence[..., None, None]), presence


def object_criterion(
    logits: torch.Tensor,
    iou: torch.Tensor,
    shown: torch.Tensor,
    counts: RefAVSLossCounts | None = None,
) -> torch.Tensor:
    """Cross-entropy with the queries whose masks fit the referred object about as well as the best.
    A frame where none fits counts for nothing.

    Args:
        logits: `(rows, num_queries + 1)`.
        iou: of each mask with the object, `(rows, num_queries)`.
        shown: which rows show it, `(rows,)` bool.
        counts: of more rows than these, if an update is gathered from several calls; its frames
            are what the loss is a mean over, and else the frames that count.
    """
    best = iou.amax(1, keepdim=True)
    found = best.squeeze(1) > LEAST_IOU
    targets = (iou / best.clamp(min=LEAST_IOU)) ** SHARPNESS
    targets = targets / targets.sum(1, keepdim=True).clamp(min=1e-6)
    targets = torch.cat([targets * shown[:, None], (~shown)[:, None].to(targets)], dim=1)
    losses = -(targets * logits.log_softmax(-1)).sum(1)
    counted = ~shown | found
    total = counted.sum() if counts is None else counts.frames
    return losses[counted].sum() / total.clamp(min=1)


LEAST_IOU = 0.2  # of a mask that shows an object
SHARPNESS = 12  # an IoU of 0.9 of the best has the weight 0.9 ** 12 = 0.28


__all__ = [
    "RefAVSLikenesses",
    "RefAVSMeaning",
    "RefAVSObjectHead",
    "RefAVSObjects",
    "choose_query",
    "compare",
    "describe_objects",
    "follow",
    "hear",
    "object_criterion",
    "object_scores",
    "share",
    "weigh_choice",
]
