"""LoRA through PEFT, as docs/finetuning.md does it. Skipped where PEFT is not installed."""

import pytest
import torch

from modeling_refavs import RefAVSForSegmentation
from modeling_refavs.training.arguments import read_recipe
from modeling_refavs.training.train import make_trainer


peft = pytest.importorskip("peft")
TARGETS = ["query_projection", "value_projection"]


def test_only_lora_learns_and_merged_it_is_a_model_like_any_other(plain, recipe, tmp_path):
    words = ["--model", str(plain), "--config", "null", "--output_dir", str(tmp_path / "run")]
    trainer = make_trainer(*read_recipe(recipe, [*words, "--max_steps", "2"]))
    model = trainer.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lora = peft.LoraConfig(r=4, target_modules=TARGETS, modules_to_save=["class_predictor"])
    wrapped = peft.get_peft_model(model, lora)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trained
    assert all(".lora_" in name or ".modules_to_save." in name for name in trained)
    trainer.train()
    inputs = next(iter(trainer.get_train_dataloader()))
    model.eval()
    with torch.no_grad():
        adapted = model(**inputs).mask_logits
    wrapped.save_pretrained(tmp_path / "adapter")
    wrapped.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = RefAVSForSegmentation.from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).mask_logits, adapted, rtol=1e-4, atol=1e-4)
    changed = {
        name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in changed} == {
        *TARGETS,
        "class_predictor",
    }
    again = peft.PeftModel.from_pretrained(
        RefAVSForSegmentation.from_pretrained(plain), str(tmp_path / "adapter")
    )
    with torch.no_grad():
        again = again.eval()(**inputs).mask_logits
    torch.testing.assert_close(again, adapted, rtol=1e-4, atol=1e-4)
