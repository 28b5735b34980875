# SPDX-License-Identifier: PostgreSQL
#
# Names the places every script, make target and test uses. Source it; it exports
#   HARNESS_ROOT   the checkout
#   HARNESS_CACHE  downloads kept between runs: Kafka jars, Python environment
#   HARNESS_USER   the unprivileged user servers run as (the caller, unless root)
#   HARNESS_PYTHON, HARNESS_JARS  of the cache: Python with its packages, a folder of jars for each Maven profile
#   HARNESS_RUN    everything a run writes; .run is this directory or a link to it
#   PG_CONFIG      of the server to build for, where there is one (scripts/find-server)
# Values already in the environment are kept. (OUTBOX_ begins the services' own settings.)

outbox_say() { printf '%s\n' "outbox: $*" >&2; }
outbox_die() { outbox_say "$*"; exit 1; }

outbox_as_user()
{
	if [ "$(id -u)" -eq 0 ]; then
		setpriv --reuid "$HARNESS_USER" --regid "$(id -gn "$HARNESS_USER")" --clear-groups -- "$@"
	else
		"$@"
	fi
}

outbox_run_directory()
{
	if [ -L "$HARNESS_ROOT/.run" ] && [ ! -d "$HARNESS_ROOT/.run/" ]; then
		rm -f "$HARNESS_ROOT/.run"
	fi
	if [ ! -d "$HARNESS_ROOT/.run/" ]; then
		if outbox_as_user test -x "$HARNESS_ROOT" 2>/dev/null; then
			mkdir -p "$HARNESS_ROOT/.run"
		else
			# The user cannot reach the checkout: its files go where it can.
			ln -s "$(mktemp -d /tmp/outbox-run.XXXXXX)" "$HARNESS_ROOT/.run"
		fi
		chmod 755 "$HARNESS_ROOT/.run/"
	fi
	HARNESS_RUN=$(cd "$HARNESS_ROOT/.run/" && pwd -P)
	[ -w "$HARNESS_RUN" ] || outbox_die "$HARNESS_RUN belongs to another user; remove it (make clean) as its owner"
}

if [ -z "${HARNESS_ROOT:-}" ]; then
	HARNESS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
fi
if [ "$(id -u)" -eq 0 ]; then
	: "${HARNESS_CACHE:=/var/cache/outbox}"
	if [ -z "${HARNESS_USER:-}" ]; then
		HARNESS_USER=nobody
		! id postgres >/dev/null 2>&1 || HARNESS_USER=postgres
	fi
else
	: "${HARNESS_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/outbox}"
	HARNESS_USER=$(id -un)
fi
[ -n "${HARNESS_RUN:-}" ] || outbox_run_directory
# One environment for each list of packages: checkouts of several versions share the cache.
outbox_requirements=$(sha256sum <"$HARNESS_ROOT/test/requirements.txt")
HARNESS_PYTHON=$HARNESS_CACHE/python-${outbox_requirements:0:12}/bin/python
outbox_requirements=$(sha256sum <"$HARNESS_ROOT/test/java/pom.xml")
HARNESS_JARS=$HARNESS_CACHE/java-${outbox_requirements:0:12}
unset outbox_requirements
if [ -z "${PG_CONFIG:-}" ]; then
	PG_CONFIG=$("$HARNESS_ROOT/scripts/find-server" 2>/dev/null) || PG_CONFIG=
fi
if [ -n "$PG_CONFIG" ]; then
	export PG_CONFIG
fi
export HARNESS_ROOT HARNESS_CACHE HARNESS_USER HARNESS_RUN HARNESS_PYTHON HARNESS_JARS
export PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8
