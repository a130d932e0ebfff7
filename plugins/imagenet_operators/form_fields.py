"""The kinds of fields that a trigger form has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import Param

from imagenet_etl.config import BOUNDS


def text_field(section: str, title: str, text: str, **schema: Any) -> Param:
    """Return a line of text, which may be empty."""
    return Param(
        "", type=["null", "string"], title=title, section=section, description_md=text, **schema
    )


def switch(section: str, title: str, text: str, *, default: bool = False) -> Param:
    """Return a switch, off unless its default says otherwise."""
    return Param(default, type="boolean", title=title, section=section, description_md=text)


def number(section: str, name: str, default: int, title: str, text: str) -> Param:
    """Return a whole number within the bounds of the setting ``name``."""
    low, high = BOUNDS[name]
    bounds = f"{low:,} to {high:,}" if high < 2**31 else f"{low:,} or more"
    return Param(
        default,
        type="integer",
        minimum=low,
        maximum=high,
        title=title,
        section=section,
        description_md=f"{text} {bounds}.",
    )


def choice(section: str, values: Sequence[str], title: str, text: str, **schema: Any) -> Param:
    """Return one of several words; ``default`` is the first of them unless it is given."""
    return Param(
        schema.pop("default", values[0]),
        type="string",
        enum=list(values),
        title=title,
        section=section,
        description_md=text,
        **schema,
    )
