"""The part that writes the prompt: a strategy of the group `prompts`, built with its options."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.parts import PromptPart
from steer_core import extensions
from steer_core.methods.protocol import Method, Setting
from steer_core.tables.errors import ConfigError

SPEC = PromptPart
STEPS = True


def strategies() -> list[str]:
    """Names of all prompt strategies: extensions of the group `prompts` that have `build`."""
    return [name for name, found in extensions.available("prompts").items() if hasattr(found.load(), "build")]


def build_strategy(name: str, setting: Setting, options: Mapping[str, object]) -> Method:
    """The strategy of that name, built with its options.

    Raises:
        ConfigError: unknown strategy, or an option that it does not have.
    """
    known = strategies()
    if name not in known:
        raise ConfigError(f"unknown strategy {name!r}; there are: {', '.join(known)}")
    build = extensions.load("prompts", name).build
    extensions.check_options(build, options, f"strategy {name!r}", "setting")
    method: Method = build(setting, **options)
    return method


def build(spec: PromptPart, label: str, setting: Setting) -> Method:
    """The strategy that a part names."""
    return build_strategy(spec.strategy, setting, spec.options)
