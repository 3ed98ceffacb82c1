"""Keys follow content and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.digest import KEY_DIGITS, canonical_json, digest_json, digest_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_order_of_keys_does_not_matter(value):
    assert digest_json(dict(reversed(value.items()))) == digest_json(value)


@given(st.text(), st.text())
def test_other_texts_have_other_keys(one, two):
    assert (digest_text(one) == digest_text(two)) == (one == two)
    assert len(digest_text(one)) == KEY_DIGITS


def test_any_string_has_a_key():
    assert digest_text("\ud800") != digest_text("?")


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
    with pytest.raises(TypeError):
        canonical_json({1, 2})
