"""What is said beside a landmark needs both to be seen together, and clearly."""

import numpy as np
import pytest

from dataset_script.synthetic import Scene
from dataset_script.synthetic.conditions import Condition, World
from dataset_script.synthetic.scene import SceneObject


def margin(kind, place, presence=(0.0, 10.0), depth=0, motion="still"):
    """Of a bell in this place, beside a drum in the middle."""
    bell = SceneObject(0, "bell", "red", "plain", 0.1, place, motion, 0.0, presence, depth)
    drum = SceneObject(
        1, "drum", "red", "plain", 0.1, (0.5, 0.5), "still", 0.0, (0.0, 10.0), 1 - depth
    )
    world = World(Scene(0, 10.0, 1.0, 1.0, (bell, drum)))
    return world.margins(Condition(kind, landmark=(Condition("category", "drum"),)))[0]


@pytest.mark.parametrize(
    ("kind", "place", "verdict"),
    [
        ("left", (0.3, 0.5), 1),
        ("left", (0.7, 0.5), -1),
        ("left", (0.45, 0.8), 0),
        ("right", (0.7, 0.5), 1),
        ("above", (0.5, 0.2), 1),
        ("under", (0.5, 0.2), -1),
        ("near", (0.72, 0.5), 1),
        ("near", (0.9, 0.9), -1),
        ("near", (0.85, 0.5), 0),
        ("in front", (0.65, 0.5), 1),
        ("behind", (0.65, 0.5), -1),
        ("in front", (0.9, 0.5), -1),
        ("on", (0.5, 0.3), 1),
        ("on", (0.5, 0.7), -1),
    ],
)
def test_places_are_clear_or_not(kind, place, verdict):
    value = margin(kind, place)
    assert np.sign(value) == verdict
    assert verdict == 0 or abs(value) >= 1


def test_order_of_depth_decides_front_and_behind():
    assert margin("behind", (0.65, 0.5), depth=1) >= 1
    assert margin("in front", (0.65, 0.5), depth=1) <= -1


def test_a_relation_must_hold_at_every_moment():
    assert margin("left", (0.5, 0.3), motion="leftwards") == 0
    assert margin("on", (0.5, 0.3), motion="bouncing") == 0


def test_a_glimpse_of_both_together_is_not_enough():
    assert margin("left", (0.3, 0.5), presence=(9.0, 10.0)) == 0
    assert margin("left", (0.3, 0.5), presence=(8.0, 10.0)) >= 1
