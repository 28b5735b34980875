# SPDX-License-Identifier: PostgreSQL
#
# all, install and clean build with PGXS; the other targets are scripts, which
# install what they need first (make help lists them).

RUN_TARGETS = help deps clean-cache format demo up down bench soak check check-rules check-unit \
	check-simulation check-regress check-isolation check-e2e check-long check-matrix \
	check-mutants check-sanitize
.PHONY: $(RUN_TARGETS)

ifneq ($(filter $(RUN_TARGETS) bench-%,$(MAKECMDGOALS)),)

help:
	@scripts/help $(MAKEFILE_LIST)

deps: ## install what is missing: packages, Kafka's jars, Python packages
	@scripts/deps

clean-cache: ## remove what deps and the tests keep between runs, and name what they left elsewhere
	@scripts/clean-cache

format: ## give the C sources their look (clang-format); scripts/format FILE... takes single files
	@scripts/format

demo: ## place orders through PostgreSQL, Kafka and the three services, and show the outcome
	@scripts/demo

up: ## start the demo's system and leave it running
	@scripts/up

down: ## stop what make up started
	@scripts/down

check: ## build, then run every test; WERROR=-Werror makes warnings errors, as CI does
	@scripts/check rules unit regress isolation e2e

check-rules: ## rules of the source tree that a script can see
	@scripts/check rules

check-unit: ## C unit tests, no server
	@scripts/check unit

check-simulation: ## a million schedules of the relay's pure parts; SCHEDULES=n SEED=n
	@SCHEDULES=$(or $(SCHEDULES),1000000) scripts/check simulation

check-regress: ## pg_regress: sql/ and expected/
	@scripts/check regress

check-isolation: ## isolation specs
	@scripts/check isolation

check-e2e: ## pytest against a real PostgreSQL and a real Kafka; PYTEST_ARGS selects
	@scripts/check e2e

check-long: ## the tests too long for make check
	@scripts/check long

check-mutants: ## switch the defences off one by one; each must be missed by its test
	@scripts/check mutants

soak: ## random faults under load, MINUTES=n SEED=n; the last line counts lost, doubled, reordered
	@scripts/soak

check-matrix: ## tests on the newer major versions (builds PostgreSQL), and pg_upgrade to them
	@scripts/check-matrix

check-sanitize: ## unit, regress and isolation tests under sanitizers, regress under valgrind (builds PostgreSQL)
	@scripts/check-sanitize

bench: ## every benchmark; bench-NAME runs one
	@scripts/bench

bench-%:
	@scripts/bench $*

# Named beside one of the above, as in make clean check.
all install uninstall install-shop clean:
	@$(MAKE) $@

else

# The server: PG_CONFIG, or the newest with headers. Said once; without one nothing is built.
SERVER := $(shell PG_CONFIG='$(PG_CONFIG)' scripts/find-server $(if $(filter 0,$(MAKELEVEL)),--say))
ifeq ($(SERVER),)
$(error there is no server to build for)
endif
override PG_CONFIG := $(SERVER)

EXTENSION = outbox
MODULE_big = outbox
DATA = $(sort $(wildcard outbox--*.sql) $(OBJECTS_SCRIPT))
# The rooms of the library; the sender is a program of its own.
ROOMS = src src/common bgworker bgworker/launcher bgworker/events bgworker/relay bgworker/replay
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard $(ROOMS:%=%/*.c))))
PGFILEDESC = "outbox - transactional outbox relayed to Kafka"

# The version of the objects the library works with: that of the control file.
OBJECTS_VERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" outbox.control)
# Their script is in the tree as well; it follows extension/.
OBJECTS_SCRIPT = outbox--$(OBJECTS_VERSION).sql

# VARIANT_CFLAGS makes a test build of another kind (scripts/build-variant).
# As system headers PostgreSQL's own are not held to our warnings.
PG_CPPFLAGS = -DOUTBOX_VERSION='"$(OBJECTS_VERSION)"' -I. -isystem $(shell $(PG_CONFIG) --includedir-server) -MMD -MP
PG_CFLAGS = -std=gnu17 -Wall -Wextra -Wno-unused-parameter $(WERROR) $(VARIANT_CFLAGS)
EXTRA_CLEAN = build $(OBJS:.o=.d)

override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

-include $(OBJS:.o=.d)

$(OBJECTS_SCRIPT): $(sort $(wildcard extension/*.sql extension/update/*.sql)) extension outbox.control
	scripts/install-script

# Programs beside the server: the relay's child process, and the services.
PROGRAMS ?= bgworker/sender services

.PHONY: $(PROGRAMS) install-shop clean-run
all: $(OBJECTS_SCRIPT) $(PROGRAMS)

$(PROGRAMS):
	$(MAKE) -C $@ all PG_CONFIG=$(PG_CONFIG) WERROR=$(WERROR) VARIANT_CFLAGS=$(VARIANT_CFLAGS)

install: $(PROGRAMS:%=install-%)

$(PROGRAMS:%=install-%): install-%: %
	$(MAKE) -C $< install PG_CONFIG=$(PG_CONFIG) WERROR=$(WERROR) VARIANT_CFLAGS=$(VARIANT_CFLAGS) DESTDIR=$(DESTDIR)

uninstall: $(PROGRAMS:%=uninstall-%)

$(PROGRAMS:%=uninstall-%): uninstall-%:
	$(MAKE) -C $* uninstall PG_CONFIG=$(PG_CONFIG) DESTDIR=$(DESTDIR)

# The examples; no part of all or install.
install-shop: services
	$(MAKE) -C services install-shop PG_CONFIG=$(PG_CONFIG) DESTDIR=$(DESTDIR)

clean: clean-run

clean-run:
	scripts/clean-run

endif
