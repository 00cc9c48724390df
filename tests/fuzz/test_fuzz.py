"""The targets of the fuzzers, on their seeds, on what was found once, and on mutations that hypothesis chooses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import FOUND, LONGEST, SEEDS, TARGETS, WORDS, found, mutate

WHOLE = ("connection", "files")  # a server for each input: a hundredth of the speed


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_what_was_found_once_hold(target):
    for data in [*SEEDS[target], *found(target)]:
        TARGETS[target](data[:LONGEST])


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_seeds_hold(target):
    @settings(max_examples=25 if target in WHOLE else 300)
    @given(st.sampled_from(SEEDS[target]), st.randoms(use_true_random=False))
    def holds(seed, chosen):
        TARGETS[target](mutate(seed, WORDS[target], chosen))

    holds()


@pytest.mark.parametrize("target", [each for each in TARGETS if each not in WHOLE])
@given(data=st.binary(max_size=200))
def test_any_bytes_hold(target, data):
    TARGETS[target](data)


def test_everything_found_belongs_to_a_target():
    assert {path.name for path in FOUND.iterdir() if path.is_dir()} <= set(TARGETS)


def test_a_mutation_is_the_same_for_the_same_random_numbers():
    """So that an input that found something can be had again."""
    seed, words = SEEDS["head"][0], WORDS["head"]
    assert mutate(seed, words, random.Random(7)) == mutate(seed, words, random.Random(7))
