/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.c
 *	  outbox-topics: shows and does what makes Kafka's topics those of a profile.
 *
 * A program for people and scripts, one thread.  Exit codes: 0 equal, 1 Kafka
 * failed, 2 wrong input, 3 differences are left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "topic_admin.h"
#include "services/lib/startup.h"
#include "src/common/kafka_property_text.h"

#define EXIT_EQUAL	   0
#define EXIT_KAFKA	   1
#define EXIT_INPUT	   2
#define EXIT_DIFFERENT 3

#define VERIFY_TIMEOUT_S 60 /* until brokers agree on what was changed */
#define VERIFY_PAUSE_MS	 200

typedef struct Options
{
	bool		apply;
	bool		check_only;
	const char *profile;
	const char *bootstrap_servers;
	const char *properties_file;
	bool		allow_partitions;
	bool		allow_shrink;
	bool		cap_replication;
} Options;

static const char help_text[] =
	"outbox-topics %s: makes Kafka's topics those of a profile\n"
	"\n"
	"  outbox-topics plan  --profile FILE --bootstrap-servers HOST:PORT,... [OPTION...]\n"
	"  outbox-topics apply --profile FILE --bootstrap-servers HOST:PORT,... [OPTION...]\n"
	"  outbox-topics check --profile FILE --bootstrap-servers HOST:PORT,... [OPTION...]\n"
	"\n"
	"plan shows what apply would do; apply does it and looks again. Neither ever deletes a topic\n"
	"or takes partitions away, and what the profile does not declare is left as it is. check "
	"reads\n"
	"profile and properties and asks nobody.\n"
	"\n"
	"  --kafka-properties FILE   librdkafka properties, one name=value a line, e.g. "
	"security.protocol=ssl\n"
	"  --allow-partitions        add partitions to existing topics; keys move to other partitions\n"
	"  --allow-shrink            alter settings that let Kafka delete records it keeps now: a "
	"shorter\n"
	"                            retention.ms, another cleanup.policy\n"
	"  --cap-replication         new topics: no more replicas than brokers, with a warning\n"
	"  --help, --version\n"
	"\n"
	"+ is created, ~ is changed, ! differs and is not mended by apply.\n"
	"Exit code: 0 no difference (is left), 1 Kafka failed, 2 wrong arguments or profile (nothing\n"
	"was changed), 3 there are differences (left).\n";

static int
refuse(const char *text)
{
	fprintf(stderr, "outbox-topics: %s\n", text);
	return EXIT_INPUT;
}

static int
check_servers(const char *servers)
{
	const char *flaw = outbox_kafka_servers_flaw(servers);

	if (flaw == NULL)
		return -1;
	fprintf(stderr, "outbox-topics: --bootstrap-servers %s\n", flaw);
	return EXIT_INPUT;
}

