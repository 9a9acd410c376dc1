"""The one test that the parts work together: EEMC learns whom a sentence means."""

import numpy as np
import torch

from modeling_refavs import RefAVSForSegmentation
from tests.conftest import make_config


STEPS = 160


def test_it_learns_which_object_each_sentence_means(processor, clip):
    frames = np.stack(clip["frames"])
    circle, square = frames[..., 0] > 200, frames[..., 2] > 200
    truth = np.stack([circle, square, np.zeros_like(circle)])
    inputs = processor(
        text=["the red circle", "the square making a sound", "the green triangle"], **clip
    )
    torch.manual_seed(0)
    trained = {f"freeze_{part}_encoder": False for part in ("vision", "text", "audio")}
    model = RefAVSForSegmentation(make_config(**trained)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        loss = model(**inputs, mask_labels=torch.from_numpy(truth).float()).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(**inputs)
    masks = np.stack(processor.post_process_masks(outputs, frames.shape[1:3]))
    for name, mask, true in zip(["circle", "square"], masks, truth, strict=False):
        assert (mask & true).sum() / (mask | true).sum() > 0.75, name
    assert not masks[2].any()
    assert (outputs.presence_logits[:2] > 0).all()
    assert (outputs.presence_logits[2] < 0).all()
