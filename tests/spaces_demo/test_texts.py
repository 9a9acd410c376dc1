"""Every word in both languages, every example there, every version the tested one."""

import re
import string

import pytest
from limits import MESSAGES, Limits

from .conftest import FOLDER, ROOT


@pytest.fixture
def texts():
    import app
    import texts

    return texts.load_texts(Limits(), 180.0, app.load_examples())


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same_things_of_the_same_facts(texts):
    assert texts["en"].keys() == texts["zh"].keys()
    assert texts["en"].keys() >= MESSAGES.keys()
    for key, text in texts["en"].items():
        assert fields(text) == fields(texts["zh"][key]), key


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("zh-CN,zh;q=0.9", "zh"), ("zh", "zh"), ("de,en", "en"), ("", "en"), (None, "en")],
)
def test_the_language_is_the_browsers(accepted, language):
    from texts import choose_language

    assert choose_language(accepted) == language


def test_examples_are_files_with_sentences():
    import app

    for example in app.load_examples()["examples"]:
        assert (FOLDER / "examples" / example["video"]).is_file()
        assert example["sentences"]
        assert example["title"].keys() == {"en", "zh"}


def test_the_space_needs_what_is_tested():
    locked = set((ROOT / "requirements.lock").read_text().splitlines())
    needed = (FOLDER / "requirements.txt").read_text().splitlines()
    assert set(needed) <= locked
    header = (FOLDER / "README.md").read_text(encoding="utf-8").split("---")[1]
    assert f"gradio=={re.search('sdk_version: (.*)', header)[1]}" in needed
    assert (FOLDER / re.search("app_file: (.*)", header)[1]).is_file()
