"""Ours, not the paper's: one object for all frames, since an expression means the same one in each,
and nothing where that is out of view, whatever else is there.

What [`RefAVSObjectHead`] says of an object frame by frame is averaged over the frames that show
it. To that the clip head adds what only the whole tells: whether what is measured of the object
over all frames fits the expression. "The laughing woman" is one who is seen in all of them, while
laughter is heard in some.
"""

import torch
from torch import nn

from .configuration_refavs import RefAVSConfig
from .grounding_refavs import normalise
from .object_head_refavs import BARRED, NUM_LIKENESSES, SMALLEST, two_layers


REMEMBERED = 10  # steps whose objects are remembered
NUM_CLAIMS = 1 + NUM_LIKENESSES + 2  # of an object in a frame, see `claim_objects`
CLAIMED = 4 + NUM_CLAIMS  # numbers of an object that are remembered beside F'_V
LEAST_CLAIM = -20.0  # a logit
FURTHEST = 4.0  # deviations of a measure from its mean, as which those further off count
DROPOUT = 0.3
OF_THE_MOMENT, FADING = 0.1, 6.0  # of the gate of the sound, from where on it lets steps fade
LEAST_SEEN = 1e-6  # frames that show an object
# Logits that two masks show one object, from the cosine of F'_V, how far their middles are apart
# and how their sizes differ: fitted to pairs of 300 clips of `train`, right for 0.98 of those of
# 200 clips of `val`
SAME_LOOK, SAME_PLACE, SAME_SIZE, SAME_BIAS = 3.03, -11.8, -21.6, 0.68


