"""The model card: every figure from files, every section there, metadata that the Hub's own classes
read."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from modeling_refavs.cli import main
from modeling_refavs.hub.card import render_card
from modeling_refavs.hub.checks import check_card
from modeling_refavs.hub.publish import CARD_FACTS, EVALUATION, ModelPublication


ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "spaces_demo" / "photo_checkpoint"


def test_the_card_of_an_evaluation(checkpoint, tmp_path):
    card = tmp_path / "card" / "README.md"
    card.parent.mkdir()
    files = [str(checkpoint), str(checkpoint / EVALUATION), str(checkpoint / CARD_FACTS)]
    assert main(["card", *files, "--output", str(card), "--repo-id", "user/refavs"]) == 0
    check_card(card.parent, ModelPublication.card)
    text, report = card.read_text(), json.loads((checkpoint / EVALUATION).read_text())
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "image-segmentation",
        "apache-2.0",
    )
    assert (data.model_name, data.datasets, data.base_model) == ("refavs", ["user/drawn"], None)
    values = {
        (result.dataset_split, result.metric_name): result.metric_value
        for result in data.eval_results
    }
    assert set(values) == {
        ("test_s", "J"),
        ("test_s", "F"),
        ("test_u", "J"),
        ("test_u", "F"),
        ("test_n", "S"),
        ("test_s", "T-acc"),
        ("test_u", "T-acc"),
        ("test_n", "N-acc"),
    }
    assert values["test_u", "J"] == round(report["splits"]["test_u"]["jaccard"]["value"], 4)
    mix = report["mix"]["jaccard_and_fscore"]
    assert (
        "{:.2f} [{:.1f}, {:.1f}]".format(*(100 * mix[name] for name in ("value", "low", "high")))
        in text
    )
    assert "### By length" in text
    assert data.co2_eq_emissions["emissions"] == 36.0
    assert (
        "1.5 hours on two cores; at 60 W that is 0.09 kWh, and at\n400 g CO2eq/kWh 36.0 g CO2eq."
        in text
    )
    assert 'pipeline(model="user/refavs", trust_remote_code=True)' in text


def test_parameters_are_those_of_the_model(checkpoint, model):
    text = render_card(checkpoint, checkpoint / EVALUATION, checkpoint / CARD_FACTS)
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters" in text


def test_the_example_has_four_lines(checkpoint):
    text = render_card(checkpoint, checkpoint / EVALUATION, checkpoint / CARD_FACTS, "user/refavs")
    snippet = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1]
    assert len([line for line in snippet.splitlines() if line]) == 4


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (CARD_FACTS, ("seed: 3\n", ""), "lacks seed"),
        (CARD_FACTS, ("seed: 3", "sede: 3\nseed: 3"), "there is no fact sede"),
        (CARD_FACTS, ("seed: 3", "seed: ["), "no YAML"),
        (CARD_FACTS, ("hours: 1.5", "hours: long"), "hours must be a number, got 'long'"),
        (
            CARD_FACTS,
            ("base_models: []", "base_models: none"),
            "base_models must be a list, got 'none'",
        ),
        (EVALUATION, ('"splits"', '"parts"'), "no report.json of refavs evaluate: it lacks splits"),
        (EVALUATION, ("{", "{{"), "no report.json of refavs evaluate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(checkpoint, tmp_path, capsys, file, change, words):
    files = {name: tmp_path / name for name in (EVALUATION, CARD_FACTS)}
    for name, path in files.items():
        text = (checkpoint / name).read_text()
        path.write_text(text.replace(*change, 1) if name == file else text)
    assert (
        main(
            [
                "card",
                str(checkpoint),
                *map(str, files.values()),
                "--output",
                str(tmp_path / "card.md"),
            ]
        )
        == 2
    )
    complaint = capsys.readouterr().err
    assert words in complaint
    assert complaint.count("\n") == 1
    assert not (tmp_path / "card.md").exists()


def test_facts_may_be_json(checkpoint, tmp_path):
    facts = yaml.safe_load((checkpoint / CARD_FACTS).read_text())
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    cards = [
        render_card(checkpoint, checkpoint / EVALUATION, path)
        for path in (checkpoint / CARD_FACTS, tmp_path / "facts.json")
    ]
    assert cards[0] == cards[1]


def test_the_card_of_the_shipped_checkpoint_is_its_rendering(monkeypatch):
    monkeypatch.chdir(ROOT)
    folder = SHIPPED.relative_to(ROOT)
    rendered = render_card(folder, folder / EVALUATION, folder / CARD_FACTS)
    assert (ROOT / "model_card.md").read_text(encoding="utf-8") == rendered


def test_a_model_without_a_card_is_refused(checkpoint, tmp_path, capsys):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "processor_config.json", "model.safetensors"):
        (bare / name).write_bytes((checkpoint / name).read_bytes())
    assert main(["publish", "model", str(bare), "user/refavs", "--dry-run"]) == 2
    assert f"has no card: put {CARD_FACTS} and {EVALUATION}" in capsys.readouterr().err


def test_the_python_of_the_shipped_card_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    namespace: dict = {}
    for block in re.findall(
        r"```python\n(.*?)```", (ROOT / "model_card.md").read_text(), flags=re.DOTALL
    ):
        exec(compile(block, "model_card.md", "exec"), namespace)
    assert capsys.readouterr().out


def test_the_python_of_a_folders_card_runs(checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    text = render_card(checkpoint, checkpoint / EVALUATION, checkpoint / CARD_FACTS)
    exec(compile(re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1], "card", "exec"), {})
    assert "the first object to make a sound (10, 320, 320)" in capsys.readouterr().out
