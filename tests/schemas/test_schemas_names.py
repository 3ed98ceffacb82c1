"""Names of models and methods stay what they are in every reader of the tables."""

import pandas as pd
import polars as pl
import pytest

from schemas.specs import MethodSpec, ModelSpec
from steer_core.front.model import _slug

NUMBERS = ["007", "7", "1.5", "2024-01-01", "1e5", "3e-2", "nan", "inf", "true", "false", "null", "none"]
NAMES = ["7b", "m007", "1.5b-it", "e5", "v1.0", "infinite", "0x"]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_name_that_readers_would_take_for_something_else_is_refused(name):
    for make in (
        lambda: ModelSpec(name=name, source="embedded"),
        lambda: MethodSpec.model_validate({"name": name, "parts": [{"kind": "prompt", "strategy": "copy"}]}),
    ):
        with pytest.raises(ValueError, match=f"'{name}' would be read from the tables' folders as a number or a date"):
            make()


@pytest.mark.parametrize("name", NAMES)
def test_other_names_are_text_for_every_reader(name, tmp_path):
    assert ModelSpec(name=name, source="embedded").name == name
    folder = tmp_path / "vectors" / f"model={name}" / f"method={name}"
    folder.mkdir(parents=True)
    pl.DataFrame({"x": [1.0]}).write_parquet(folder / "part.parquet")
    read = pl.read_parquet(f"{tmp_path}/vectors/**/*.parquet", hive_partitioning=True)
    assert read.select("model", "method").rows() == [(name, name)]
    assert [str(v) for v in pd.read_parquet(tmp_path / "vectors")[["model", "method"]].iloc[0]] == [name, name]


def test_a_folder_whose_name_is_a_number_still_makes_a_model_name():
    assert (_slug("7"), _slug("7b"), _slug("2024-01-01")) == ("model-7", "7b", "model-2024-01-01")
