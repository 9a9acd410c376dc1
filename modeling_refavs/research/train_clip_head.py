"""The clip head, after the object head: each sentence with what all frames of a clip say of the
objects that it may mean, which the object head as it is gives once."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from dataset_script.schema import NUM_FRAMES

from ..clip_head_refavs import RefAVSClipHead, RefAVSObjectsOverTime, claim_objects
from ..grounding_refavs import normalise
from ..object_head_refavs import BARRED, RefAVSLikenesses, weigh_choice


CANDIDATES = 6  # objects that a sentence may mean
AS_GOOD = 0.7  # of the IoU of the candidate that fits best, over the clip, from which one is right
LEAST_BEST = 0.4  # of that IoU: else a sentence counts for nothing
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 12, 256, 2e-3, 0.3
LEAST_DEVIATION = 1e-3
# Of what was learned on composites that much is added: with all of it J of 200 clips of `val` is
# 1.0 higher at N-acc 90, and that of natural photographs 0.05 to 0.08 lower
KEPT = 0.5
AT_ONCE = 32  # sentences


@dataclass
class Candidates:
    """The objects that sentences may mean, the likeliest first.

    Args:
        expression: the mean of F'_T, normalised, `(sentences, D)`.
        mean, over_time: see [`RefAVSObjectsOverTime`], `(sentences, CANDIDATES)` and `(..., 34)`; a
            mean is `BARRED` where there are fewer.
        right: which of them are meant, `(sentences, CANDIDATES)`.
        null: which sentences mean nothing, `(sentences,)`.
    """

    expression: torch.Tensor
    mean: torch.Tensor
    over_time: torch.Tensor
    right: torch.Tensor
    null: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Candidates":
        return Candidates(*(part[rows] for part in vars(self).values()))


@torch.no_grad()
def find_candidates(
    training: nn.Module,
    questions: Dataset,
    gates: Callable[[torch.Tensor], torch.Tensor],
    names: Collection[str],
) -> Candidates:
    """Of all that is said of the clips; and of what is named once more, in one frame without any
    sound, as of a photograph.

    Args:
        training, questions: an `ObjectHeadTraining` and `ObjectQuestions` that swap no words.
        gates: of the model's [`RefAVSAlignmentHead`].
        names: forms of sentences that only name a kind.
    """
    training.eval()
    found, rng, every = [], np.random.default_rng(0), np.arange(NUM_FRAMES)
    for number, clip in enumerate(tqdm(questions.clips, unit="clip", desc="candidates")):
        named = [one for one in clip["said"] if one.form in names]
        for said, steps in ((clip["said"], every), (named, rng.choice(every, 1))):
            for start in range(0, len(said), AT_ONCE):
                asked = said[start : start + AT_ONCE]
                rows = questions.ask(number, asked, steps, rng, is_silent=said is named)
                visual = clip["visual"][steps].float()
                texts = [questions.texts[one.text] for one in asked]
                found.append(_compare(training, gates, rows, visual, texts))
    return Candidates(
        *(torch.cat(parts) for parts in zip(*(vars(one).values() for one in found), strict=True))
    )


def _compare(training, gates, rows, visual, texts) -> Candidates:
    answer = training(**rows)
    fields = RefAVSLikenesses.__dataclass_fields__
    likenesses = RefAVSLikenesses(**{name: rows[name] for name in fields})
    expression = torch.stack([normalise(text.projected.float().mean(0)) for text in texts])
    steps = len(visual)
    gate = gates(expression)[:, 1:].repeat_interleave(steps, 0)
    logits = weigh_choice(answer["logits"], gate * likenesses.sounding())
    every = torch.ones(len(texts), steps, dtype=torch.bool)
    claims = claim_objects(logits, answer["seen"], likenesses.verbs)
    visual = visual.repeat(len(texts), 1, 1)
    objects = RefAVSObjectsOverTime(visual, rows["facts"], claims, every, every)
    mean = objects.average(torch.zeros(len(texts)))[..., 0]
    over_time = objects.gather()[:, :, 0]  # every frame knows of all
    iou = rows["iou"].unflatten(0, every.shape)  # (sentences, steps, num_queries)
    in_view = rows["in_view"].view_as(every)
    masks, found = [], []
    for mask, track, shown in _choose_apart(objects, mean):
        reached = iou.take_along_dim(track[..., None], 2).squeeze(2) * shown
        reached = (reached * in_view).sum(1) / in_view.sum(1).clamp(min=1)
        masks.append(mask)
        found.append(reached)
    chosen, reached = torch.stack(masks, dim=1), torch.stack(found, dim=1)
    best = reached.amax(1, keepdim=True)
    return Candidates(
        expression,
        mean.take_along_dim(chosen.clamp(min=0), 1).masked_fill(chosen < 0, BARRED),
        over_time.take_along_dim(chosen.clamp(min=0)[..., None], 1).half(),
        (reached > AS_GOOD * best) & (best > LEAST_BEST) & (chosen >= 0),
        ~in_view.any(1),
    )


def _choose_apart(
    objects: RefAVSObjectsOverTime, mean: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The mask whose object is likeliest, then that of another; below 0 where there is no other.
    Each with the query that shows the object in each step, and whether any does, `(sentences,
    steps)`."""
    left, alike = mean.clone(), objects.alike.flatten(2)
    every, (steps, queries) = torch.arange(len(mean)), objects.alike.shape[2:]
    for _ in range(CANDIDATES):
        best, mask = left.max(1)
        shown = objects.shown[every, mask]
        track = objects.likely[every, mask].argmax(-1)
        yield torch.where(best > BARRED, mask, -1), track, shown
        flat = track + torch.arange(steps) * queries
        same = (alike[every[:, None], flat] > 0) & shown[..., None]
        left = left.masked_fill(same.any(1), BARRED)
        left[every, mask] = BARRED


