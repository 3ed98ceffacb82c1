import numpy as np
import pytest

from steer_core.methods.prompts.underspecified import WORDINGS
from steer_core.methods.wording import NEGATIVE, ONLY, REWRITE
from steer_core.models.embedded.examples import MOVES, POSITIONS, draw_example, draw_last_stage, draw_wish
from steer_core.models.embedded.grammar import is_heldout
from steer_core.models.embedded.lexicon import TOPICS
from steer_core.models.embedded.recipe import IGNORE, Recipe, make_batches, train
from steer_core.models.embedded.tokenizer import CONTEXT, prompt_text, train_tokenizer
from steer_core.models.embedded.wording import HELDOUT_FRAMES, HELDOUT_REWRITE

TINY = Recipe(
    stages=(60, 60),
    last_stage=60,
    n_tokenizer_examples=60,
    vocab_size=400,
    layers=2,
    width=32,
    heads=2,
    inner=64,
    max_steps=2,
)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    return [draw_example(rng) for _ in range(2500)]


def test_no_training_prompt_has_a_wording_of_the_library(examples):
    prompts = [content for e in examples for _, content in e.messages]
    closings = (NEGATIVE.strip(), ONLY.strip())
    for phrase in (REWRITE, REWRITE.removeprefix("Please "), *closings, *WORDINGS):
        assert not [p for p in prompts if phrase in p]


def test_no_training_prompt_has_a_heldout_frame(examples):
    openings = [f.split("{}")[0].strip() for f in HELDOUT_FRAMES] + [HELDOUT_REWRITE]
    prompts = [content for e in examples for _, content in e.messages]
    assert not [p for p in prompts for o in openings if o in p]


def test_training_wordings_are_many(examples):
    asked = {e.messages[0][1].split("\n\n")[0] for e in examples if e.kind == "rewrite"}
    assert len(asked) > 0.9 * sum(e.kind == "rewrite" for e in examples)


def test_no_training_example_tells_a_heldout_scenario(examples):
    heldout = [(t.name, a, o) for t in TOPICS for a in t.agents for o in t.objects if is_heldout(t, a, o)]
    said = [" ".join(c for _, c in e.messages) + " " + e.answer for e in examples]
    # an agent and an object of one held-out pair, side by side as the grammar puts them
    assert not [s for s in said for _, a, o in heldout if f"the {a} and the {o}" in s or f"{o} of the {a}" in s]


def test_the_last_stage_asks_for_one_change_at_all_strengths_and_its_stories_end():
    found = draw_last_stage(np.random.default_rng(0), 3000)
    # one text under three wishes that differ in the word of strength alone
    sources = {}
    for e in found:
        if e.kind == "rewrite":
            sources.setdefault(e.messages[0][1].split("\n\n", 1)[1], []).append(e)
    graded = [same for same in sources.values() if len(same) == 3]
    assert len(graded) > 300
    lengths = [len({e.answer for e in same}) for same in graded]
    assert np.mean(lengths) > 2
    open_answers = [e.answer for e in found if e.kind == "open"]
    sentences = [a.count(". ") + 1 for a in open_answers]
    # at three the end is the likeliest next thing, before that it is not
    assert np.mean([n == 3 for n in sentences if n >= 3]) > 0.6
    assert np.mean([n == 1 for n in sentences]) < 0.2


def test_stronger_words_ask_for_larger_moves():
    rng = np.random.default_rng(0)
    for attribute, places in POSITIONS.items():
        lowest = min(places)
        moves = {strength: [] for strength in range(len(MOVES))}
        while min(map(len, moves.values())) < 50:
            wish, target = draw_wish(attribute, lowest, rng)
            if wish.up:
                moves[wish.strength].append(places[target] - places[lowest])
        slightly, plain, much = (np.mean(moves[s]) for s in range(3))
        assert 0 < slightly < 0.25 < plain < 0.5 < much


def test_a_wish_moves_in_its_direction_or_not_at_all():
    rng = np.random.default_rng(1)
    for _ in range(500):
        wish, target = draw_wish("formality", 1, rng)
        assert target > 1 if wish.up else target < 1
    assert {draw_wish("sentiment", 2, rng)[1] == 2 for _ in range(200)} == {True, False}


def test_the_loss_is_taken_on_answers_only(examples):
    tokenizer = train_tokenizer([prompt_text(e.messages) + e.answer for e in examples[:100]], 500)
    batch = next(make_batches(examples[:40], tokenizer, 2048, np.random.default_rng(0)))
    assert batch.tokens.shape == batch.labels.shape
    assert batch.tokens.shape[1] <= CONTEXT
    said = batch.labels != IGNORE
    assert (batch.labels[said] == batch.tokens[said]).all()
    answers = {e.answer for e in examples[:40]}
    for tokens, mask in zip(batch.tokens, said, strict=True):
        assert tokenizer.decode(tokens[mask], skip_special_tokens=True) in answers
        assert tokens[mask][-1] == tokenizer.eos_token_id


def test_the_prompt_is_what_the_chat_template_makes():
    tokenizer = train_tokenizer(["a b c"], 300)
    messages = (("system", "Be brief."), ("user", "Hello  there\n\nyou"))
    made = tokenizer.apply_chat_template(
        [{"role": r, "content": c} for r, c in messages], tokenize=False, add_generation_prompt=True
    )
    assert made == prompt_text(messages)


def test_the_recipe_gives_the_same_bits_twice():
    import torch

    losses = ([], [])
    models = [train(TINY, lambda step, steps, loss, seen=seen: seen.append(loss)) for seen in losses]
    (first, first_tokenizer), (second, second_tokenizer) = models
    assert losses[0] == losses[1]
    # two steps in each stage, and in the last one
    assert len(losses[0]) == 6
    assert first_tokenizer.get_vocab() == second_tokenizer.get_vocab()
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_another_seed_gives_another_model():
    import torch

    first, _ = train(TINY)
    second, _ = train(Recipe(**{**TINY.__dict__, "seed": 1}))
    assert not torch.equal(first.lm_head.weight, second.lm_head.weight)
