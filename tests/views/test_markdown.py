"""The story in Markdown: what a bug report needs, and names that are nothing but text in it."""

from __future__ import annotations

import html.parser
from pathlib import Path

import pytest

from lives_json import readable
from taskscope.errors import UsageError
from taskscope.recording import Recording
from taskscope.views.markdown import block, code, story_markdown
from taskscope.views.story import told

EVIL = ("<img src=x>", "`|`<b>", "a | b\\|c\\", "[x](http://x)", "@all #1 **b**", "-->", "``` ", "\\`x`\\", " ", "")


class Rendered(html.parser.HTMLParser):
    """What a page made of Markdown has: its tags in order, and its text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        markdown = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
        self.feed(markdown.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        """Keep a tag."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.texts.append((self.tags[-1] if self.tags else "", data))


def story(trace: Recording, *pids: int, verbose: bool = False) -> str:
    """Return the document of some tasks."""
    return "".join(story_markdown(trace.lives, trace.lives.choose(pids), verbose=verbose))


def test_a_story_has_what_a_report_needs(data: Path) -> None:
    """A heading a task, the facts, the story as `taskscope life` tells it, and every signal with its sender."""
    trace = Recording.open(data / "d08-signals.dat")
    text = story(trace, 200, 201)
    page = Rendered(text)
    assert [t for t in page.tags if t in ("h1", "h2")] == ["h1", "h2", "h2"]
    for pid in (200, 201):
        assert told(trace.lives.get(pid), trace.lives, width=100) in text
    cells = [x for tag, x in page.texts if tag in ("td", "code")]
    for sig in ("SIGSTOP", "SIGCONT", "SIGKILL"):
        assert sig in cells
    assert "97.303621 SIGKILL by 195" in cells
    assert "6.1.0-56-cloud-amd64 x86_64" in cells


def test_verbose_has_the_records(data: Path) -> None:
    """With -v the records that a story rests on are in it."""
    trace = Recording.open(data / "d05-zombie.dat")
    assert "sched_process_exit:" not in story(trace, 159)
    assert "sched_process_exit:" in story(trace, 159, verbose=True)


@pytest.mark.parametrize("name", EVIL)
def test_a_name_is_only_text(name: str) -> None:
    """A name in a cell or a heading makes one code span there, and neither a cell, a tag, nor a link."""
    page = Rendered(f"## {code(name)}\n\n| a | b |\n| --- | --- |\n| {code(name)} | x |\n")
    assert page.tags == ["h2", "code", "table", "thead", "tr", "th", "th", "tbody", "tr", "td", "code", "td"]
    shown = [x for tag, x in page.texts if tag == "code" and x.strip("\n")]
    assert len(shown) == 2
    assert shown[0] == shown[1]
    assert shown[0].strip('"') == name.replace("`", "\\x60").replace("|", "\\x7c")


@pytest.mark.parametrize("text", ["```\n<b>", "````\n```", "<script>", "~~~"])
def test_a_block_ends_where_it_should(text: str) -> None:
    """Text in a block cannot end it."""
    page = Rendered(block(text) + "\n\nbehind\n")
    assert page.tags == ["pre", "code", "p"]
    assert ("code", f"{text}\n") in page.texts
    assert ("p", "behind") in page.texts


def test_a_hostile_recording(data: Path, tmp_path: Path) -> None:
    """A task with such a name does not change the tags of its page."""
    whole = readable(data / "d15-text-stack.trace.txt").read_bytes()
    plain = Recording.open(data / "d15-text-stack.trace.txt")
    pid = next(x.pid for x in plain.lives if x.comm == "sh")
    before = Rendered(story(plain, pid)).tags
    for name in (b"<b>|x|`", b"```", b"|--|--|"):
        file = tmp_path / "x.txt"
        file.write_bytes(whole.replace(b"comm=sh ", b"comm=" + name + b" "))
        after = Rendered(story(Recording.open(file), pid)).tags
        assert after.count("h2") == before.count("h2")
        assert "b" not in after
        assert after.count("td") % 2 == before.count("td") % 2


def test_a_story_of_nobody(data: Path, tmp_path: Path) -> None:
    """Without a task there is no story, and the message says how to name one."""
    trace = Recording.open(data / "d05-zombie.dat")
    with pytest.raises(UsageError, match="-p PID"):
        trace.export("story", tmp_path / "x.md")
    assert list(tmp_path.iterdir()) == []
