# Shared by the scripts of this folder. Sourced, not run.
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/meshwright
# An ordinary user's PATH on Debian lacks the folders of nft and wg-quick.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# Byte code beside the sources would be root's when root ran a script first, and would stay behind.
export PATH PYTHONPYCACHEPREFIX="$cache/pycache"

# One environment per checkout and state of the lock files: neither an update nor a second checkout breaks a running one.
venv=$cache/venv-$({ cat "$root"/requirements.lock "$root"/requirements-dev.lock; echo "$root"; } | sha256sum | cut -c1-16)

say() { printf '%s\n' "$*"; }
die() { printf 'error: %s\n' "$1" >&2; printf 'next: %s\n' "$2" >&2; exit 1; }
