"""A matplotlib figure as inline SVG: the same bytes for the same data, light enough for a page.

Colours are written as CSS variables of the page (see style.css): one figure fits light, dark and print. What it
shows stands in it as numbers as well (see plotted.py), for the page's script.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.report import words
from harness.report.plotted import NOTE, STAGE, TIME, plotted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins in the drawing; each becomes a variable. Okabe and Ito's palette: told apart by all eyes.
INK, FAINT, BAND = "#010203", "#040506", "#070809"
COLORS = {
    "baseline": "#0072b2",
    "candidate": "#d55e00",
    "stable": "#009e73",
    "pass": "#009e74",
    "fail": "#d55e01",
    "open": "#767676",
    "extra": "#cc79a7",
}
_VARIABLES = {INK: "ink", FAINT: "faint", BAND: "band", **{color: name for name, color in COLORS.items()}}
# Parts of the drawing, as matplotlib or a figure's maker names them, that the page's script looks for.
_CLASSES = {"axes": "axes", TIME: "axes", "xtick": "xtick", "legend": "legend", STAGE: "note", NOTE: "note"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "triton-canary",
    "path.simplify": True,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.0,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "axes.unicode_minus": True,
    "lines.solid_capstyle": "round",
    "axes.axisbelow": True,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure; drawing and `to_svg` both happen inside."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks: the page draws it with a font of the reader's.
        warnings.filterwarnings("ignore", message="Glyph ")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def to_svg(figure: Figure, key: str, label: str, rows: Mapping[Axes, Sequence[str]] | None = None) -> str:
    """An <svg> element without ids that could clash: `key` is unique on the page, `label` is read aloud.

    `rows`: of axes whose ticks on y name things, what the page says of each when it is pointed at.
    """
    raw = io.StringIO()
    for axes in figure.axes:
        for note in axes.texts:
            note.set_gid(note.get_gid() or NOTE)
    # As `savefig`, which draws everything once more to lay it out.
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(raw, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = words.visible(raw.getvalue())
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href=", "href=")
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    head = f'<svg viewBox="{box[1]}" role="img" aria-label="{html.escape(label)}" class="figure"'
    numbers = html.escape(plotted(figure, _VARIABLES, rows or {}), quote=False).replace("'", "&#39;")
    head += f" data-plot='{numbers}'>"
    text = _own_ids(text[text.index(">") + 1 :], key)
    text = re.sub(r"<[^>]+>", lambda tag: _lean(tag[0]), text)
    for color, name in _VARIABLES.items():
        text = text.replace(color, f"var(--{name})")
    return head + re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", text)).strip()


def _lean(tag: str) -> str:
    """One tag without the font's name (the page's font is used) and with coordinates of two decimals."""
    tag = re.sub(r"font: ([0-9.]+px) [^;\"]+", r"font-size: \1", tag)
    tag = re.sub(r"; font-family: [^;\"]+", "", tag)
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", tag)


def _own_ids(text: str, key: str) -> str:
    """Drops ids without references, renames the rest to `key-1`, `key-2`, ...; parts for scripts become classes."""
    names: dict[str, str] = {}
    for found in re.finditer(r'(?:url\(#|href="#)([^")]+)', text):
        names.setdefault(found[1], f"{key}-{len(names) + 1}")

    def identity(match: re.Match[str]) -> str:
        if match[1] in names:
            return f' id="{names[match[1]]}"'
        part = _CLASSES.get(re.sub(r"_\d+$", "", match[1]))
        return f' class="{part}"' if part else ""

    text = re.sub(r'\sid="([^"]*)"', identity, text)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda match: match[1] + names[match[2]], text)
