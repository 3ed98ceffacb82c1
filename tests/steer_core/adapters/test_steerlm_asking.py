"""Prompts that ask by labels in words: what is asked can be read off again, and nothing stands for two labels."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.recipe import train
from steer_core.adapters.run import RunFolder
from steer_core.adapters.steerlm.asking import LabelPrompt, phrases_of
from steer_core.methods.prompts.single import user
from steer_core.methods.wording import REWRITE, with_text
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.adapters.steerlm_world import GOALS, recipe, training

WORDS = {"length": ("shorter", "longer"), "vowels": ("short of vowels", "rich in vowels and open")}
PROMPT = LabelPrompt(GOALS, 6, phrases={g: phrases_of(*words) for g, words in WORDS.items()})


def test_levels_are_the_strengths_of_comparatives():
    assert phrases_of("shorter", "longer") == (
        "much shorter", "shorter", "slightly shorter", "slightly longer", "longer", "much longer",
    )  # fmt: skip
    (message,) = PROMPT.messages({"vowels": 5, "length": 2}, "A text.")
    assert message.content == (
        "Please rewrite the following text so that it is slightly shorter and much rich in vowels and open. "
        "Answer with the rewritten text only.\n\nA text."
    )
    # what is learnt unasked is the prompt that `guidance: {against: rewrite}` holds labels against
    unasked = user(with_text(f"{REWRITE}.", "A text."))
    assert PROMPT.messages({}, "A text.") == unasked
    assert unasked[0].content == "Please rewrite the following text.\n\nA text."


def test_every_combination_is_read_off_again():
    text = "so that it is much longer. Answer with the rewritten text only.\n\nA text."
    for length, vowels in itertools.product([None, *range(6)], repeat=2):
        asked = {g: v for g, v in zip(GOALS, (length, vowels), strict=True) if v is not None}
        assert PROMPT.read(PROMPT.messages(asked, text), text) == asked


def test_other_prompts_are_refused():
    for labels in ({"length": 9}, {"humor": 2}):
        with pytest.raises(SteerworksError):
            PROMPT.messages(labels, "A text.")
    with pytest.raises(SteerworksError, match="no prompt that asks by labels in words"):
        PROMPT.read(LabelPrompt(GOALS).messages({"length": 3}, "A text."), "A text.")
    with pytest.raises(SteerworksError, match="six levels; goal 'vowels' has words for 0"):
        LabelPrompt(GOALS, 6, phrases={"length": phrases_of("shorter", "longer")})
    with pytest.raises(SteerworksError, match="and levels = 10"):
        LabelPrompt(GOALS, 10, phrases=PROMPT.phrases)
    same = phrases_of("shorter", "longer")
    with pytest.raises(SteerworksError, match="'longer' stand for two labels"):
        LabelPrompt(GOALS, 6, phrases={"length": same, "vowels": same})


def test_a_run_in_words_learns_under_the_words_of_its_answers(tmp_path):
    asked, in_digits = {"length": 5, "vowels": 1}, training(tmp_path / "run")
    targets = {r: replace(t, z_star=np.array([1.0, 0.2])) for r, t in in_digits.targets.items()}
    plans = {r: replace(p, messages=PROMPT.messages(asked, targets[r].source)) for r, p in in_digits.plans.items()}
    given = replace(in_digits, plans=plans, targets=targets, comparatives=WORDS)
    small = {"rounds": 0, "iterations": 0, "levels": 6, "wording": "words"}
    states = train(recipe(**small), given)
    assert len(states) == 1
    kept = [s for s in given.run.rows("samples") if s["state"] == "kept"]
    assert kept
    elsewhere = [replace(given, run=RunFolder(tmp_path / name)) for name in ("digits", "bare")]
    with pytest.raises(ConfigError, match="levels = 6 in digits"):
        train(recipe(**{**small, "wording": "digits"}), elsewhere[0])
    with pytest.raises(ConfigError, match="need the comparatives"):
        train(recipe(**small), replace(elsewhere[1], comparatives={}))
    with pytest.raises(ValueError, match="`wording: words` has six levels, and levels = 10"):
        SteerlmRecipe(wording="words")
