"""The growing cache against a list of lists: whatever comes and goes, each row sees its own tokens, in order."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.cache_utils import Cache, DynamicLayer

from steer_core.generation.cache import BLOCK, RowCache

SLOTS, LAYERS, HEADS, KEY, VALUE = 5, 2, 2, 3, 4


def states(rows, width):
    """Keys and values [rows, heads, width, ...] that hold (row, position); padding holds rubbish."""
    keys, values = (torch.full((len(rows), HEADS, width, n), -7.0) for n in (KEY, VALUE))
    for r, (name, length) in enumerate(rows):
        numbers = name * 1000.0 + torch.arange(length)
        keys[r, :, width - length :] = numbers[None, :, None]
        values[r, :, width - length :] = -numbers[None, :, None]
    return keys, values


def read(rows):
    width = max(length for _, length in rows)
    cache = Cache(layer_class_to_replicate=DynamicLayer)
    for layer in range(LAYERS):
        cache.update(*states(rows, width), layer)
    return cache


moves = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.lists(st.integers(1, 3 * BLOCK), min_size=1, max_size=SLOTS)),
        st.tuples(st.just("step"), st.integers(1, 2 * BLOCK)),
        st.tuples(st.just("leave"), st.integers(0, SLOTS - 1)),
    ),
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(moves)
def test_rows_see_their_own_tokens_whatever_comes_and_goes(script):
    cache, rows, names = RowCache(SLOTS, "cpu"), [], 0  # rows: [name, tokens read]
    for kind, value in script:
        if kind == "join":
            new = [[names + k, length] for k, length in enumerate(value[: SLOTS - len(rows)])]
            if new:
                names += len(new)
                cache.join(read(new), [length for _, length in new])
                rows += new
        elif kind == "leave" and value < len(rows):
            cache.leave(value)
            rows[value] = rows[-1]
            rows.pop()
        elif kind == "step" and rows:
            for _ in range(value):
                step(cache, rows)
        assert cache.rows == len(rows)
    if rows:
        step(cache, rows)


def step(cache, rows):
    """One pass: each row's next token is written, and all of its own are seen behind the mask."""
    inputs = cache.inputs()
    mask, held = inputs["attention_mask"], inputs["past_key_values"]
    assert inputs["position_ids"][:, 0].tolist() == [length for _, length in rows]
    assert mask.sum(dim=1).tolist() == [length + 1 for _, length in rows]
    assert held.get_seq_length() + 1 == mask.shape[1] == max(length for _, length in rows) + 1
    one = torch.stack([torch.full((HEADS, 1, KEY), name * 1000.0 + length) for name, length in rows])
    other = -torch.stack([torch.full((HEADS, 1, VALUE), name * 1000.0 + length) for name, length in rows])
    for layer in range(LAYERS):
        keys, values = held.update(one, other, layer)
        assert keys.isfinite().all()
        assert values.isfinite().all()
        for r, (name, length) in enumerate(rows):
            expected = name * 1000.0 + torch.arange(length + 1.0)
            assert torch.equal(keys[r, 0, mask[r].bool(), 0], expected)
            assert torch.equal(values[r, 1, mask[r].bool(), 3], -expected)
    cache.advance()
    for row in rows:
        row[1] += 1


def test_what_is_cached_is_moved_once_in_many_passes():
    cache, moved = RowCache(2, "cpu"), 0
    rows = [[0, 10], [1, 30]]
    cache.join(read(rows), [10, 30])
    where = None
    for _ in range(10 * BLOCK):
        step(cache, rows)
        now = cache._layers[0].pair[0].data_ptr()
        moved += where is not None and now != where
        where = now
    assert moved <= 4
