"""Texts are measured while others are being written: the same values, found in the cache, whatever happens."""

import polars as pl
import pytest

from schemas.digest import digest_text
from steer_assets import measuring
from steer_assets.settings import registry
from steer_core.goals.cache import GoalCache, text_keys

TEXTS = ["The old baker sells bread.", "Nobody knows why, although many have asked.", "", "It rains."]


def cached(workplace):
    ids = list(measuring.scorer_ids(registry().bench("small")).values())
    return GoalCache(str(workplace.root / "goal_value_cache")).index(ids).find(text_keys(TEXTS))


def test_what_was_told_while_the_model_wrote_is_in_the_cache_when_it_is_done(workplace):
    bench = registry().bench("small")
    with measuring.measuring_aside(bench, "cuda:0", workers=1) as listener:
        for text in TEXTS:
            listener([text])
            listener([text])
    found = cached(workplace)
    frame = pl.DataFrame({"text_id": [digest_text(t) for t in TEXTS], "text": TEXTS})
    (workplace.root / "goal_value_cache").rename(workplace.root / "aside")
    alone = measuring.measure_texts(bench, frame)
    expected = alone["value"].to_numpy().reshape(found.shape)
    assert found == pytest.approx(expected, nan_ok=True)


def test_a_run_that_fails_still_ends_the_measuring_and_keeps_what_was_told(workplace):
    def stopped():
        with measuring.measuring_aside(registry().bench("small"), "cuda", workers=1) as listener:
            listener(TEXTS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (cached(workplace) != float("inf")).all()


def test_on_a_cpu_nobody_listens(workplace):
    with measuring.measuring_aside(registry().bench("small"), "cpu") as listener:
        assert listener is None
