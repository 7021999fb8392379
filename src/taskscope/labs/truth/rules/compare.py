"""Rules side by side: this host's kernel and the model under several schedules and in every flavour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Final

from taskscope.labs.truth.rules import HOST_FLAVOUR, Rule, host, model
from taskscope.labs.truth.rules.transcript import Transcript
from taskscope.model import flavours

#: schedules of the model in the host's flavour; other flavours meet the first
SEEDS: Final = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Divergence:
    """A rule that is not held, and how that shows."""

    rule: Rule
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule.name} on {self.where}: {self.rule.text}\n{self.text}"


def check(
    rules: Sequence[Rule], seeds: Sequence[int] = SEEDS, real: dict[str, Transcript] | None = None
) -> list[Divergence]:
    """Play rules on the model, and on the host unless it is known what that says; return what is not as it should be.

    The model must say what the host says, under each of the schedules, and in each flavour unless the rule says that
    it differs there, and then it must differ.  Rules that need root of the host are left out where it is not to be had.

    :param real: transcripts of the host
    """
    if real is None:
        rules = [rule for rule in rules if not rule.root or host.is_root()]
        real = host.run(rules)
    found = list(broken(rules, real, "host"))
    for name in flavours.FLAVOURS:
        for seed in seeds if name == HOST_FLAVOUR else seeds[:1]:
            said = model.run(rules, seed, flavour=name, cpus=1 + (seed + 1) % 2, leaks=seed == 0)
            found += differing(rules, real, said, f"model {name}, seed {seed}", name)
    return found


def broken(rules: Sequence[Rule], said: dict[str, Transcript], where: str) -> Iterator[Divergence]:
    """Yield the rules that could not be played to their end or say nothing."""
    for rule in rules:
        lines = said[rule.name]
        if not lines or any(line.startswith(("stderr: ", "hangs: ")) for line in lines):
            yield Divergence(rule, where, "\n".join(lines) or "says nothing")


def differing(
    rules: Sequence[Rule], real: dict[str, Transcript], said: dict[str, Transcript], where: str, flavour: str
) -> Iterator[Divergence]:
    """Yield the rules whose transcript on the model is not the host's, or is although it should differ."""
    for rule in rules:
        if flavour in rule.varies:
            continue
        want, got = real[rule.name], said[rule.name]
        why = rule.differs.get(flavour)
        if why is None and want != got:
            yield Divergence(rule, where, "\n".join(unified_diff(want, got, "host", "model", lineterm="", n=99)))
        elif why is not None and want == got:
            yield Divergence(rule, where, f"is as on the host, and should not be: {why}")
