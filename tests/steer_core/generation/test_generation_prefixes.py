"""Shared beginnings: rows that begin alike are read once as far as they agree, and say what they say when read whole."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_generation_adapters import write_adapter
from test_generation_stream import act, vector_of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation import branching, prefixes
from steer_core.generation.adapters import Adapter
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import families, group_batches, score_all
from steer_core.generation.prefixes import LEAST, SHORTEST, Read, agree, segments_of, together
from steer_core.models import load_model
from steer_core.steering import Plan
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import available_operators
from steer_core.tables.errors import ConfigError
from tests.own_hooks import adding, enliven, log_probs, middle_of

SHOTS = "Please rewrite the following text so that it is longer and more formal. " * 4
ITEMS = ["x " * 12, "so that it " * 8, "formal text " * 9]
#: One begins another; lengths differ.
OPTIONS = [" a", " a longer", " the more formal one", " text"]
#: Attention of every kind: windows shorter than what is shared, positions that are learnt, rotated or slopes, experts.
FAMILIES = [
    "llama", "mistral_window", "gemma3", "gemma3_wrapper", "cohere2", "olmo3", "gpt2", "gpt_neo", "gpt_bigcode", "opt",
    "falcon_alibi", "qwen2_moe", "gpt_oss", "deepseek_v3",
]  # fmt: skip
DECODING = Decoding(max_new_tokens=1)


@pytest.fixture(scope="module")
def loaded(tiny_model):
    made = {}

    def make(family="llama"):
        if family not in made:
            made[family] = load_model(ModelSpec(name="tiny", source=str(tiny_model(family, True))))
            enliven(made[family].model)
        return made[family]

    return make


def rows_of(backend, *ways, items=ITEMS, options=OPTIONS):
    """Every option of every item, under every way to steer."""
    plans = [
        Plan(backend.model_identity, DECODING, text=SHOTS + item, interventions=way)
        for item in items
        for way in ways
        for _ in options
    ]
    return plans, [*options] * (len(items) * len(ways))


def read_whole(model, *vectors):
    """A backend that shares no beginnings."""
    backend = TransformersBackend(model, vectors)
    vars(backend)["_no_prefixes"] = "switched off"
    return backend


def fed(model, run):
    """Tokens (rows times columns) of each pass, and what was found."""
    passes = []
    handle = model.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    found = run()
    handle.remove()
    return passes, found


@pytest.mark.parametrize("family", FAMILIES)
def test_options_of_steered_and_unsteered_items_are_those_of_whole_passes_under_a_hook_of_our_own(loaded, family):
    model = loaded(family)
    v = vector_of(model, layer=middle_of(model.model))
    backend = TransformersBackend(model, [v])
    assert (backend.capabilities.prefixes, backend.capabilities.prefixes_reason) == (True, "")
    ways = (), (act(v, 1.5),), (act(v, -1.0, positions="completion"),)
    plans, options = rows_of(backend, *ways)
    passes, found = fed(model, lambda: backend.score(plans, options))
    lengths = [len(backend.encode(p)) for p in plans]
    assert sum(passes) < sum(lengths) / 2
    for plan, option, got in zip(plans, options, found, strict=True):
        prompt = backend.encode(plan)
        tokens = model.tokenizer(option, add_special_tokens=False)["input_ids"]
        coefficient = plan.interventions[0].coefficient if plan.interventions else 0.0
        start = len(prompt) if plan.interventions and plan.interventions[0].positions == "completion" else 0
        with adding(model.model, v.layer, coefficient * torch.tensor(v.direction), start):
            want = log_probs(model.model, prompt, tokens)
        assert got == pytest.approx(want, abs=1e-5)
    # the one token of the last option is not fed, so nothing behind the prompt is steered
    assert len({round(sum(f), 4) for f in found}) == len(found) - len(ITEMS)


@pytest.mark.parametrize(
    "positions", ["all", "prompt", "completion", "last_prompt", "index:3", "index:-20", "span:90:200"]
)
@pytest.mark.parametrize("operator", available_operators())
def test_every_operator_at_every_position_scores_and_counts_as_in_whole_passes(
    loaded, operator, positions, monkeypatch
):
    model = loaded()
    vectors = [vector_of(model, operator, layer=1, seed=seed) for seed in (0, 1)]
    ways = [(act(v, c, positions=positions),) for v in vectors for c in (0.5, 1.0)]
    counted = []
    make = branching.make_receipt

    def counting(row, *args):
        counted.append((args[1:3], make(row, *args)))
        return counted[-1][1]

    monkeypatch.setattr(branching, "make_receipt", counting)
    backend, whole = TransformersBackend(model, vectors), read_whole(model, *vectors)
    plans, options = rows_of(backend, *ways, ())
    passes, found = fed(model, lambda: backend.score(plans, options))
    shared, counted[:] = sorted(counted, key=str), []
    more, want = fed(model, lambda: whole.score(plans, options))
    assert sum(passes) < sum(more) / 2
    assert shared == sorted(counted, key=str)
    # options of several tokens; a row for the prompt and its first letter may serve several
    assert len(shared) >= len(ITEMS) * len(ways) * 3
    for got, one in zip(found, want, strict=True):
        assert got == pytest.approx(one, abs=1e-5)


def test_a_gate_is_decided_by_the_whole_prompt_and_holds_for_its_options(loaded):
    model = loaded()
    v, condition = vector_of(model, layer=1), vector_of(model, layer=0, seed=3)
    whole, backend = read_whole(model, v, condition), TransformersBackend(model, [v, condition])
    for above in (True, False):
        for threshold in (-0.2, 0.0, 0.2):
            gate = Gate(condition.id, 0, threshold, above)
            ways = (act(v, 2.0, gate=gate),), (act(v, 2.0, positions="completion", gate=gate),), ()
            plans, options = rows_of(backend, *ways)
            passes, found = fed(model, lambda rows=(plans, options): backend.score(*rows))
            more, want = fed(model, lambda rows=(plans, options): whole.score(*rows))
            assert sum(passes) < sum(more) * 2 / 3
            for got, one in zip(found, want, strict=True):
                assert got == pytest.approx(one, abs=1e-5)


def test_what_the_gates_of_an_item_said_differs_and_is_kept(loaded):
    model = loaded()
    v, condition = vector_of(model, layer=1), vector_of(model, layer=0, seed=3)
    backend = TransformersBackend(model, [v, condition])
    prompts = [backend.encode(Plan("m", DECODING, text=SHOTS + item)) for item in ITEMS]
    kept = []
    handle = model.model.model.layers[0].register_forward_hook(
        lambda _m, _a, out: kept.append((out[0] if isinstance(out, tuple) else out)[0].mean(0).detach())
    )
    for prompt in prompts:
        model.model(input_ids=torch.tensor([prompt]))
    handle.remove()
    direction = torch.tensor(condition.direction)
    cosines = sorted(float(torch.cosine_similarity(k[None], direction)) for k in kept)
    gate = Gate(condition.id, 0, (cosines[0] + cosines[1]) / 2)
    plans, options = rows_of(backend, (act(v, 2.0, gate=gate),))
    plain, _ = rows_of(backend, ())
    changed = [
        a != pytest.approx(b, abs=1e-5)
        for a, b in zip(backend.score(plans, options), backend.score(plain, options), strict=True)
    ]
    by_item = [changed[k : k + len(OPTIONS)] for k in range(0, len(changed), len(OPTIONS))]
    assert sorted(map(tuple, by_item)) == [(False,) * 4, (True,) * 4, (True,) * 4]


def test_rows_under_adapters_share_with_their_own_kind_alone(loaded, tiny_model, tmp_path):
    source = str(tiny_model("llama", True))
    model = load_model(ModelSpec(name="tiny", source=source))
    adapters = [Adapter.of(write_adapter(tmp_path / str(k), source, seed=k)) for k in range(2)]
    v = vector_of(model, layer=0)
    whole, backend = read_whole(model, v), TransformersBackend(model, [v])
    backend.add_adapters(adapters)
    plans, options = rows_of(backend, (), (act(v, 1.0),), ())
    worn = [None, adapters[0].digest, adapters[1].digest]
    plans = [replace(p, adapter=worn[k // len(OPTIONS) % 3]) for k, p in enumerate(plans)]
    passes, found = fed(model, lambda: backend.score(plans, options))
    more, want = fed(model, lambda: whole.score(plans, options))
    assert sum(passes) < sum(more) / 2
    for got, one in zip(found, want, strict=True):
        assert got == pytest.approx(one, abs=1e-5)
    assert len({round(sum(f), 4) for f in found}) == len(found)


@pytest.mark.parametrize("layer", [0, 1])
def test_arms_of_one_item_share_the_layers_below_in_every_pass(loaded, layer):
    model = loaded()
    v = vector_of(model, layer=layer)
    ways = [(act(v, c),) for c in (-1.0, 0.5, 2.0)]
    backend = TransformersBackend(model, [v])
    plans, options = rows_of(backend, *ways)
    want = [backend.score([p], [o])[0] for p, o in zip(plans, options, strict=True)]
    rows = {0: [], 1: []}
    handles = [
        one.register_forward_hook(
            lambda _m, _a, out, k=k: rows[k].append(len(out[0] if isinstance(out, tuple) else out))
        )
        for k, one in enumerate(model.model.model.layers)
    ]
    found = backend.score(plans, options)
    for handle in handles:
        handle.remove()
    # this hook comes before the one that spreads what leaves the last shared layer
    assert rows[0][0] == 1  # the beginning of all rows, whatever the arms
    assert rows[1] == (rows[0] if layer == 1 else [3 * n for n in rows[0]])
    for got, one in zip(found, want, strict=True):
        assert got == pytest.approx(one, abs=1e-5)


def test_divergence_shares_beginnings_too(loaded):
    model = loaded()
    v = vector_of(model, layer=0)
    whole, backend = read_whole(model, v), TransformersBackend(model, [v])
    plans, options = rows_of(backend, (act(v, 1.5),), ())
    passes, found = fed(model, lambda: backend.diverge(plans, options))
    more, want = fed(model, lambda: whole.diverge(plans, options))
    assert sum(passes) < sum(more) / 2
    for got, one in zip(found, want, strict=True):
        assert got == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mamba", "take no position_ids"),
        ("jamba", "keep a state that is no cache"),
        ("recurrent_gemma", "keep a state that is no cache"),
        ("phi3_longrope", "longrope positions turn a row by the longest one"),
        ("gemma3n", "share keys and values between layers"),
    ],
)
def test_a_model_that_shares_no_beginnings_says_why_and_reads_rows_whole(loaded, family, reason):
    model = loaded(family)
    backend = TransformersBackend(model)
    assert backend.capabilities.prefixes is False
    assert reason in backend.capabilities.prefixes_reason
    # one length, as some of them need it
    plans, options = rows_of(backend, (), items=ITEMS[:1], options=[" a", " a longer"])
    passes, found = fed(model, lambda: backend.score(plans * 2, options * 2))
    assert sum(passes) >= sum(len(backend.encode(p)) for p in plans)
    for plan, option, got in zip(plans, options, found[:2], strict=True):
        tokens = model.tokenizer(option, add_special_tokens=False)["input_ids"]
        assert got == pytest.approx(log_probs(model.model, backend.encode(plan), tokens), abs=1e-4)


def test_a_model_that_says_something_else_behind_a_shared_beginning_is_measured_and_read_whole(loaded, monkeypatch):
    model = loaded()
    monkeypatch.setattr(branching, "_MEASURED", {})
    spread = branching.Kept.spread

    def wrong(self, *args):
        cache = spread(self, *args)
        for layer in cache.layers:
            layer._source = tuple(t + 1.0 for t in layer._source)
        return cache

    monkeypatch.setattr(branching.Kept, "spread", wrong)
    capabilities = TransformersBackend(model).capabilities
    assert capabilities.prefixes is False
    assert "say something else of a text that goes on from a shared beginning" in capabilities.prefixes_reason


def test_short_beginnings_are_not_shared(loaded):
    model = loaded()
    backend = TransformersBackend(model)
    plans = [Plan(backend.model_identity, DECODING, text="Please")] * 3
    passes, _ = fed(model, lambda: backend.score(plans, OPTIONS[:3]))
    assert len(passes) == 1


# --- how rows are cut

tokens = st.text("ab", min_size=1, max_size=24).map(lambda drawn: [ord(c) for c in drawn])


@given(st.lists(st.tuples(tokens, tokens, st.integers(1, 60)), min_size=1, max_size=8), st.integers(0, 60))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_segments_hold_every_token_of_every_row_once(drawn, common):
    acts = (), (Intervention("add", "v", 0, 1.0, positions="last_prompt"),)
    begin = [k % 3 for k in range(common)]
    rows = list(
        dict.fromkeys(
            Read(acts[n % 2], None, (*begin, *a, *b), min(prompt, common + len(a) + len(b)))
            for n, (a, b, prompt) in enumerate(drawn)
        )
    )
    ended = []

    def walk(segment, before):
        assert segment.start == before < segment.stop
        for row in segment.rows:
            assert row.tokens[: segment.stop] == segment.tokens
            assert row.interventions == segment.read.interventions
            if len(row.tokens) == segment.stop:
                ended.append(row)
        if len(segment.rows) > 1:
            assert segment.stop - segment.start >= SHORTEST
        longer = [row for row in segment.rows if len(row.tokens) > segment.stop]
        assert sorted(map(repr, longer)) == sorted(repr(row) for after in segment.after for row in after.rows)
        for after in segment.after:
            walk(after, segment.stop)

    for root in segments_of(rows):
        walk(root, 0)
    assert sorted(map(repr, ended)) == sorted(map(repr, rows))


@given(tokens, tokens, tokens)
def test_agreement_is_counted_token_by_token(common, one, other):
    a, b = tuple(common + one), tuple(common + other)
    counted = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert agree(a, b) == counted


@pytest.mark.parametrize(
    ("positions", "alike"),
    [
        ("all", 30),
        ("completion", 30),
        ("prompt", 30),
        ("last_prompt", 30),
        ("index:4", 30),
        ("index:-15", 25),
        ("span:2:50", 30),
    ],
)
def test_what_is_done_to_shared_tokens_is_the_same_for_all_rows(positions, alike):
    acts = (Intervention("add", "v", 0, 1.0, positions=positions),)
    rows = [Read(acts, None, (*range(30), k, *range(20)), 40 + k) for k in (0, 2)]
    assert together(rows) == alike
    gated = (replace(acts[0], gate=Gate("c", 0, 0.1)),)
    assert together([replace(r, interventions=gated) for r in rows]) == 0
    assert together([replace(r, interventions=gated, prompt=20) for r in rows]) == 30


def test_a_level_that_saves_little_is_not_worth_a_pass():
    many = [Read((), None, (*range(40), k, k), 40) for k in range(1 + -(-LEAST // 40))]
    assert len(segments_of(many)) == 1
    assert len(segments_of(many[:2])) == 2
    assert all(not s.after for s in segments_of(many[:2]))
    assert prefixes.whole(many)[0].tokens == many[0].tokens


# --- batches


def test_rows_of_one_prompt_stand_in_one_batch():
    assert group_batches([[0, 1, 2], [3], [4, 5, 6]], [5, 9, 5], 4) == [[3, 0, 1, 2], [4, 5, 6]]
    assert group_batches([[0, 1, 2, 3, 4], [5]], [5, 9], 2) == [[5], [0, 1], [2, 3], [4]]
    with pytest.raises(ConfigError, match="at least one row"):
        group_batches([[0]], [1], 0)


def test_any_number_of_rows_is_scored_item_by_item(loaded):
    model = loaded()
    v = vector_of(model, layer=0)
    backend = TransformersBackend(model, [v])
    plans, options = rows_of(backend, (), (act(v, 1.0),))
    seen = []
    score = backend.score

    def noting(some, texts):
        seen.append({p.text for p in some})
        return score(some, texts)

    backend.score = noting
    found = score_all(plans[::2] + plans[1::2], options[::2] + options[1::2], backend, 10)
    assert [len(prompts) for prompts in seen] == [1, 1, 1]
    want = score(plans[::2] + plans[1::2], options[::2] + options[1::2])
    for got, one in zip(found, want, strict=True):
        assert got == pytest.approx(one, abs=1e-5)


def test_prompts_that_begin_alike_are_kin_and_what_all_begin_with_makes_nobody_so():
    one, two = "Context: a mill by the river. ", "Context: a shop in the town. "
    prompts = [
        one + "Who runs?",
        two + "Who runs?",
        one + "Who sits still?",
        one + "It turned. Who runs?",
        two + "Who sits?",
    ]
    assert families(prompts, [3] * 5, 64) == [[3, 0, 2], [1, 4]]
    # a family is no larger than a batch
    assert families(prompts, [3] * 5, 6) == [[3, 0], [2], [1, 4]]
    # examples in front of all are no reason to leave the order of lengths
    shots = "Question: one. Answer: two. " * 5
    assert families([shots + p for p in ("river?", "a town, or none?", "who?")], [2] * 3, 64) == [[1], [0], [2]]
    assert families(["", ""], [1, 1], 8) == [[0], [1]]
    assert families([], [], 8) == []
    assert families([(1, 2, 3, 4), (9, 8), "1, 2", (1, 2, 3, 5)], [1] * 4, 8) == [[0, 3], [1], [2]]
