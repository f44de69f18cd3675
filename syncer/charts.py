"""Bars over time as SVG, drawn by pygal; all colours and sizes are left to the style sheet around them.

pygal puts a script, a style sheet and the day of drawing into every chart. None of them comes through: the page
around it allows only its own script, and the same numbers shall give the same bytes. What it says of a bar, for its
own script, becomes the bar's title, which a browser shows by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import ConfigError

Bar = tuple[float, str]
"""How high a bar is, and what to say of it."""

LABELS = 6
"""How many bars have a label below them."""
_LEFT_OUT = ("defs", "desc", "title")  # in `defs` are the script and the style sheet


def bars(
    series: Sequence[Sequence[Bar | None]], labels: Sequence[str], shown: Callable[[float], str], *, small: bool = False
) -> str:
    """A chart with a bar for each label; where a series has None another one has the bar, or nobody.

    `shown` writes a number of the axis. A small one is without axes, to stand in a line of text. ConfigError without
    pygal.
    """
    chart = _library().StackedBar(
        js=[],
        css=[],
        no_prefix=True,
        disable_xml_declaration=True,
        show_legend=False,
        truncate_label=-1,
        width=160 if small else 560,
        height=24 if small else 150,
        margin=0 if small else 2,
        margin_top=0 if small else 8,
        margin_right=0 if small else 32,
        spacing=0 if small else 4,
        show_x_labels=not small,
        show_y_labels=not small,
        min_scale=2,
        max_scale=4,
        value_formatter=shown,
    )
    chart.x_labels = _sparse(labels)
    for one in series:
        chart.add("", [None if bar is None or not bar[0] else {"value": bar[0], "label": bar[1]} for bar in one])
    chart.add_xml_filter(_bare)
    return str(chart.render(is_unicode=True))


def _library() -> Any:
    try:
        import pygal  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            "a page cannot be made: pygal, which draws its charts, is missing", hint="pip install 'syncer[report]'"
        ) from None
    return pygal


def _sparse(labels: Sequence[str]) -> list[str]:
    """Every so manieth label; the others are empty."""
    step = -(-len(labels) // LABELS)
    return [label if step and (len(labels) - 1 - number) % step == 0 else "" for number, label in enumerate(labels)]


def _empty(part: Any, name: str) -> bool:
    """Whether there is nothing to see: a label without words, and the box that a script would fill."""
    return (name == "text" and not part.text) or part.get("class") == "tooltip"


def _bare(root: Any) -> Any:
    """The drawing alone, and what each bar says as its title."""
    for parent in list(root.iter()):
        for child in list(parent):
            name = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
            if name == "desc" and child.get("class") == "label":
                child.tag = child.tag.replace("desc", "title")
                child.attrib.clear()
            elif name in _LEFT_OUT or not name or _empty(child, name):
                parent.remove(child)
    del root.attrib["id"]
    root.set("aria-hidden", "true")  # whoever does not see it has the numbers in a table
    return root
