"""Lay the Python that runs this, with the packages that recording needs and taskscope itself, into a guest's root.

    python bench/guest_python.py ROOT [PACKAGE …]      # for tools/guest.sh; prints the variables to set in the guest

Every file keeps its path, so that Python finds its library as it does here; shared libraries are those that the
loader names (ldd).  Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("click", "numpy", "zstandard")
#: parts of the library that nothing here imports
_LEFT_OUT = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3",
                                   "site-packages", "dist-packages", "__pycache__", "config-*", "*.a", "*.pyi", "*.h")


def lay(source: Path, root: Path) -> None:
    """Copy a file or folder to the same path below `root`."""
    target = root / str(source).lstrip("/")
    if source.is_dir():
        shutil.copytree(source, target, ignore=_LEFT_OUT, dirs_exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def needed_libraries(files: list[Path]) -> set[Path]:
    """Return the shared libraries that programs and libraries need."""
    found: set[Path] = set()
    for k in range(0, len(files), 100):
        done = subprocess.run(["ldd", *files[k:k + 100]], capture_output=True, text=True, check=False)
        found |= {Path(name) for name in re.findall(r"(/[^ :]+) \(0x", done.stdout)}
    return found


def main() -> None:
    """Copy all of it."""
    root = Path(sys.argv[1]).resolve()
    python = Path(sys.executable).resolve()
    lay(python, root)
    for name in ("stdlib", "platstdlib"):
        lay(Path(sysconfig.get_path(name, vars={"base": sys.base_prefix, "platbase": sys.base_prefix,
                                                "installed_base": sys.base_prefix})), root)
    site = root / "bench" / "site"
    for package in (*(sys.argv[2:] or PACKAGES), "taskscope"):
        files = metadata.files(package) or []
        for file in files:
            if ".." not in file.parts and "tests" not in file.parts and "__pycache__" not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(str(file.locate())), target)
    shutil.copytree(HERE.parent / "src" / "taskscope", site / "taskscope", ignore=_LEFT_OUT, dirs_exist_ok=True)
    shutil.copy(HERE / "record.py", root / "bench" / "record.py")
    binaries = [python, *(p for p in root.rglob("*.so*") if p.is_file() and not p.is_symlink())]
    for library in sorted(needed_libraries(binaries)):
        if not (root / str(library).lstrip("/")).exists() and root not in library.parents:
            lay(library, root)
    print(f"export PYTHONPATH=/bench/site PYTHONHOME={sys.base_prefix} PYTHON={python}")
    print(f"export LD_LIBRARY_PATH={os.pathsep.join(sorted({str(Path(sys.base_prefix) / 'lib')}))}")


if __name__ == "__main__":
    main()
