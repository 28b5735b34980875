/* SPDX-License-Identifier: PostgreSQL
 *
 * arguments.c
 *	  Arguments and settings of a program, and the checks of options that several have.
 *
 * Runs in the services and the monitor at start, main thread.
 */
#define _GNU_SOURCE
#include "arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

bool
outbox_check_level(const char *value, char *error, size_t size)
{
	OutboxLogLevel level;

	if (outbox_log_level_parse(value, &level))
		return true;
	snprintf(error, size, "\"%s\" is none of debug, info, warning, error", value);
	return false;
}

bool
outbox_check_url(const char *value, char *error, size_t size)
{
	if (*value == '\0' || strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0)
		return true;
	snprintf(error, size, "\"%s\" begins neither with http:// nor with https://", value);
	return false;
}

static void
print_help(const char *name, const char *summary, const OutboxConfig *config)
{
	printf("%s: %s\n\nUsage: %s --config FILE [--check-config]\n\n"
		   "Settings, one \"name = value\" a line in FILE; the environment (OUTBOX_<NAME>) wins:\n",
		   name, summary, name);
	outbox_config_help(config);
}

int
outbox_arguments_read(int argc, char **argv, const char *name, const char *summary, OutboxConfig *config,
					  bool (*check) (const OutboxConfig *config, char *error, size_t size))
{
	static const struct option arguments[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", no_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *path = NULL;
	bool		check_only = false;
	char		error[1024];
	int			argument;

	while ((argument = getopt_long(argc, argv, "c:h", arguments, NULL)) != -1)
	{
		if (argument == 'c')
			path = optarg;
		else if (argument == 'k')
			check_only = true;
		else
		{
			print_help(name, summary, config);
			return argument == 'h' ? 0 : OUTBOX_EXIT_SETTINGS;
		}
	}
	if (optind < argc)
	{
		fprintf(stderr, "%s: unknown argument \"%s\"\n", name, argv[optind]);
		return OUTBOX_EXIT_SETTINGS;
	}
	if ((path != NULL && !outbox_config_read_file(config, path, error, sizeof(error))) ||
		!outbox_config_read_environment(config, error, sizeof(error)) ||
		!outbox_config_finish(config, error, sizeof(error)) ||
		(check != NULL && !check(config, error, sizeof(error))))
	{
		fprintf(stderr, "%s: %s\n", name, error);
		return OUTBOX_EXIT_SETTINGS;
	}
	if (check_only)
		printf("%s: the configuration is valid\n", name);
	return check_only ? 0 : -1;
}