def fit_clip_head(head: RefAVSClipHead, candidates: Candidates, seed: int = 0) -> None:
    """To tell the object that is meant from the others and from nothing. A sentence none of whose
    candidates is right counts for nothing."""
    real = candidates.over_time[candidates.mean > BARRED].float()
    with torch.no_grad():
        head.middle.copy_(real.mean(0))
        head.deviation.copy_(real.std(0) + LEAST_DEVIATION)
    rows = (candidates.null | candidates.right.any(1)).nonzero()[:, 0]
    optimizer = torch.optim.AdamW(head.asked.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    batches = -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, EPOCHS * batches)
    torch.manual_seed(seed)
    head.train()
    for _ in tqdm(range(EPOCHS), unit="epoch", desc="clip head"):
        for batch in rows[torch.randperm(len(rows))].split(BATCH):
            part = candidates.take(batch)
            targets = torch.cat([part.right, part.null[:, None]], dim=1).float()
            targets = targets / targets.sum(1, keepdim=True)
            loss = -(targets * judge(head, part).log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        head.asked[-1].weight.mul_(KEPT)
        head.asked[-1].bias.mul_(KEPT)
    head.eval()


def judge(head: RefAVSClipHead, candidates: Candidates) -> torch.Tensor:
    """Logits that each candidate is meant, `(sentences, CANDIDATES + 1)`, the last that none is."""
    claims = candidates.mean + head(candidates.expression, candidates.over_time.float())
    claims = claims.masked_fill(candidates.mean <= BARRED, BARRED)
    return nn.functional.pad(claims, (0, 1))


@torch.no_grad()
def score_clips(head: RefAVSClipHead, candidates: Candidates) -> dict[str, float]:
    """Of sentences that mean an object how often that is chosen (`right`), and of null references
    how often nothing is (`refused`)."""
    best, chosen = judge(head, candidates)[:, :-1].max(1)
    right = candidates.right.take_along_dim(chosen[:, None], 1).squeeze(1) & (best > 0)
    null = candidates.null
    return {
        "right": right[~null].float().mean().item(),
        "refused": (best <= 0)[null].float().mean().item(),
    }