/* Code to exit with, or -1 to go on. */
static int
read_arguments(int argc, char **argv, Options *options)
{
	static const struct option known[] = {
		{"profile", required_argument, NULL, 'f'},
		{"bootstrap-servers", required_argument, NULL, 'b'},
		{"kafka-properties", required_argument, NULL, 'k'},
		{"allow-partitions", no_argument, NULL, 'a'},
		{"allow-shrink", no_argument, NULL, 's'},
		{"cap-replication", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
	{
		switch (option)
		{
			case 'f':
				options->profile = optarg;
				break;
			case 'b':
				options->bootstrap_servers = optarg;
				break;
			case 'k':
				options->properties_file = optarg;
				break;
			case 'a':
				options->allow_partitions = true;
				break;
			case 's':
				options->allow_shrink = true;
				break;
			case 'c':
				options->cap_replication = true;
				break;
			case 'h':
				printf(help_text, OUTBOX_VERSION);
				return EXIT_EQUAL;
			case 'v':
				printf("outbox-topics %s\n", OUTBOX_VERSION);
				return EXIT_EQUAL;
			default:
				return EXIT_INPUT; /* getopt has said why */
		}
	}
	if (optind != argc - 1 ||
		(strcmp(argv[optind], "plan") != 0 && strcmp(argv[optind], "apply") != 0 &&
		 strcmp(argv[optind], "check") != 0))
		return refuse("one of plan, apply and check is wanted (--help tells more)");
	if (options->profile == NULL || options->bootstrap_servers == NULL)
		return refuse("--profile and --bootstrap-servers are needed");
	options->apply = strcmp(argv[optind], "apply") == 0;
	options->check_only = strcmp(argv[optind], "check") == 0;
	return check_servers(options->bootstrap_servers);
}

/* The file's text, malloc'ed; "" without a file; NULL: it cannot be read. */
static char *
read_properties(const char *path)
{
	FILE   *file;
	char   *text = NULL;
	size_t	capacity = 0;
	ssize_t len = -1;

	if (path == NULL)
		return strdup("");
	file = fopen(path, "r");
	if (file == NULL || ((len = getdelim(&text, &capacity, '\0', file)) < 0 && ferror(file)))
	{
		fprintf(stderr, "outbox-topics: cannot read %s: %s\n", path, strerror(errno));
		free(text);
		text = NULL;
	}
	else if (len > 0 && text[len - 1] == '\0')
	{
		fprintf(stderr, "outbox-topics: %s has a zero byte\n", path);
		free(text);
		text = NULL;
	}
	else if (len < 0)
	{
		free(text);
		text = strdup("");
	}
	if (file != NULL)
		fclose(file);
	return text;
}

static void
pause_for(long ms)
{
	struct timespec pause = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&pause, NULL);
}

/* After apply: looks until Kafka tells what was asked for. */
static bool
verify_plan(OutboxTopicAdmin *admin, OutboxTopicPlan *plan, const Options *options)
{
	struct timespec now;
	time_t			deadline;
	bool			known;

	clock_gettime(CLOCK_MONOTONIC, &now);
	deadline = now.tv_sec + VERIFY_TIMEOUT_S;
	do
	{
		known = outbox_topic_admin_read(admin, plan);
		if (known)
			outbox_topic_plan_compare(plan, options->allow_partitions, options->allow_shrink);
		if (known && !outbox_topic_plan_pending(plan))
			return true;
		pause_for(VERIFY_PAUSE_MS);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < deadline);
	if (known)
	{
		snprintf(admin->error, sizeof(admin->error),
				 "Kafka took the changes and does not show them");
		outbox_topic_plan_print(plan, stderr);
	}
	return false;
}

static int
run_plan(OutboxTopicAdmin *admin, OutboxTopicPlan *plan, const Options *options)
{
	char reason[1024];

	if (!outbox_topic_admin_read(admin, plan))
		return EXIT_KAFKA;
	if (!outbox_topic_plan_cap(plan, options->cap_replication, stderr, reason, sizeof(reason)))
	{
		fprintf(stderr, "outbox-topics: %s %s\n", options->profile, reason);
		return EXIT_INPUT;
	}
	outbox_topic_plan_compare(plan, options->allow_partitions, options->allow_shrink);
	outbox_topic_plan_print(plan, stdout);
	fflush(stdout);
	if (!outbox_topic_plan_pending(plan) && !outbox_topic_plan_stuck(plan))
		printf("no difference: %zu topics\n", plan->count);
	else if (options->apply && outbox_topic_plan_pending(plan))
	{
		if (!outbox_topic_admin_apply(admin, plan) || !verify_plan(admin, plan, options))
			return EXIT_KAFKA;
		printf("done\n");
	}
	return outbox_topic_plan_pending(plan) || outbox_topic_plan_stuck(plan) ? EXIT_DIFFERENT :
																			  EXIT_EQUAL;
}

int
main(int argc, char **argv)
{
	Options			   options = {0};
	OutboxTopicProfile profile;
	OutboxTopicPlan	   plan;
	OutboxTopicAdmin   admin;
	char			   reason[1024];
	char			  *properties;
	int				   code;

	outbox_startup();
	code = read_arguments(argc, argv, &options);
	if (code >= 0)
		return code;
	if (!outbox_topic_profile_read(&profile, options.profile, reason, sizeof(reason)))
		return refuse(reason);
	properties = read_properties(options.properties_file);
	if (properties == NULL || !outbox_topic_plan_begin(&plan, &profile))
		return EXIT_INPUT;
	outbox_topic_profile_free(&profile);
	if (!outbox_topic_admin_open(&admin, options.bootstrap_servers, properties))
		code = refuse(admin.error);
	else if (options.check_only)
	{
		printf("the profile is valid: %zu topics\n", plan.count);
		code = EXIT_EQUAL;
	}
	else
	{
		code = run_plan(&admin, &plan, &options);
		if (code == EXIT_KAFKA)
			fprintf(stderr, "outbox-topics: %s\n", admin.error);
	}
	outbox_topic_admin_close(&admin);
	outbox_topic_plan_free(&plan);
	free(properties);
	return code;
}
