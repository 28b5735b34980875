/* SPDX-License-Identifier: PostgreSQL
 *
 * config.h
 *	  One table of options drives the configuration file (name = value), the environment
 *	  (OUTBOX_<NAME>), the program's variables, --help, --check-config and tables of documents.
 *
 * The file is UTF-8, with or without a byte order mark.  A line that begins with a blank goes on
 * with the list of the line before it; a line whose first character is # is a comment.
 */
#ifndef OUTBOX_CONFIG_H
#define OUTBOX_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum OutboxOptionKind
{
	OUTBOX_OPTION_TEXT,	  /* one line; quotes around it and " #" in it are refused as mistakes */
	OUTBOX_OPTION_QUOTED, /* one line with quotes of its own, as a connection string */
	OUTBOX_OPTION_LINES,  /* a list, one item a line, in which nothing else separates */
	OUTBOX_OPTION_INTEGER,
	OUTBOX_OPTION_NUMBER,
	OUTBOX_OPTION_CHOICE, /* one of some words */
} OutboxOptionKind;

/* One setting.  The fields that belong to another kind stay zero. */
typedef struct OutboxOption
{
	const char		*name;
	OutboxOptionKind kind;

	/*
	 * Where the value goes when it is read, main thread: const char * (text, quoted, lines; as long
	 * as the config lives), int (integer; choice: the word's place in choices), double (number).
	 */
	void			  *variable;
	const char		  *initial; /* NULL: must be given */
	int				   min;		/* integer, number: bounds */
	int				   max;
	const char *const *choices; /* choice: two or more, ended by NULL */

	/*
	 * Further check of a value; NULL: none.  On failure puts the reason into error, which may begin
	 * with "line 2" of a list, and has nothing of the value in it but numbers.
	 */
	bool (*check)(const char *value, char *error, size_t size);
	const char *text; /* for --help and the documents */
} OutboxOption;

#define OUTBOX_CONFIG_MAX		  40
#define OUTBOX_CONFIG_ENVIRONMENT (-1)

typedef struct OutboxConfig
{
	const OutboxOption *options[OUTBOX_CONFIG_MAX];
	const char		   *initials[OUTBOX_CONFIG_MAX]; /* defaults; NULL: must be given */
	char			   *values[OUTBOX_CONFIG_MAX];	 /* malloc'ed; NULL: not given */
	/* of the file; 0: default; OUTBOX_CONFIG_ENVIRONMENT */
	int					lines[OUTBOX_CONFIG_MAX];
	size_t				count;
	const char		   *path; /* of the file read last, the caller's; NULL: none */
} OutboxConfig;

/* Adds an option table ended by a NULL name; before anything is read. */
extern void outbox_config_add(OutboxConfig *config, const OutboxOption *options);

/*
 * Replaces the default of the variable's option, e.g. by the service's own; before anything is
 * read.
 */
extern void outbox_config_default(OutboxConfig *config, const void *variable, const char *value);

/*
 * Each returns false with one sentence in error: file and line, setting, what is wrong; nothing of
 * a value but numbers.  What is right is in its variable; after finish all are set.
 */
extern bool outbox_config_read_file(OutboxConfig *config, const char *path, char *error,
									size_t size);
extern bool outbox_config_read_environment(OutboxConfig *config, char *error, size_t size);
extern bool outbox_config_finish(OutboxConfig *config, char *error, size_t size);

/* Puts where the variable's setting was given before the reason: "FILE line 3: name: reason". */
extern void outbox_config_blame(const OutboxConfig *config, const void *variable,
								const char *reason, char *error, size_t size);

/* The next item of a list, trimmed, comments and empty lines left out; NULL: none.  Cuts *rest. */
extern char *outbox_config_next_item(char **rest);

/* The same; adds the lines that it passes, the item's own with them, to *number. */
extern char *outbox_config_next_line(char **rest, int *number);

/* The options for --help, on standard output; scripts/settings-tables reads them. */
extern void outbox_config_help(const OutboxConfig *config);

extern void outbox_config_free(OutboxConfig *config);

#endif /* OUTBOX_CONFIG_H */
