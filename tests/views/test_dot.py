"""The tree for Graphviz: everyone once, under who created them, with names that cannot break out of their strings."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from lives_json import readable
from taskscope.recording import Recording
from taskscope.views.dot import quoted, tree_dot

EVIL = 'a"];b->c\\'


def svg_of(text: str, *options: str) -> ET.Element:
    """Return what `dot` draws of a graph."""
    if shutil.which("dot") is None:
        pytest.skip("graphviz is not installed")
    done = subprocess.run(["dot", "-Tsvg", *options], input=text.encode(), capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return ET.fromstring(done.stdout.decode())


def drawn(svg: ET.Element, kind: str) -> list[ET.Element]:
    """Return the nodes or edges of a drawing."""
    return [g for g in svg.iter() if g.get("class") == kind]


def words(group: ET.Element) -> list[str]:
    """Return the lines of text of a node or an edge, without its title."""
    return [(t.text or "").replace("\u00a0", " ") for t in group.iter() if t.tag.endswith("}text")]


def title(group: ET.Element) -> str:
    """Return the name of a node or an edge."""
    return next(t.text or "" for t in group.iter() if t.tag.endswith("}title"))


@pytest.mark.parametrize("name", ["d06-threads.dat", "d10-subreaper.dat", "d13-clones.dat", "d32-execthread-612.dat"])
def test_dot_draws_everyone(data: Path, name: str) -> None:
    """`dot` draws a node for each life and an edge for each creation, from creator to child."""
    trace = Recording.open(data / name)
    svg = svg_of("\n".join(tree_dot(trace.lives)))
    nodes = {title(g): words(g) for g in drawn(svg, "node")}
    assert set(nodes) == {f"t{x.pid}_{x.generation}" for x in trace.lives}
    edges = {title(g) for g in drawn(svg, "edge")}
    for life in trace.lives:
        assert any(life.comm in word for word in nodes[f"t{life.pid}_{life.generation}"])
        if life.kind == "process" and life.parent is not None:
            parent = life.parent
            assert f"t{parent.pid}_{parent.generation}->t{life.pid}_{life.generation}" in edges


def test_an_adopted_orphan_has_two_edges(data: Path) -> None:
    """Who adopts an orphan is drawn too, dashed."""
    trace = Recording.open(data / "d10-subreaper.dat")
    orphan = next(x for x in trace.lives if x.adopted and x.adopted[0].by is not None)
    by = orphan.adopted[0].by
    assert by is not None
    lines = [x.strip() for x in tree_dot(trace.lives)]
    assert any(x.startswith(f"t{by.pid}_{by.generation} -> t{orphan.pid}_{orphan.generation} [style=dashed")
               for x in lines)


def test_a_subtree(data: Path) -> None:
    """Of chosen tasks, they and their descendants are drawn."""
    trace = Recording.open(data / "d10-subreaper.dat")
    parent = next(x for x in trace.lives if any(y.parent == x.ref for y in trace.lives) and x.born is not None)
    nodes = {x.strip().split(" ")[0] for x in tree_dot(trace.lives, pids=[parent.pid]) if re.match(r"  t\d+_\d+ \[", x)}
    wanted, grown = {parent.ref}, True
    while grown:
        more = {x.ref for x in trace.lives if x.parent in wanted} | wanted
        wanted, grown = more, len(more) > len(wanted)
    assert nodes == {f"t{r.pid}_{r.generation}" for r in wanted}


@pytest.mark.parametrize("name", [EVIL, "\\N\\l\\G", "<b>&amp;x</b>", 'x\n"]; evil [label="', "문서", "\\"])
def test_names_are_only_text(name: str) -> None:
    """Whatever a task calls itself, its node shows that, and no node, attribute or escape comes of it."""
    svg = svg_of(f"digraph g {{ a [label={quoted(name)}] }}")
    [node] = drawn(svg, "node")
    assert (title(node), words(node)) == ("a", [name.replace("\n", "\\n")])
    assert not drawn(svg, "edge")


def test_a_hostile_recording(data: Path, tmp_path: Path) -> None:
    """A recording whose task bears such a name is drawn with that name."""
    whole = readable(data / "d15-text-stack.trace.txt").read_bytes()
    file = tmp_path / "x.txt"
    file.write_bytes(whole.replace(b"comm=sh ", b"comm=" + EVIL.encode() + b" "))
    trace = Recording.open(file)
    assert any(x.comm == EVIL for x in trace.lives)
    svg = svg_of("\n".join(tree_dot(trace.lives)))
    assert len(drawn(svg, "node")) == len(trace.lives)
    assert any(EVIL in word for g in drawn(svg, "node") for word in words(g))
