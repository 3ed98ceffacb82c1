"""Cleaning takes thinking and preambles away, and nothing else."""

import pytest

from steer_core.evaluation.refusals import is_refusal
from steer_core.methods.cleaning import after_heading, clean_answer
from steer_core.methods.parts.prompt import build_strategy

PLAIN = "The cat sat.\n\nIt was warm."


@pytest.mark.parametrize(
    "raw",
    [
        PLAIN,
        f"<think>hm, let me see</think>\n{PLAIN}",
        f"<think>\nline\nline\n</think>\n\n{PLAIN}",
        f"hm, the template opened the block\n</think>\n{PLAIN}",
        f"<THINKING>x</THINKING>{PLAIN}",
        f"[THINK]x[/THINK]{PLAIN}",
        f"<|think|>x<|/think|>{PLAIN}",
        f"<reasoning>a</reasoning><reflection>b</reflection>{PLAIN}",
        f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{PLAIN}",
        f"Here is the rewritten text:\n\n{PLAIN}",
        f"Sure! Here's a more formal version of your text:\n{PLAIN}",
        f"Here you go, rewritten as you asked\n{PLAIN}",
        f"---\n\n{PLAIN}",
        f"Here is the rewritten text:\n\n---\n\n{PLAIN}",
        f"**Rewritten text:**\n{PLAIN}",
        f"```\n{PLAIN}\n```",
        f"```text\n{PLAIN}\n```",
    ],
)
def test_the_answer_is_found(raw):
    assert clean_answer(raw) == PLAIN


@pytest.mark.parametrize(
    "raw",
    [
        "Here the road ends. Nobody has rewritten the map: it is old.",
        "Sure, we went there.\nIt rained.",
        "Think of it: a cat.",
        "x < y > z and <b>bold</b>",
        "This is what I packed:\nbread and plums",
        "He wrote it down. [Thought] It was late.",
        "The list:\n- one\n- two",
        "مرحبا\u202eabc\x00",
    ],
)
def test_what_only_looks_like_a_preamble_stays(raw):
    assert clean_answer(raw) == raw


def test_thinking_that_never_ends_leaves_nothing():
    assert clean_answer("<think>and so on and so") == ""
    assert clean_answer("") == ""


def test_an_answer_that_is_only_a_preamble_is_kept_as_what_it_is():
    assert clean_answer("Here is the rewritten text:\n") == "Here is the rewritten text:"


def test_cleaning_is_linear_in_hostile_text():
    for hostile in ("<think>" * 20_000, "Here " * 20_000, "\n" * 100_000, "`" * 100_000, "-" * 100_000, "<" * 100_000):
        clean_answer(hostile)
        after_heading(hostile, "Rewritten text")


def test_the_text_after_the_last_heading_counts():
    raw = "Edits:\n- x\n\nRewritten text:\nold\n\n**Rewritten Text:**\nnew"
    assert after_heading(raw, "Rewritten text") == ("new", True)
    assert after_heading("no heading", "Rewritten text") == ("no heading", False)


def test_copy_bypasses_cleaning():
    from fixture_requests import SETTING

    raw = "<think>source texts may hold anything</think> Here is the rewritten text:\nx"
    assert build_strategy("copy", SETTING, {}).clean(raw) == (raw, True)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "Sorry, I won't write that.",
        "I am sorry, but as an AI language model, I cannot rewrite this text.",
        "Unfortunately, I am unable to comply.",
        "I can’t help with rewriting this.",
    ],
)
def test_refusals_are_seen(answer):
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I can help with that: the cat sat.",
        "I'm sorry about the rain, said the cat.",
        "She said: I cannot help you.",
        "We cannot see the sea from here.",
        "Sorry, we are closed.",
        "I cannot help loving it. " * 40,
        "I can't help but smile whenever she visits.",
        "We can't continue like this, the team is tired.",
        "I cannot do this anymore.",
        "I can't create memories like that again.",
        "Sorry, I cannot help but smile.",
        "",
    ],
)
def test_texts_that_only_sound_like_one_are_not(answer):
    assert not is_refusal(answer)


def test_a_rewrite_of_a_refusal_is_no_refusal():
    assert not is_refusal("I cannot help with that matter.", source="I can't help with that.")


@pytest.mark.parametrize(
    "raw",
    [
        "<|channel|>analysis<|message|>The user wants praise.<|end|><|start|>assistant<|channel|>final<|message|>Good lamp.",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Good lamp.<|end|>",
        "<|START_THINKING|>Hm, praise.<|END_THINKING|><|START_RESPONSE|>Good lamp.<|END_RESPONSE|>",
        "<think>a</think>\n<think>b</think>\nGood lamp.",
    ],
)
def test_channels_and_marks_of_thinking_are_taken_away(raw):
    assert clean_answer(raw) == "Good lamp."


@pytest.mark.parametrize(
    "text",
    [
        "The <thinking> tag is written like <thinking>x</thinking> in XML.",
        "Write [thought]here[/thought] what you feel.",
        "A closing </think> after a <think> in a sentence is a word.".replace("closing </think>", "closing tag"),
    ],
)
def test_a_text_that_mentions_tags_keeps_its_words(text):
    assert clean_answer(text) == text


def test_a_channel_that_never_comes_to_an_answer_leaves_nothing():
    assert clean_answer("<|channel|>analysis<|message|>The user wants praise") == ""
