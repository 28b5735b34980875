# SPDX-License-Identifier: PostgreSQL
#
# Names the places every script, make target and test uses. Source it; it exports
#   OUTBOX_ROOT   the checkout
#   OUTBOX_CACHE  downloads kept between runs: Kafka jars, Python environment
#   OUTBOX_USER   the unprivileged user servers run as (the caller, unless root)
#   OUTBOX_RUN    everything a run writes; .run is this directory or a link to it
# Values already in the environment are kept.

outbox_say() { printf '%s\n' "outbox: $*" >&2; }
outbox_die() { outbox_say "$*"; exit 1; }

outbox_as_user()
{
	if [ "$(id -u)" -eq 0 ]; then
		setpriv --reuid "$OUTBOX_USER" --regid "$(id -gn "$OUTBOX_USER")" --clear-groups -- "$@"
	else
		"$@"
	fi
}

outbox_run_directory()
{
	if [ -L "$OUTBOX_ROOT/.run" ] && [ ! -d "$OUTBOX_ROOT/.run/" ]; then
		rm -f "$OUTBOX_ROOT/.run"
	fi
	if [ ! -d "$OUTBOX_ROOT/.run/" ]; then
		if outbox_as_user test -x "$OUTBOX_ROOT" 2>/dev/null; then
			mkdir -p "$OUTBOX_ROOT/.run"
		else
			# The user cannot reach the checkout: its files go where it can.
			ln -s "$(mktemp -d /tmp/outbox-run.XXXXXX)" "$OUTBOX_ROOT/.run"
		fi
		chmod 755 "$OUTBOX_ROOT/.run/"
	fi
	OUTBOX_RUN=$(cd "$OUTBOX_ROOT/.run/" && pwd -P)
	[ -w "$OUTBOX_RUN" ] || outbox_die "$OUTBOX_RUN belongs to another user; remove it (make clean) as its owner"
}

if [ -z "${OUTBOX_ROOT:-}" ]; then
	OUTBOX_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
fi
if [ "$(id -u)" -eq 0 ]; then
	: "${OUTBOX_CACHE:=/var/cache/outbox}"
	if [ -z "${OUTBOX_USER:-}" ]; then
		OUTBOX_USER=nobody
		! id postgres >/dev/null 2>&1 || OUTBOX_USER=postgres
	fi
else
	: "${OUTBOX_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/outbox}"
	OUTBOX_USER=$(id -un)
fi
[ -n "${OUTBOX_RUN:-}" ] || outbox_run_directory
OUTBOX_PYTHON=$OUTBOX_CACHE/python/bin/python
export OUTBOX_ROOT OUTBOX_CACHE OUTBOX_USER OUTBOX_RUN OUTBOX_PYTHON
export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
