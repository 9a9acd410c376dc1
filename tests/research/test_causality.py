"""What has passed says as much as it can, and what is to come says nothing."""

from dataclasses import replace

import pytest

from dataset_script.synthetic.conditions import Condition, World
from dataset_script.synthetic.scene import Scene, SceneObject, Sound
from modeling_refavs.research.causality import measure_causality, until


def make_object(fid: int, category: str, sound: Sound | None, presence=(0.0, 10.0)) -> SceneObject:
    return SceneObject(
        fid,
        category,
        "red",
        "plain",
        0.15,
        (0.3 + 0.4 * fid, 0.5),
        "still",
        0.0,
        presence,
        fid,
        sound,
    )


@pytest.fixture
def scene() -> Scene:
    """A cat that sounds from 2 to 4 s and gets louder, and a bell that comes at 5 s and sounds to
    the end."""
    cat = Sound(((2.0, 4.0),), (-30.0, -20.0), (2.0, 4.0), 1.0)
    bell = Sound(((6.0, 10.0),), (-30.0, -30.0), None, 1.0)
    return Scene(
        0, 10.0, 1.0, 1.0, (make_object(0, "cat", cat), make_object(1, "bell", bell, (5.0, 10.0)))
    )


def test_what_is_to_come_is_not_there(scene):
    now = until(scene, 3.0)
    cat, bell = now.objects
    assert now.seconds == 3.0
    assert cat.sound.intervals == ((2.0, 3.0),)
    assert cat.sound.level == (-30.0, -25.0)
    assert cat.sound.rate == (2.0, 3.0)
    assert bell.sound is None
    assert bell.presence == (3.0, 3.0)
    assert until(scene, 1.0).objects[0].sound is None


def test_at_the_end_everything_is_there(scene):
    assert until(scene, 10.0) == scene


def test_who_sounds_first_is_known_when_the_second_has_begun(scene):
    first = (Condition("first to sound"),)
    assert [World(until(scene, second)).refer(first) for second in (1.0, 6.0, 7.0, 10.0)] == [
        None,
        None,
        0,
        0,
    ]


def test_a_later_change_changes_nothing_before(scene):
    silent = replace(scene, objects=(scene.objects[0], replace(scene.objects[1], sound=None)))
    assert until(scene, 5.0) == until(silent, 5.0)


def test_looks_are_known_at_once_and_sounds_only_in_time(benchmark_folder):
    knowledge = measure_causality(benchmark_folder, "train")
    assert knowledge["appearance"].known == knowledge["appearance"].ceiling == 1
    assert 0.2 < knowledge["acoustic + temporal"].known < 0.95
    assert knowledge["acoustic + temporal"].ceiling < 1
    assert knowledge["all"].sentences == sum(
        row.sentences for name, row in knowledge.items() if name != "all"
    )
