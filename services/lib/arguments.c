/* SPDX-License-Identifier: PostgreSQL
 *
 * arguments.c
 *	  Arguments and settings of a program, and the checks of options that several have.
 *
 * Runs in the services and the monitor at start, main thread.
 */
#define _GNU_SOURCE
#include "arguments.h"

#include <curl/curl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/common/kafka_property_text.h"

#define URL_MAX 1000

bool
outbox_check_url(const char *value, char *error, size_t size)
{
	CURLU *url = curl_url(); /* only this part of libcurl needs nothing begun before */
	bool   http = strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0;
	bool   good = *value == '\0' ||
		(http && url != NULL && curl_url_set(url, CURLUPART_URL, value, 0) == CURLUE_OK);

	good = good && strlen(value) <= URL_MAX;
	if (*value != '\0' && !http)
		snprintf(error, size, "begins neither with http:// nor with https://");
	else if (!good)
		snprintf(error, size, "no URL of %d bytes at most: its form is http://host:port/path",
				 URL_MAX);
	curl_url_cleanup(url);
	return good;
}

bool
outbox_check_servers(const char *value, char *error, size_t size)
{
	const char *flaw = outbox_kafka_servers_flaw(value);

	if (flaw != NULL)
		snprintf(error, size, "%s", flaw);
	return flaw == NULL;
}

static void
print_help(const OutboxProgram *program, const OutboxConfig *config)
{
	printf("%s: %s\n\nUsage: %s --config FILE [--check-config[=online]]\n\n"
		   "--check-config says whether the settings are right and ends; =online asks database and "
		   "Kafka, too.  --version prints the program's name and version.\n"
		   "Exit code: 0 right, 2 wrong settings, 1 anything else.\n\n"
		   "Settings, one \"name = value\" a line in FILE, in UTF-8; the environment "
		   "(OUTBOX_<NAME>) wins.\n"
		   "A list has one item a line: in FILE its lines begin with a blank. A line that begins "
		   "with # is a comment.\n\n",
		   program->name, program->summary, program->name);
	outbox_config_help(config);
}

/* What --check-config ends with. */
static int
check_only(const OutboxProgram *program, bool online)
{
	char error[1024] = "";
	int	 code = EXIT_SUCCESS;

	if (online && program->check_online != NULL)
	{
		signal(SIGPIPE, SIG_IGN);
		code = program->check_online(error, sizeof(error));
	}
	if (code == EXIT_SUCCESS)
		printf("%s: the configuration is valid%s\n", program->name,
			   online ? ", database and Kafka answer" : "");
	else
		fprintf(stderr, "%s: %s\n", program->name, error);
	return code;
}

int
outbox_arguments_read(int argc, char **argv, const OutboxProgram *program, OutboxConfig *config)
{
	static const struct option arguments[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", optional_argument, NULL, 'k'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	const char *path = NULL;
	const char *name = program->name;
	bool		check = false;
	bool		online = false;
	char		error[1024];
	int			argument;

	while ((argument = getopt_long(argc, argv, "c:h", arguments, NULL)) != -1)
	{
		if (argument == 'c')
			path = optarg;
		else if (argument == 'k' && (optarg == NULL || strcmp(optarg, "online") == 0))
		{
			check = true;
			online = optarg != NULL;
		}
		else if (argument == 'v')
		{
			printf("%s %s\n", name, OUTBOX_VERSION);
			return EXIT_SUCCESS;
		}
		else
		{
			print_help(program, config);
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
		(program->check != NULL && !program->check(config, error, sizeof(error))))
	{
		fprintf(stderr, "%s: %s\n", name, error);
		return OUTBOX_EXIT_SETTINGS;
	}
	return check ? check_only(program, online) : -1;
}
