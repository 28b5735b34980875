/* SPDX-License-Identifier: PostgreSQL
 *
 * config.h
 *	  One table of options drives the configuration file (name = value), the
 *	  environment (OUTBOX_<NAME>), --help and --check-config.
 *
 * The file is UTF-8, with or without a byte order mark.  A line that begins with a blank goes on
 * with the list of the line before it; a line whose first character is # is a comment.
 */
#ifndef OUTBOX_CONFIG_H
#define OUTBOX_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum OutboxOptionType
{
	OUTBOX_OPTION_TEXT, /* one line; quotes around it and " #" in it are refused as mistakes */
	OUTBOX_OPTION_INTEGER,
	OUTBOX_OPTION_QUOTED, /* one line with quotes of its own, as a connection string */
	OUTBOX_OPTION_LINES,  /* a list, one item a line, in which nothing else separates */
} OutboxOptionType;

typedef struct OutboxOption
{
	const char		*name;
	OutboxOptionType type;
	const char		*initial; /* NULL: must be given */
	long			 min;	  /* integer: bounds */
	long			 max;
	const char		*text; /* for --help */

	/*
	 * Further check of a value; NULL: none.  On failure puts the reason into error, which may begin
	 * with "line 2" of a list, and has nothing of the value in it but numbers.
	 */
	bool (*check)(const char *value, char *error, size_t error_size);
} OutboxOption;

#define OUTBOX_CONFIG_MAX		  40
#define OUTBOX_CONFIG_ENVIRONMENT (-1)

typedef struct OutboxConfig
{
	const OutboxOption *options[OUTBOX_CONFIG_MAX];
	char			   *values[OUTBOX_CONFIG_MAX]; /* malloc'ed; NULL: not given */
	/* of the file; 0: default; OUTBOX_CONFIG_ENVIRONMENT */
	int					lines[OUTBOX_CONFIG_MAX];
	size_t				count;
	const char		   *path; /* of the file read last, the caller's; NULL: none */
} OutboxConfig;

/* Adds an option table ended by a NULL name; before anything is read. */
extern void outbox_config_add(OutboxConfig *config, const OutboxOption *options);

/* Replaces an option's default, e.g. by the service's own. */
extern void outbox_config_default(OutboxConfig *config, const char *name, const char *value);

/*
 * Each returns false with one sentence in error: file and line, setting, what is wrong; nothing of
 * a value but numbers.
 */
extern bool outbox_config_read_file(OutboxConfig *config, const char *path, char *error,
									size_t size);
extern bool outbox_config_read_environment(OutboxConfig *config, char *error, size_t size);
extern bool outbox_config_finish(OutboxConfig *config, char *error, size_t size);

/* After outbox_config_finish; the name must be one of the options. */
extern const char *outbox_config_text(const OutboxConfig *config, const char *name);
extern long outbox_config_integer(const OutboxConfig *config, const char *name);

/* Puts where the setting was given before the reason: "FILE line 3: name: reason". */
extern void outbox_config_blame(const OutboxConfig *config, const char *name, const char *reason,
								char *error, size_t size);

/* The next item of a list, trimmed, comments and empty lines left out; NULL: none.  Cuts *rest. */
extern char *outbox_config_next_item(char **rest);

/* The options for --help, on standard output. */
extern void outbox_config_help(const OutboxConfig *config);

extern void outbox_config_free(OutboxConfig *config);

#endif /* OUTBOX_CONFIG_H */
