"""What a cell's page says beyond its scores: one module a kind of part, of the kind's name, and one each for the rest.

An extension of the group `sections` is a module with

* `sections(tables, swept)`: the sections of a page, none where the cell has no such part;
* optionally `caveats(tables, concepts)`: what speaks against claims about these goals or behaviors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steer_core import extensions

if TYPE_CHECKING:
    import jinja2

    from steer_core.reports.drawing import Figure
    from steer_core.reports.inputs import CellTables
    from steer_core.reports.sweeps import Sweep


@dataclass(frozen=True)
class Section:
    """A section of a cell's page.

    Attributes:
        template: file below `templates/`, or a template made by `steer_core.reports.page.environment()`; it finds this
            object as `section`, and the rendered figures by name as `figures`.
        content: what the template reads.
        links: anchor and title of what the table of contents leads to.
        figures: what it draws; names are unique on a page.
    """

    template: str | jinja2.Template
    content: Any
    links: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...] = ()


def fitted_sections(tables: CellTables, swept: Sequence[Sweep]) -> tuple[Section, ...]:
    """Sections of all kinds, in the order of their names."""
    return tuple(s for found in _modules() for s in found.sections(tables, swept))


def fitted_caveats(tables: CellTables, concepts: Sequence[str]) -> tuple[str, ...]:
    """What the fits of all kinds know against claims about these goals or behaviors."""
    return tuple(c for found in _modules() if hasattr(found, "caveats") for c in found.caveats(tables, concepts))


def _modules() -> list[Any]:
    return [found.load() for found in extensions.available("sections").values()]
