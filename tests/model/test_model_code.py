"""How the model's code is written: what lets the function tracer, many machines and circular imports work."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import taskscope.model

ROOT = Path(taskscope.model.__file__).parent
#: what runs on the machine, and what looks at it from outside, is not kernel code
OUTSIDE = ("user/", "machine.py", "irqline.py", "storage.py", "memory.py", "outside.py", "flavours.py")


def names() -> Iterator[str]:
    """Yield the names of all modules of the model."""
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT.parent.parent).with_suffix("")
        yield ".".join(relative.parts).removesuffix(".__init__")


def kernel_files() -> Iterator[Path]:
    """Yield the files of kernel code."""
    for path in sorted(ROOT.rglob("*.py")):
        if not str(path.relative_to(ROOT)).startswith(OUTSIDE):
            yield path


@pytest.mark.slow
@pytest.mark.limit(300)
def test_each_module_can_be_imported_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever module of the model is imported first, it loads: circles use nothing of each other at import time."""
    import greenlet  # noqa: F401  what all of them need, loaded once

    # What the first child compiles, the others find.
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    failed = []
    for name in names():
        pid = os.fork()
        if not pid:
            status = 0
            try:
                for loaded in [m for m in sys.modules if m.startswith("taskscope.model")]:
                    del sys.modules[loaded]
                import_module(name)
            except BaseException as error:  # whatever it is, the parent names the module
                os.write(2, f"{name}: {error!r}\n".encode())
                status = 1
            os._exit(status)
        if os.waitpid(pid, 0)[1]:
            failed.append(name)
    assert not failed


def test_kernel_functions_are_plain_functions() -> None:
    """No decorators, closures, lambdas or defaults that can change: the function tracer swaps code objects."""
    wrong = []
    for path in kernel_files():
        tree = ast.parse(path.read_text(), str(path))
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Lambda):
                wrong.append(f"{where}: lambda")
            if isinstance(node, ast.FunctionDef):
                inner = [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef) and n is not node]
                wrong += [f"{where}: {node.name} has {n.name} inside" for n in inner]
                wrong += [f"{where}: {node.name}: a default that can change" for d in node.args.defaults
                          if isinstance(d, (ast.List, ast.Dict, ast.Set))]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} is decorated"
                          for d in node.decorator_list if ast.unparse(d) not in ("cache", "contextmanager")]
    assert not wrong


def test_modules_hold_no_state() -> None:
    """Kernel globals live on the machine: modules have functions, classes and constants only."""
    wrong = []
    for name in names():
        module = import_module(name)
        for attribute, value in vars(module).items():
            if attribute.startswith("__") or isinstance(value, (ModuleType, type, FunctionType)):
                continue
            if isinstance(value, (list, dict, set, bytearray)) and not final(module, attribute):
                wrong.append(f"{name}.{attribute}")
    assert not wrong


def final(module: ModuleType, attribute: str) -> bool:
    """Tell whether the name is declared a constant, or comes from elsewhere."""
    path = module.__file__
    assert path is not None
    for node in ast.parse(Path(path).read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == attribute:
            return "Final" in ast.unparse(node.annotation)
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == attribute for t in node.targets):
            return False
    return True


def test_nothing_that_can_schedule_stands_in_try_finally() -> None:
    """A dead task's stack is unwound: `finally:` in kernel code would run then, in the name of the dead."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in kernel_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Try) and node.finalbody
    ]
    assert not wrong
