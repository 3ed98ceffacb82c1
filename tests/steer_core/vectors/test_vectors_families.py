"""The mean difference of every architecture is that of plain passes, read by the model itself and by a hook of our own."""

import numpy as np
import pytest
from fitting_world import pairs, span, tiny, tokens_of

from schemas.vector_part import VectorPart
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.fit import fit_vectors
from tests.own_hooks import enliven, middle_of, stream_after
from tests.tiny_configs import ARCHITECTURES

#: Refused: no layers to read, several streams, and tokens that see later ones.
REFUSED = {"rwkv", "gemma3n", "doge"}


@pytest.mark.parametrize("family", [name for name in ARCHITECTURES if name not in REFUSED])
def test_the_mean_difference_at_a_middle_layer_is_that_of_plain_passes(family, tiny_model):
    loaded = tiny(tiny_model(family))
    enliven(loaded.model)
    examples, layer = pairs(4), middle_of(loaded.model)
    for read in ("answer", "last_token"):
        (found,) = fit_vectors(loaded, examples, VectorPart(estimator="mean-difference", layers=(layer,), read=read))
        means = {0: [], 1: []}
        for row in examples.iter_rows(named=True):
            prompt, answer = tokens_of(loaded, row)
            start, stop = span(read, len(prompt), len(prompt) + len(answer))
            hooked, shown = stream_after(loaded.model, layer, [*prompt, *answer])
            assert (hooked == shown).all()
            means[row["label"]].append(shown[start:stop].double().mean(dim=0).numpy())
        want = np.mean(means[1], axis=0) - np.mean(means[0], axis=0)
        assert np.abs(found.direction - want).max() < 2e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    ("family", "said"), [("rwkv", "RwkvForCausalLM .* cannot be found"), ("gemma3n", "keeps 4 streams")]
)
def test_an_architecture_without_a_single_stream_is_refused_by_name(family, said, tiny_model):
    loaded = tiny(tiny_model(family))
    with pytest.raises(SteerworksError, match=said):
        fit_vectors(loaded, pairs(2), VectorPart(estimator="mean-difference", layers=(0,)))
