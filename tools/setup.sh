#!/usr/bin/env bash
# Makes the virtual environment of the Makefile and installs the pinned tools in it.
# Debian splits Python: without python3-venv there is no pip in a new environment, and without
# python3-dev no header to build the extension with. Installed here where we may, named where not.
set -euo pipefail
venv=${1:?usage: tools/setup.sh VENV}

missing=()
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
header=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
[ -f "$header" ] || missing+=(python3-dev)
command -v "${CXX:-c++}" >/dev/null || missing+=(g++)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} ..."
    apt-get update -qq && apt-get install -qq -y "${missing[@]}" >/dev/null
  else
    echo "Missing: ${missing[*]}. Run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

echo "Setting up $venv with TensorFlow and the tools (a minute or two) ..."
python3 -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements-dev.txt
touch "$venv/.installed"
