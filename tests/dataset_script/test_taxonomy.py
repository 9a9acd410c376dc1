import json
from collections import Counter

import pytest

from dataset_script.taxonomy import PAPER_TAXONOMY, read_taxonomy


def test_the_papers_counts():
    groups = Counter(PAPER_TAXONOMY.categories.values())
    assert groups == {"instrument": 20, "animal": 8, "machine": 15, "human": 5, "silent": 3}
    assert len(PAPER_TAXONOMY.unseen) == 13
    assert PAPER_TAXONOMY.unseen <= PAPER_TAXONOMY.categories.keys()
    assert PAPER_TAXONOMY.super_category("null") is None


def test_a_tree_brings_its_own(tmp_path):
    content = {
        "categories": {"circle-bell": "bell", "square-horn": "horn"},
        "unseen": ["square-horn"],
    }
    (tmp_path / "taxonomy.json").write_text(json.dumps(content), encoding="utf-8")
    taxonomy = read_taxonomy(tmp_path)
    assert taxonomy.categories == content["categories"]
    assert taxonomy.unseen == {"square-horn"}


def test_without_a_file_it_is_the_papers(tmp_path):
    assert read_taxonomy(tmp_path) is PAPER_TAXONOMY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold"),
        ('{"categories": ["a"]}', "must hold"),
        ('{"categories": {"a": "b"}, "unseen": ["c"]}', "calls c unseen"),
        ('{"categories": {"a": "b"}, "unseen": [["a"]]}', "unseen"),
    ],
)
def test_bad_files(tmp_path, text, words):
    (tmp_path / "taxonomy.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_taxonomy(tmp_path)
