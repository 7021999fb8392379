#!/usr/bin/env bash
# Set taskscope up in .venv of this checkout, so that ./demo and ./check run on a bare machine.
#
#   tools/setup.sh [EXTRA…]        extras of pyproject.toml: test, lint, docs
#
# Does nothing when the .venv already fits (a stamp holds what it was made from), so a second run needs no network.
# Speaks on stderr only.  As root on Debian and Ubuntu it installs a missing Python; otherwise it says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "setup: $*" >&2; }

quietly() {                           # run a talkative command; show what it said only if it fails
  local said
  said=$("$@" 2>&1) || { local status=$?; echo "$said" >&2; return $status; }
}

extras=("$@")
# What the installation depends on: the pins, the project's metadata (not the tools' settings), this script, this place.
stamp=$({ echo "$PWD"; cat constraints.txt tools/setup.sh; sed '/^\[tool\./,$d' pyproject.toml; } | sha256sum | cut -c1-16)

fits() {                              # fits EXTRA: was the .venv made from these very files, with this extra?
  [ -x .venv/bin/python ] && [ "$(cat ".venv/stamp-$1" 2>/dev/null)" = "$stamp" ]
}

wanted=()
for extra in run "${extras[@]}"; do fits "$extra" || wanted+=("$extra"); done
[ ${#wanted[@]} -gt 0 ] || exit 0

# A Python that can make virtual environments: 3.11 or later, with the pip that `venv` puts in.
usable() { "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then echo "$candidate"; return; fi
  done
  return 1
}
install_python() {
  local refused="needs Python 3.11 or later with venv and pip"
  if ! command -v apt-get >/dev/null 2>&1; then
    say "$refused; install it with your system's package manager, or set PYTHON=/path/to/python3"
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    say "$refused: sudo apt-get install python3 python3-venv  (then run this again)"
    exit 1
  fi
  say "installing python3 and python3-venv with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update -qq
  quietly apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates
  # Ubuntu 22.04's python3 is 3.10; a later one stands beside it.
  find_python >/dev/null || quietly apt-get install -y -qq --no-install-recommends python3.11 python3.11-venv || true
  find_python >/dev/null || { say "$refused; this system's packages have none: set PYTHON=/path/to/python3"; exit 1; }
}

if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null || [ "$(cat .venv/place 2>/dev/null)" != "$PWD" ]; then
  find_python >/dev/null || install_python
  python=$(find_python)
  say "making .venv with $("$python" --version)"
  rm -rf .venv
  "$python" -m venv .venv
  echo "$PWD" > .venv/place
fi

say "installing taskscope and what it needs into .venv (${wanted[*]})"
export PIP_ROOT_USER_ACTION=ignore
pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check)
retry="no network?  It is needed once; after that ./demo and ./check work without"
# The build tool is pinned too: it is installed first and used without an isolated, unpinned build.
"${pip[@]}" install -c constraints.txt hatchling editables >&2 || { say "$retry"; exit 1; }
all=$(IFS=,; echo "${extras[*]}")
"${pip[@]}" install -c constraints.txt --no-build-isolation -e ".${all:+[$all]}" >&2 || { say "$retry"; exit 1; }
for extra in run "${extras[@]}"; do echo "$stamp" > ".venv/stamp-$extra"; done