def tell_same(visual: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Logits that one mask shows the same object as another, `(rows, masks, masks)`.

    Args:
        visual: F'_V, normalised, `(rows, masks, D)`.
        places: the size and the middle, x and y, of each mask, `(rows, masks, 3)`.
    """
    look = nn.functional.normalize(visual, dim=-1)
    size, middle = places[..., :1], places[..., 1:]
    x, y = (middle[:, :, None] - middle[:, None]).unbind(-1)
    alike = SAME_LOOK * (look @ look.transpose(1, 2)) + SAME_PLACE * torch.hypot(x, y)
    return alike + SAME_SIZE * (size - size.transpose(1, 2)).abs() + SAME_BIAS


def fade(gates: torch.Tensor) -> torch.Tensor:
    """How fast other steps count for less, `(expressions,)`, for what may be true of one thing now
    and of another later: exp(-fading) for each step between. `gates (expressions,)` are those of
    the sound, see [`RefAVSAlignmentHead`]."""
    return FADING * (gates - OF_THE_MOMENT).clamp(min=0)


def claim_objects(logits: torch.Tensor, seen: torch.Tensor, verbs: torch.Tensor) -> torch.Tensor:
    """What is known of each object in a frame, `(rows, num_queries, 17)`: that it is meant, by the
    `logits (rows, num_queries + 1)`; its likenesses as the object head measures them, `seen (rows,
    num_queries, 14)`; and whether words and sound agree, `verbs (rows, 2)`. Where it is and how
    it moves is not among them: that is as the clips of a training are composed."""
    claim = (logits[:, :-1] - logits[:, -1:]).unsqueeze(-1)
    verbs = verbs.unsqueeze(1).expand(-1, claim.shape[1], -1)
    return torch.cat([claim, seen, verbs], dim=-1)


class RefAVSClipHead(nn.Module):
    """How much more surely an object is meant than frames by themselves say: the expression weighs
    the mean and the highest over the frames of each of the 17 claims. At first it adds nothing.

    `middle` and `deviation` of what is weighed are fitted to objects of a training.
    """

    def __init__(self, config: RefAVSConfig):
        super().__init__()
        size = config.grounding_config.object_head_size
        self.middle = nn.Parameter(torch.zeros(2 * NUM_CLAIMS))
        self.deviation = nn.Parameter(torch.ones(2 * NUM_CLAIMS))
        self.asked = two_layers(config.hidden_size, size, 2 * NUM_CLAIMS + 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, expression: torch.Tensor, over_time: torch.Tensor) -> torch.Tensor:
        """
        Args:
            expression: the mean of F'_T, normalised, `(expressions, D)`.
            over_time: `(expressions, ..., 34)`, see [`RefAVSObjectsOverTime.gather`].

        Returns:
            `(expressions, ...)`, to be added to the mean of what frames say.
        """
        over_time = ((over_time - self.middle) / self.deviation).clamp(-FURTHEST, FURTHEST)
        over_time = self.dropout(over_time)
        between = (1,) * (over_time.dim() - 2)
        weights = self.asked(self.dropout(expression)).unflatten(0, (-1, *between))
        return (over_time * weights[..., :-1]).sum(-1) + weights[..., -1]

    def choose(
        self,
        expression: torch.Tensor,
        visual: torch.Tensor,
        facts: torch.Tensor,
        claims: torch.Tensor,
        frame_mask: torch.Tensor,
        is_first: torch.Tensor,
        fading: torch.Tensor,
        bias: float = 0.0,
        memory: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mask whose object is most surely meant, and in each frame the masks that show the
        same. A frame knows of itself, of the first frames of the other steps of this call, also of
        those that follow, and of the `REMEMBERED` steps before.

        Args:
            visual, facts: F'_V and the facts of the objects, see [`describe_objects`].
            claims: see [`claim_objects`].
            frame_mask, is_first: `(expressions, frames)`: which frames are real, and which are the
                first of a step, see [`remember`].
            fading: see [`fade`].
            bias: see `RefAVSGroundingConfig.object_score_bias`.
            memory: what the steps before left.

        Returns:
            Logits `(rows, num_queries + 1)`, the last 0. Those of a frame are as sure as the less
            sure of the two: that the object is meant, and that the frame shows it; and the memory
            after the last step, `(expressions, 10, num_queries, D + 21)`.
        """
        objects = RefAVSObjectsOverTime(visual, facts, claims, frame_mask, is_first, memory)
        claim = objects.average(fading) + self(expression, objects.gather())
        logits = objects.choose(claim, bias).to(visual.dtype)
        return logits, objects.remember()


class RefAVSObjectsOverTime:
    """What is known of the objects of some steps: those of a call, and those before.

    Args:
        visual, facts, claims, frame_mask, is_first, memory: see [`RefAVSClipHead.choose`].
    """

    def __init__(
        self,
        visual: torch.Tensor,
        facts: torch.Tensor,
        claims: torch.Tensor,
        frame_mask: torch.Tensor,
        is_first: torch.Tensor,
        memory: torch.Tensor | None = None,
    ):
        shape, self.frames = is_first.shape, is_first.shape[1]
        # half precision cannot tell how far apart two masks are
        wide = torch.promote_types(visual.dtype, torch.float32)
        shows = (facts[..., 0].square() > SMALLEST) & frame_mask.flatten()[:, None]
        now = [normalise(visual), facts[..., :3], shows.unsqueeze(-1), claims]
        now = torch.cat([part.to(wide) for part in now], dim=-1).unflatten(0, shape)
        self.known = now if memory is None else torch.cat([memory, now], dim=1)
        self.lacking = REMEMBERED if memory is None else 0  # steps before the first
        steps, queries = self.known.shape[1:3]
        sizes = visual.shape[-1], 3, 1, NUM_CLAIMS
        visual, places, shows, self.claims = self.known.split(sizes, dim=-1)
        self.shows = shows.squeeze(-1) > 0
        alike = tell_same(visual.flatten(1, 2), places.flatten(1, 2))
        alike = alike.masked_fill(~self.shows.flatten(1)[:, None], BARRED)
        self.alike = alike.unflatten(2, (steps, queries))  # (expressions, masks, steps, queries)
        self.same = nn.functional.logsigmoid(self.alike)
        alike, same = self.alike.amax(-1), self.same.amax(-1)  # (expressions, masks, steps)
        self.shown, self.in_view = alike > 0, same.exp()
        self.likely = self.same + self.claims[:, None, ..., 0]
        before = is_first.new_ones(shape[0], steps - self.frames)
        self.is_first = torch.cat([before, is_first], dim=1)
        step = torch.cumsum(self.is_first, dim=1)
        self.apart = (step[:, :, None] - step[:, None]).abs()
        itself = torch.eye(steps, dtype=torch.bool, device=step.device)
        # which frames (columns) each frame knows of
        self.knows = self.is_first[:, None] & (self.apart > 0) | itself

    def average(self, fading: torch.Tensor) -> torch.Tensor:
        """For each mask, `(expressions, masks, frames)`, the mean of what the steps that show its
        object say of it, as much as each frame of the call knows of them, or `BARRED`."""
        knows, apart = self.knows[:, -self.frames :], self.apart[:, -self.frames :]
        weights = knows * torch.exp(-fading.to(self.known.dtype)[:, None, None] * apart)
        knows, weights = knows.transpose(1, 2), weights.transpose(1, 2)  # (..., steps, frames)
        counted = self.in_view.unsqueeze(-1) * weights[:, None]
        seen = counted.sum(2)
        said = self.likely.logsumexp(-1, keepdim=True).clamp(min=LEAST_CLAIM)
        mean = (counted.transpose(2, 3) @ said).squeeze(-1) / seen.clamp(min=LEAST_SEEN)
        tried = self.shows[..., None] & knows[:, :, None]
        return mean.masked_fill(~(tried.flatten(1, 2) & (seen > LEAST_SEEN)), BARRED)

    def gather(self) -> torch.Tensor:
        """For each mask, `(expressions, masks, frames, 34)`, the mean and the highest of what is
        claimed of its object where it is in view, in what each frame of the call knows of."""
        which = self.likely.argmax(-1)[..., None, None]  # of each step, the mask that shows it
        claims = self.claims[:, None].take_along_dim(which, dim=3).squeeze(3)
        claims = claims.clamp(min=LEAST_CLAIM)
        gathered = []
        for known in self.knows[:, -self.frames :].unbind(1):
            counts = (self.shown & known[:, None]).unsqueeze(-1)
            weights = self.in_view.unsqueeze(-1) * counts
            means = (weights * claims).sum(2) / weights.sum(2).clamp(min=LEAST_SEEN)
            highest = claims.masked_fill(~counts, LEAST_CLAIM).amax(2)
            gathered.append(torch.cat([means, highest], dim=-1))
        return torch.stack(gathered, dim=2)

    def choose(self, claim: torch.Tensor, bias: float) -> torch.Tensor:
        """Of `(expressions, masks, frames)` the logits of [`RefAVSClipHead.choose`]."""
        meant, chosen = claim.max(1)
        chosen = chosen[:, None, :, None]
        alike, same = (
            part[:, :, -self.frames :].take_along_dim(chosen, 1).squeeze(1)
            for part in (self.alike, self.same)
        )
        among = (self.claims[:, -self.frames :, :, 0] + same).log_softmax(-1)
        presence = torch.minimum(meant + bias, alike.amax(-1))
        return nn.functional.pad(among + presence[..., None], (0, 1)).flatten(0, 1)

    def remember(self) -> torch.Tensor:
        """What the next call knows of the last steps, all 0 where there was none."""
        known = nn.functional.pad(self.known, (0, 0, 0, 0, self.lacking, 0))
        before = self.is_first.new_ones(len(known), self.lacking)
        is_first = torch.cat([before, self.is_first], dim=1)
        order = torch.arange(known.shape[1], device=known.device)
        last = torch.where(is_first, order, -1).topk(REMEMBERED).indices.flip(-1)
        return known.take_along_dim(last[..., None, None], 1)


__all__ = [
    "RefAVSClipHead",
    "RefAVSObjectsOverTime",
    "claim_objects",
    "fade",
    "tell_same",
]
