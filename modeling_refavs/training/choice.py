"""Do the cues choose the right object? What the stages before the masks are measured by, where nothing is decoded."""

from collections import Counter

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..modeling_refavs import RefAVSPreTrainedModel
from ..processing_refavs import RefAVSProcessor
from .collator import ClipCollator, ClipDataset
from .pictures import pixel_table
from .preparing import PreparedSplit


VISIBLE = 0.02  # visual tokens that an object must cover to count as seen
CLIPS_AT_ONCE = 8


def find_choices(
    cue_logits: torch.Tensor, mask_labels: torch.Tensor, clip_index: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the objects in view that any sentence of the clip means, is the one that lights up most the right one?

    Args:
        cue_logits: `(expressions, steps, tokens)`, of a square grid.
        mask_labels: `(expressions, steps, H, W)`.
        clip_index: `(expressions,)`.

    Returns:
        `right` and `asked`, `(expressions, steps)` bool: asked where the object and another one are in view. A null reference is
        never asked.
    """
    grid = round(cue_logits.shape[-1] ** 0.5)
    covers = nn.functional.adaptive_avg_pool2d(mask_labels.float(), grid).flatten(2)
    right, asked = (torch.zeros(covers.shape[:2], dtype=torch.bool) for _ in range(2))
    for clip in clip_index.unique():
        rows = (clip_index == clip).nonzero().squeeze(1)
        objects, own = covers[rows].unique(dim=0, return_inverse=True)  # (objects, steps, tokens)
        seen = objects.sum(-1) >= VISIBLE  # (objects, steps)
        light = cue_logits[rows].float().sigmoid()
        lit = torch.einsum("est,ost->eos", light, objects) / objects.sum(-1).clamp(min=VISIBLE)
        brightest = lit.masked_fill(~seen, -1.0).argmax(dim=1)  # (expressions, steps)
        right[rows] = (brightest == own[:, None]).cpu()
        asked[rows] = (seen[own] & (seen.sum(0) > 1)).cpu()
    return right & asked, asked


@torch.no_grad()
def measure_choice(
    model: RefAVSPreTrainedModel, processor: RefAVSProcessor, split: PreparedSplit
) -> dict[str, tuple[int, int]]:
    """Of each family of sentences, how often the right object was chosen and how often there was a choice.

    Args:
        model: of stage alignment or cues, in `eval()`.
        split: prepared with `graded`, which knows the families.
    """
    collator = ClipCollator(split, pixel_table(processor), processor.tokenizer.pad_token_id, decode=False)
    right, asked = Counter(), Counter()
    sentences = iter([sentence for clip in split.clips for sentence in clip.sentences])
    for batch in DataLoader(ClipDataset(split), CLIPS_AT_ONCE, collate_fn=collator):
        masks = batch.pop("mask_labels")
        batch = {name: value.to(model.device) for name, value in batch.items()}
        choices = find_choices(model(**batch).cue_logits.cpu(), masks, batch["clip_index"].cpu())
        for chosen, choice in zip(*choices, strict=True):
            family = next(sentences).family
            right[family] += int(chosen.sum())
            asked[family] += int(choice.sum())
    return {family: (right[family], asked[family]) for family in sorted(asked) if asked[family]}
