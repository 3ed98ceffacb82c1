"""Selectors name absolute positions of the row's own sequence."""

import numpy as np
import pytest
import torch

from steer_core.steering.positions import parse_positions
from steer_core.tables.errors import ConfigError

# prompt of 4 tokens, then 3 more
SELECTED = {
    "all": [0, 1, 2, 3, 4, 5, 6],
    "prompt": [0, 1, 2, 3],
    "completion": [4, 5, 6],
    "last_prompt": [3],
    "index:0": [0],
    "index:5": [5],
    "index:-1": [3],
    "index:-4": [0],
    "index:-5": [],
    "index:9": [],
    "span:1:3": [1, 2],
    "span:2:99": [2, 3, 4, 5, 6],
    "span:7:9": [],
}


@pytest.mark.parametrize(("selector", "expected"), SELECTED.items())
def test_a_selector_selects_its_positions(selector, expected):
    positions = parse_positions(selector)
    mask = positions.mask(np.arange(7)[None], np.array([4]))
    assert np.flatnonzero(mask[0]).tolist() == expected
    low, high = positions.interval(4)
    assert [p for p in range(7) if low <= p < high] == expected
    assert positions.count(4, 7) == len(expected)


@pytest.mark.parametrize("selector", SELECTED)
def test_pads_are_never_selected(selector):
    position = torch.tensor([[-3, -2, -1, 0, 1], [0, 1, 2, 3, 4]])
    mask = parse_positions(selector).mask(position, torch.tensor([1, 4]))
    assert not mask[0, :3].any()


def test_each_row_has_a_prompt_length_of_its_own():
    mask = parse_positions("last_prompt").mask(np.arange(4)[None].repeat(3, 0), np.array([1, 3, 4]))
    assert mask.argmax(axis=1).tolist() == [0, 2, 3]
    assert (mask.sum(axis=1) == 1).all()


@pytest.mark.parametrize("selector", ["", "everything", "index:", "index:x", "span:3", "span:-1:2", "All", "index:1.5"])
def test_unknown_selectors_are_refused_with_the_known_ones(selector):
    with pytest.raises(ConfigError, match="are unknown; there are: all, prompt, completion, last_prompt, index:N"):
        parse_positions(selector)


@pytest.mark.parametrize("selector", ["span:3:3", "span:5:2"])
def test_a_span_without_tokens_is_refused(selector):
    with pytest.raises(ConfigError, match="hold no token"):
        parse_positions(selector)
