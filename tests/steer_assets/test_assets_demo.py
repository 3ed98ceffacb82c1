"""The demo's command line: mistakes are said in one line and end with code 2."""

import pytest

from steer_assets.demo import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bench", "tale"], "error: unknown bench 'tale'; configured are: tales. Did you mean 'tales'?"),
        (["--methods", "drect"], "error: bench 'tales' has no method 'drect'; it has copy, "),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_broken_configuration_is_named(tmp_path, monkeypatch, capsys):
    from steer_assets import settings

    (tmp_path / "models.yaml").write_text("a: [1")
    monkeypatch.setenv("STEERWORKS_CONFIG", str(tmp_path))
    settings.registry.cache_clear()
    try:
        assert main([]) == 2
    finally:
        settings.registry.cache_clear()
    assert "models.yaml is not valid YAML" in capsys.readouterr().err
