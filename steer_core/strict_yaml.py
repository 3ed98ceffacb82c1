"""YAML as a person means it: what would vanish or become another number is refused. Parsed by libyaml where it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from steer_core.tables.errors import ConfigError


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads YAML, and refuses what would vanish or be another number: keys that stand twice, 010 (8), 1:30 (90)."""

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, as it is written.

        Raises:
            ConstructorError: YAML counts it to another base; says what it would be.
        """
        found: int = super().construct_yaml_int(node)
        if ":" in node.value or re.match(r"[-+]?0[0-7_]+$", node.value):
            raise _other_number(node, found)
        return found

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """A number with a point, as it is written; `ConstructorError` where YAML counts in sixties."""
        found: float = super().construct_yaml_float(node)
        if ":" in node.value:
            raise _other_number(node, found)
        return found

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises:
            ConstructorError: a key stands twice; says where.
        """
        seen: dict[Any, Any] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            try:
                again = key in seen
            except TypeError as error:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} cannot be a key", key_node.start_mark
                ) from error
            if again:
                first = seen[key].line + 1
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{key!r} stands twice, first in line {first}: the first would vanish",
                    key_node.start_mark,
                )
            seen[key] = key_node.start_mark
        built: dict[Any, Any] = super().construct_mapping(node, deep)
        return built


def _other_number(node: yaml.ScalarNode, found: float) -> yaml.YAMLError:
    said = f"{node.value} would be read as {found}: write {found}, or put it in quotes"
    return yaml.constructor.ConstructorError(None, None, said, node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
# YAML 1.1 takes 1e-3 for a text, which an option would be given as
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_yaml(file: Path) -> Any:
    """What a YAML file says; an empty one says `{}`.

    Raises:
        ConfigError: not valid, not UTF-8, or it cannot be read; a key stands twice, or a number would be another one.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
        return {} if content is None else content
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except (OSError, RecursionError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
