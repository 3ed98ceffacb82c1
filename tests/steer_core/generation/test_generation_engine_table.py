"""The documentation's table of engines is what the engines say."""

from pathlib import Path

from steer_core.front.engine_table import engine_table


def test_the_table_of_the_docs_is_made_from_the_code():
    assert engine_table() in (Path(__file__).parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
