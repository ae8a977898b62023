#!/bin/sh
# needs.sh PACKAGE…: see to it that these Debian packages are installed; where this is not root, say what to type.
command -v dpkg-query >/dev/null || { echo "note: no Debian here, so nobody looked for: $*" >&2; exit 0; }
missing=
for package in "$@"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "error: packages are not installed:$missing" >&2
  echo "hint: sudo apt-get install --no-install-recommends$missing" >&2
  exit 2
fi
echo "installing$missing"
# The lists of packages may be there already, or may not: only a failure asks for them.
# shellcheck disable=SC2086  # names of packages, split on purpose
apt-get install -qq -y --no-install-recommends $missing ||
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing; }
