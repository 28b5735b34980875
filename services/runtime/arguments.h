/* SPDX-License-Identifier: PostgreSQL
 *
 * arguments.h
 *	  The arguments every program takes: --config, --check-config, --help.
 */
#ifndef OUTBOX_ARGUMENTS_H
#define OUTBOX_ARGUMENTS_H

#include "config.h"

#define OUTBOX_EXIT_SETTINGS	2

/*
 * Reads arguments, file and environment into config, to which all options are
 * added.  check (NULL: none) judges the settings together, and says why not in error.
 * Returns an exit code (what was wrong is on standard error), or -1 to go on.
 */
extern int outbox_arguments_read(int argc, char **argv, const char *name, const char *summary,
								 OutboxConfig *config,
								 bool (*check) (const OutboxConfig *config, char *error, size_t size));

/* Option checks: a log level; empty, or a URL of http or https. */
extern bool outbox_check_level(const char *value, char *error, size_t size);
extern bool outbox_check_url(const char *value, char *error, size_t size);

#endif							/* OUTBOX_ARGUMENTS_H */
