"""A figure's SVG as a PNG, for where only pixels will do. Drawn on demand: a page needs none."""

from __future__ import annotations

from pathlib import Path

from steer_core.tables.errors import ConfigError

#: Pixels to a point: 130 dots an inch.
ZOOM = 130 / 72


def png_of(svg: str, zoom: float = ZOOM) -> bytes:
    """The picture.

    Args:
        svg: a still, as `figures/*.svg` holds it.
        zoom: pixels to a point.

    Raises:
        ConfigError: the package that draws it is not installed.
    """
    import matplotlib

    try:
        import resvg_py
    except ImportError as error:
        raise ConfigError("PNG stills need the package resvg-py: `pip install 'steerworks[png]'`") from error
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # one font that is always there: the picture is the same on every machine
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg, zoom=zoom, skip_system_fonts=True, font_dirs=[str(fonts)], font_family="DejaVu Sans"
        )
    )
