/* SPDX-License-Identifier: PostgreSQL
 *
 * arguments.h
 *	  The arguments every program takes: --config, --check-config, --help, --version.
 */
#ifndef OUTBOX_ARGUMENTS_H
#define OUTBOX_ARGUMENTS_H

#include "config.h"

#define OUTBOX_EXIT_SETTINGS 2

typedef struct OutboxProgram
{
	const char *name;
	const char *summary; /* one line for --help */

	/*
	 * Judges the settings together and the files they name; NULL: nothing to judge.  Says what is
	 * wrong in error.
	 */
	bool (*check)(const OutboxConfig *config, char *error, size_t size);

	/*
	 * Asks database and Kafka.  0: both answer as they should; OUTBOX_EXIT_SETTINGS: a setting is
	 * wrong; EXIT_FAILURE: something does not answer or is not there; what, in error.
	 */
	int (*check_online)(char *error, size_t size);
} OutboxProgram;

/*
 * Reads arguments, file and environment into config, to which all options are added.
 * Returns an exit code (what was wrong is on standard error), or -1 to go on.
 */
extern int outbox_arguments_read(int argc, char **argv, const OutboxProgram *program,
								 OutboxConfig *config);

/* Option checks: empty, or a URL of http or https; a list of brokers. */
extern bool outbox_check_url(const char *value, char *error, size_t size);
extern bool outbox_check_servers(const char *value, char *error, size_t size);

#endif /* OUTBOX_ARGUMENTS_H */
