"""``taskscope decode``: what a number means, and which number a name is."""

from __future__ import annotations

import click

from taskscope.cli.options import Verb, offers_program


class _Decode(Verb):
    """Lists the kinds of value in its help; they are loaded only then."""

    examples = (
        ("taskscope decode clone 0x01200011", "what fork() asked clone() for"),
        ("taskscope decode syscall arm 120", "a system call of another architecture"),
        ("taskscope decode state 0x402 --kernel 4.19", "internal flags as that kernel numbers them"),
    )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the kinds, then the options."""
        from taskscope.abi.decode import KINDS

        with formatter.section("Kinds"):
            formatter.write_dl([(kind.name, kind.summary) for kind in KINDS.values()])
        super().format_options(ctx, formatter)


# What looks like an unknown option is a value: errno -11, sicode -6.
@click.command("decode", cls=_Decode, context_settings={"ignore_unknown_options": True})
@click.argument("kind")
@click.argument("words", nargs=-1, required=True, metavar="VALUE...")
@click.option("--arch", metavar="ARCH", help="Architecture, as uname -m or a distribution spells it; it may also be "
                                             "the first VALUE.")
@click.option("--kernel", metavar="VERSION", help="The kernel whose internal flags are meant.  [default: 6.1]")
@click.option("--json", "as_json", is_flag=True, help="JSON Lines: one object a value.")
@offers_program("decode")
def command(kind: str, words: tuple[str, ...], arch: str | None, kernel: str | None, as_json: bool) -> None:
    """Say what a number means, or which number a name is.

    A VALUE is a number (decimal, or with 0x, 0o, 0b) or a name; names go in any case and without their prefix, and
    with | between them: CLONE_VM|CLONE_FS, vm|fs.
    """
    from taskscope.abi.decode import decode, lines
    from taskscope.views.json import dumps

    records = decode(kind, words, arch=arch, kernel=kernel)
    for line in (dumps(record.as_json()) for record in records) if as_json else lines(records):
        click.echo(line)
