"""The schemas of --json as files and as tables of a page: `write_schemas`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labpages import write

from taskscope.cli.schemas import SCHEMAS, schema


def write_schemas(folder: Path, site: Path) -> None:
    """Write each schema as ``VERB.schema.json``, and as a table that pages include, ``schema-VERB.md``.

    :param folder: where to put the tables
    :param site: where to put the schemas, for the root of the site
    """
    site.mkdir(parents=True, exist_ok=True)
    for verb in SCHEMAS:
        found = schema(verb)
        write(site / f"{verb}.schema.json", json.dumps(found, indent=2) + "\n")
        write(folder / f"schema-{verb}.md", "\n".join(_page(verb, found)) + "\n")


def _page(verb: str, found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['description']} Schema: <a href=\"{verb}.schema.json\">{verb}.schema.json</a>."
    yield ""
    for kind in found.get("oneOf", [found]):
        if "oneOf" in found:
            yield from (f"**{kind['title']}**: {kind['description']}", "")
        yield from ("```{list-table}", ":header-rows: 1", ":widths: 24 16 60", "", "* - key", "  - type", "  - meaning")
        for key, of, about in _rows(kind["properties"], found.get("$defs", {}), ""):
            yield from (f"* - `{key}`", f"  - {of}", f"  - {about}")
        yield from ("```", "")


def _rows(keys: dict[str, Any], defs: dict[str, Any], above: str) -> Iterator[tuple[str, str, str]]:
    for key, part in keys.items():
        about = part.get("description", "").replace("*", r"\*")
        yield above + key, _type(part), about
        inner, mark = _inside(part)
        if "properties" in inner:
            yield from _rows(inner["properties"], defs, f"{above}{key}{mark}.")


def _inside(part: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the object in a part that may be a list or null, and how its keys are written."""
    for one in part.get("anyOf", []):
        if one.get("type") != "null":
            return _inside(one)
    if part.get("type") == "array":
        return _inside(part["items"])[0], "[]"
    return part, ""


def _type(part: dict[str, Any]) -> str:
    if "$ref" in part:
        return part["$ref"].rpartition("/")[2]
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return ", ".join("null" if one is None else f"`{one}`" for one in part["enum"])
    if "anyOf" in part:
        return " or ".join(_type(one) for one in part["anyOf"])
    kind = part.get("type", "")
    if isinstance(kind, list):
        return " or ".join(kind)
    return f"list of {_type(part['items'])}" if kind == "array" else kind
