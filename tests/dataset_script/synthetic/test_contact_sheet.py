import numpy as np

from dataset_script.synthetic.contact_sheet import FRAMES, OUTLINE, contact_sheet


def test_a_clip_is_a_column_and_its_object_is_outlined(benchmark_folder, stored_clips):
    full = next(name for name in stored_clips if not name.startswith("null_"))
    null = next(name for name in stored_clips if name.startswith("null_"))
    one, other, both = (
        np.asarray(contact_sheet(benchmark_folder, clips))
        for clips in ([full], [null], [full, null])
    )
    assert both.shape == (max(len(one), len(other)), one.shape[1] + other.shape[1], 3)
    assert one.shape[1] >= len(FRAMES) * 96
    assert (one == OUTLINE).all(-1).sum() > 100
    assert not (other == OUTLINE).all(-1).any()
