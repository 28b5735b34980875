/* SPDX-License-Identifier: PostgreSQL
 *
 * config.h
 *	  One table of options drives the configuration file (name = value), the
 *	  environment (OUTBOX_<NAME>), --help and --check-config.
 */
#ifndef OUTBOX_CONFIG_H
#define OUTBOX_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum OutboxOptionType
{
	OUTBOX_OPTION_TEXT,
	OUTBOX_OPTION_INTEGER,
} OutboxOptionType;

typedef struct OutboxOption
{
	const char *name;
	OutboxOptionType type;
	const char *initial;		/* NULL: must be given */
	long		min;			/* integer: bounds */
	long		max;
	const char *text;			/* for --help */

	/* Further check of a value; NULL: none.  On failure puts the reason into error. */
	bool		(*check) (const char *value, char *error, size_t error_size);
} OutboxOption;

#define OUTBOX_CONFIG_MAX	40

typedef struct OutboxConfig
{
	const OutboxOption *options[OUTBOX_CONFIG_MAX];
	char	   *values[OUTBOX_CONFIG_MAX];	/* malloc'ed; NULL: not given */
	size_t		count;
} OutboxConfig;

/* Adds an option table ended by a NULL name; before anything is read. */
extern void outbox_config_add(OutboxConfig *config, const OutboxOption *options);

/* Replaces an option's default, e.g. by the service's own. */
extern void outbox_config_default(OutboxConfig *config, const char *name, const char *value);

/* Each returns false with one sentence in error; no secret is ever in it. */
extern bool outbox_config_read_file(OutboxConfig *config, const char *path, char *error, size_t size);
extern bool outbox_config_read_environment(OutboxConfig *config, char *error, size_t size);
extern bool outbox_config_finish(OutboxConfig *config, char *error, size_t size);

/* After outbox_config_finish; the name must be one of the options. */
extern const char *outbox_config_text(const OutboxConfig *config, const char *name);
extern long outbox_config_integer(const OutboxConfig *config, const char *name);

/* The options for --help, on standard output. */
extern void outbox_config_help(const OutboxConfig *config);

extern void outbox_config_free(OutboxConfig *config);

#endif							/* OUTBOX_CONFIG_H */
