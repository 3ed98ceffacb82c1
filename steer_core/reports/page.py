"""Pages from templates: autoescaped, strict about missing names, and with nothing to fetch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from steer_core.reports.drawing import RenderedFigure
from steer_core.reports.numbers import number, percent, percents, plural, signed, slug_words, span


@dataclass(frozen=True)
class Axis:
    """A horizontal scale of the small tracks: values `low`..`high` map to 0..100."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Position of a value in percent, kept inside the track."""
        if self.high <= self.low:
            return 50.0
        return round(min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low))), 2)


#: Scale of goal-space coordinates.
UNIT_AXIS = Axis(0.0, 1.0)


def environment() -> jinja2.Environment:
    """The templates' environment: what a model wrote is escaped because everything is."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("steer_core.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update({"number": number, "signed": signed, "percent": percent, "plural": plural, "words": slug_words})
    env.globals.update(
        {"span": span, "percents": percents, "unit_axis": UNIT_AXIS, "axis_of": lambda ends: Axis(*ends)}
    )
    return env


def page(template: str, figures: Mapping[str, RenderedFigure], **values: Any) -> str:
    """Renders one page.

    Args:
        template: file name below `templates/`.
        figures: name -> rendered figure; their SVGs are ours and go in unescaped.
        **values: what else the template reads.
    """
    env = environment()
    css = files("steer_core.reports").joinpath("templates/style.css").read_text(encoding="utf-8")
    return env.get_template(template).render(css=Markup(css), figures=figures, **values)
