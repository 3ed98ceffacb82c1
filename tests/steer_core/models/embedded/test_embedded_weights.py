import json

import numpy as np
import pytest

import steer_core as steer
from benchmarks.embedded_trial import Scale, added, answer, ask, load, mean_difference, open_prompts, wish_of
from steer_core.models.embedded import weights_folder
from steer_core.models.embedded.examples import OPEN
from steer_core.models.embedded.grammar import read, write
from steer_core.models.embedded.manifest import NAME, add_figures, file_digests, read_manifest, write_manifest
from steer_core.models.embedded.wording import HELDOUT_FRAMES


@pytest.fixture(scope="module")
def loaded():
    return load(weights_folder())


@pytest.fixture(scope="module")
def corpus():
    return write(120, seed=3, split="heldout")


def test_shipped_files_are_those_of_the_manifest():
    assert read_manifest(weights_folder())["files"] == file_digests(weights_folder())


def test_the_manifest_tells_recipe_time_and_figures():
    manifest = read_manifest(weights_folder())
    assert manifest["recipe"]["seed"] == 0
    assert manifest["training"]["seconds"] > 0
    assert {"bounds", "single goals", "two of four goals, mean error"} <= set(manifest["figures"])


def test_weights_are_small():
    assert (weights_folder() / "model.safetensors").stat().st_size <= 8 * 2**20


def test_figures_are_refused_for_other_weights(tmp_path):
    for file in weights_folder().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_manifest(tmp_path, recipe={})
    add_figures(tmp_path, {"a": 1})
    assert json.loads((tmp_path / NAME).read_text())["figures"] == {"a": 1}
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="train again"):
        add_figures(tmp_path, {"a": 2})


def test_the_model_is_a_plain_llama_with_512_tokens_of_context(loaded):
    model, tokenizer = loaded
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.max_position_embeddings == 512
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")


def test_any_text_survives_the_tokenizer(loaded):
    _, tokenizer = loaded
    for text in ("The baker's  bread, 42 loaves!", "naïve café\n\n\tπ", "Oh, we soon got it."):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_long_request_fits_the_context(loaded, corpus):
    _, tokenizer = loaded
    longest = max(corpus, key=lambda t: len(t.text)).text
    wishes = [wish_of(goal, 0.15) for goal in ("reading_difficulty", "text_length", "formality", "sentiment")]
    prompt = ask(HELDOUT_FRAMES[2], longest, wishes)
    assert len(tokenizer(prompt)["input_ids"]) + 192 < 512


def test_greedy_answers_are_the_same_twice_and_in_any_batch(loaded, corpus):
    model, tokenizer = loaded
    prompts = [ask(HELDOUT_FRAMES[0], t.text, [wish_of("formality", 0.3)]) for t in corpus[:6]]
    together = answer(model, tokenizer, prompts)
    assert together == answer(model, tokenizer, prompts)
    assert together == answer(model, tokenizer, prompts, rows=1)


def test_answers_are_texts_of_the_grammar_that_end_by_themselves(loaded, corpus):
    model, tokenizer = loaded
    answers = answer(
        model, tokenizer, [ask(HELDOUT_FRAMES[1], t.text, [wish_of("sentiment", 0.3)]) for t in corpus[:16]]
    )
    assert all(a.endswith(".") for a in answers)
    assert all(None not in vars(read(a)).values() for a in answers)


@pytest.mark.parametrize("goal", ["reading_difficulty", "text_length", "formality", "sentiment"])
def test_each_goal_moves_as_asked_in_a_wording_never_seen(loaded, corpus, goal):
    model, tokenizer = loaded
    scale = Scale(corpus)
    column = ["reading_difficulty", "text_length", "formality", "sentiment"].index(goal)
    places = scale.locate([t.text for t in corpus])[:, column]
    for sign in (1, -1):
        chosen = np.flatnonzero((1 - places if sign > 0 else places) > 0.55)[:16]
        prompts = [ask(HELDOUT_FRAMES[1], corpus[i].text, [wish_of(goal, 0.35 * sign)]) for i in chosen]
        moved = sign * (scale.locate(answer(model, tokenizer, prompts))[:, column] - places[chosen])
        assert moved.mean() > 0.1
        assert moved.mean() > 2 * moved.std(ddof=1) / np.sqrt(len(chosen))


@pytest.mark.parametrize("goal", ["reading_difficulty", "text_length", "formality"])
def test_words_of_strength_grade_the_move(loaded, corpus, goal):
    model, tokenizer = loaded
    scale = Scale(corpus)
    column = ["reading_difficulty", "text_length", "formality", "sentiment"].index(goal)
    places = scale.locate([t.text for t in corpus])[:, column]
    chosen = np.flatnonzero(1 - places > 0.55)[:24]
    moved = {}
    for words, asked in (("slightly", 0.1), ("much", 0.6)):
        prompts = [ask(HELDOUT_FRAMES[1], corpus[i].text, [wish_of(goal, asked)]) for i in chosen]
        moved[words] = scale.locate(answer(model, tokenizer, prompts))[:, column] - places[chosen]
    more = moved["much"] - moved["slightly"]
    assert more.mean() > 2 * more.std(ddof=1) / np.sqrt(len(chosen))
    assert more.mean() > 0.1


def test_open_stories_end():
    prompts = [o.format(agent=a, object=b, topic=b) for o in OPEN for a, b in (("sailor", "boat"), ("baker", "garden"))]
    found = steer.load("embedded").generate(prompts, max_new_tokens=96)
    # 99 % were cut off here
    assert found["finish_reason"].to_list() == ["stop"] * len(prompts)


def test_a_vector_of_feeling_moves_open_texts_both_ways(loaded):
    model, tokenizer = loaded
    vector = mean_difference(model, tokenizer, 2, 24)
    feelings = []
    for multiplier in (-4.0, 0.0, 4.0):
        with added(model, 2, multiplier * vector):
            read_back = [read(a).sentiment for a in answer(model, tokenizer, open_prompts(24))]
        feelings.append(np.mean([r for r in read_back if r is not None]))
    assert feelings[0] < feelings[1] < feelings[2]
