/* SPDX-License-Identifier: PostgreSQL
 *
 * test_topics.c
 *	  outbox-topics: profiles as they are read and refused, and the plan made
 *	  of a profile and what Kafka has.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "services/topics/topic_plan.h"

#define HEAD "partitions=6\nreplication=3\n"

static bool
read_text(OutboxTopicProfile *profile, const char *text, char *error, size_t size)
{
	char path[] = "/tmp/outbox-unit-XXXXXX";
	int	 file = mkstemp(path);
	bool good;

	error[0] = '\0';
	good = file >= 0 && write(file, text, strlen(text)) == (ssize_t) strlen(text) &&
		outbox_topic_profile_read(profile, path, error, size);
	close(file);
	unlink(path);
	return good;
}

static void
test_refusals(void)
{
	static const struct
	{
		const char *text;
		const char *reason;
	} refused[] = {
		{"", "line 0: no topic is declared"},
		{HEAD "[a]\nretention=7d\n", "line 4: unknown key \"retention\""},
		{HEAD "[a]\npartitions=3\npartitions=3\n", "line 5: key \"partitions\" is given twice"},
		{HEAD "[a]\npartitions=0\n", "line 4: partitions: \"0\" is not a whole number from 1"},
		{HEAD "[a]\npartitions=6x\n", "line 4: partitions: \"6x\" is not"},
		{HEAD "[a]\nreplication=\n", "line 4: replication: \"\" is not"},
		{HEAD "[a]\nretention.ms=7 d\n", "line 4: retention.ms: \"7 d\" is neither"},
		{HEAD "[a]\nretention.ms=7w\n", "line 4: retention.ms: \"7w\" is neither"},
		{HEAD "[a]\nretention.ms=0\n", "line 4: retention.ms: \"0\" is neither"},
		{HEAD "[a]\nretention.ms=-1d\n", "line 4: retention.ms: \"-1d\" is neither"},
		{HEAD "[a]\nretention.ms=200000000000d\n", "line 4: retention.ms"},
		{HEAD "[a]\ncleanup.policy=delete,delete\n", "line 4: cleanup.policy"},
		{HEAD "[a]\ncleanup.policy=delet\n", "line 4: cleanup.policy: \"delet\" is none"},
		{HEAD "[a]\ncleanup.policy=delete,\n", "line 4: cleanup.policy"},
		{HEAD "[a]\nmin.insync.replicas=4\n", "line 3: topic \"a\": min.insync.replicas is above"},
		{HEAD "[a]\ndlt=true\n", "line 4: dlt: \"true\" is neither yes nor no"},
		{HEAD "[a]\nretention.ms=7d\ndlt=yes\ndlt.retention.ms=6d\n",
		 "line 3: dlt.retention.ms is below"},
		{HEAD "[a]\nretention.ms=-1\ndlt=yes\ndlt.retention.ms=6d\n",
		 "line 3: dlt.retention.ms is below"},
		{HEAD "[a]\n[b]\n[a]\n", "line 5: topic \"a\" is declared already, by line 3"},
		{HEAD "[a.DLT]\n[a]\ndlt=yes\n", "line 4: topic \"a.DLT\" is declared already, by line 3"},
		{HEAD "[a.b]\n[a_b]\n", "line 4: topic \"a_b\" collides with \"a.b\" of line 3"},
		{HEAD "[]\n", "line 3: a topic's name has 1 to 249 characters, this one 0"},
		{HEAD "[a b]\n", "line 3: topic name \"a b\" has a character"},
		{HEAD "[\xc3\xa4]\n", "line 3: topic name"},
		{HEAD "[..]\n", "line 3: a topic cannot be called \"..\""},
		{HEAD "[__consumer_offsets]\n", "line 3: topic \"__consumer_offsets\" is Kafka's own"},
		{HEAD "[outbox.cursor]\n", "line 3: topic \"outbox.cursor\" is the relay's own"},
		{HEAD "[a\n", "line 3: \"[a\" is not of the form [topic]"},
		{HEAD "[a]\npartitions 3\n", "line 4: neither [topic] nor key = value"},
		{"partitions=6\n[a]\n[b]\nreplication=1\n", "line 2: topic \"a\" has no replication"},
		{"[a]\nreplication=1\n", "line 1: topic \"a\" has no partitions"},
	};
	OutboxTopicProfile profile;
	char			   error[1024];
	char			   text[512];
	char			   name[256];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		bool good = read_text(&profile, refused[i].text, error, sizeof(error));

		CHECK(!good && strstr(error, refused[i].reason) != NULL, refused[i].reason);
		if (good || strstr(error, refused[i].reason) == NULL)
			printf("# said: %s\n", good ? "nothing" : error);
	}
	memset(name, 'a', 246);
	name[246] = '\0';
	snprintf(text, sizeof(text), HEAD "[%s]\n", name);
	CHECK(read_text(&profile, text, error, sizeof(error)), "a long name is taken");
	outbox_topic_profile_free(&profile);
	snprintf(text, sizeof(text), HEAD "dlt=yes\n[%s]\n", name);
	CHECK(!read_text(&profile, text, error, sizeof(error)) && strstr(error, "this one 250") != NULL,
		  "but not when its dead letter topic's is too long");
	CHECK(!outbox_topic_profile_read(&profile, "/nowhere", error, sizeof(error)) &&
			  strstr(error, "cannot read /nowhere") != NULL,
		  "a file that is not there");
}

static void
test_reading(void)
{
	OutboxTopicProfile	   profile;
	const OutboxTopicSpec *topics;
	char				   error[1024];

	if (!read_text(&profile,
				   "\xEF\xBB\xBF # note\n" HEAD
				   "retention.ms = 7d\n\n[ a ]\ndlt=yes\n[b]\npartitions = 1\n"
				   "retention.ms=90000\ncleanup.policy = delete , "
				   "compact\n[c]\nretention.ms=40d\ndlt=yes\n"
				   "min.insync.replicas=2",
				   error, sizeof(error)) ||
		profile.count != 5)
	{
		CHECK(false, "a good profile is read");
		return;
	}
	topics = profile.topics;
	CHECK(strcmp(topics[0].name, "a") == 0 && topics[0].partitions == 6 &&
			  topics[0].replication == 3 &&
			  strcmp(topics[0].values[OUTBOX_TOPIC_RETENTION], "604800000") == 0 &&
			  topics[0].values[OUTBOX_TOPIC_CLEANUP][0] == '\0',
		  "defaults are for all, and 7d are milliseconds");
	CHECK(strcmp(topics[1].name, "a.DLT") == 0 && topics[1].partitions == 6 &&
			  topics[1].replication == 3 &&
			  strcmp(topics[1].values[OUTBOX_TOPIC_RETENTION], "2592000000") == 0 &&
			  strcmp(topics[1].values[OUTBOX_TOPIC_CLEANUP], "delete") == 0,
		  "a dead letter topic has the topic's partitions and is kept 30 days");
	CHECK(strcmp(topics[2].name, "b") == 0 && topics[2].partitions == 1 &&
			  strcmp(topics[2].values[OUTBOX_TOPIC_RETENTION], "90000") == 0 &&
			  strcmp(topics[2].values[OUTBOX_TOPIC_CLEANUP], "compact,delete") == 0,
		  "a section wins over defaults");
	CHECK(strcmp(topics[4].name, "c.DLT") == 0 &&
			  strcmp(topics[4].values[OUTBOX_TOPIC_RETENTION], "3456000000") == 0 &&
			  strcmp(topics[4].values[OUTBOX_TOPIC_MIN_INSYNC], "2") == 0,
		  "letters are not dropped before their records");
	outbox_topic_profile_free(&profile);
}

static void
set_state(OutboxTopicStep *step, int partitions, int replication, const char *retention,
		  const char *cleanup)
{
	step->state.exists = true;
	step->state.partitions = partitions;
	step->state.replication = replication;
	strcpy(step->state.values[OUTBOX_TOPIC_RETENTION], retention);
	strcpy(step->state.values[OUTBOX_TOPIC_CLEANUP], cleanup);
	strcpy(step->state.values[OUTBOX_TOPIC_MIN_INSYNC], "1");
}

/* What the plan prints; static, cut to its size. */
static const char *
plan_text(const OutboxTopicPlan *plan)
{
	static char text[2048];
	FILE	   *out = fmemopen(text, sizeof(text), "w");

	text[0] = '\0';
	outbox_topic_plan_print(plan, out);
	fclose(out);
	return text;
}

static void
test_plan(void)
{
	OutboxTopicProfile profile;
	OutboxTopicPlan	   plan;
	char			   error[1024];
	bool			   good;

	good = read_text(&profile, HEAD "retention.ms=1d\ncleanup.policy=compact,delete\n[a]\n", error,
					 sizeof(error)) &&
		outbox_topic_plan_begin(&plan, &profile);
	CHECK(good, "a profile for a plan");
	if (!good)
		return;
	outbox_topic_plan_compare(&plan, false, false);
	CHECK(strcmp(plan_text(&plan),
				 "+ a: partitions=6 replication=3 retention.ms=86400000"
				 " cleanup.policy=compact,delete\n") == 0,
		  "a missing topic is created");

	set_state(&plan.steps[0], 6, 3, "86400000", "delete,compact");
	outbox_topic_plan_compare(&plan, false, false);
	CHECK(plan_text(&plan)[0] == '\0' && !outbox_topic_plan_pending(&plan) &&
			  !outbox_topic_plan_stuck(&plan),
		  "an equal topic is no difference, whatever undeclared settings it has");

	set_state(&plan.steps[0], 6, 3, "5000", "compact,delete");
	outbox_topic_plan_compare(&plan, false, false);
	CHECK(strcmp(plan_text(&plan), "~ a: retention.ms 5000 -> 86400000\n") == 0 &&
			  outbox_topic_plan_pending(&plan) && !outbox_topic_plan_stuck(&plan),
		  "settings are altered");

	set_state(&plan.steps[0], 3, 2, "86400000", "compact,delete");
	outbox_topic_plan_compare(&plan, false, false);
	CHECK(strstr(plan_text(&plan), "! a: partitions 3, wanted 6") != NULL &&
			  strstr(plan_text(&plan), "! a: replication 2, wanted 3") != NULL &&
			  outbox_topic_plan_stuck(&plan) && !outbox_topic_plan_pending(&plan),
		  "partitions are not added unasked, replicas never");
	outbox_topic_plan_compare(&plan, true, false);
	CHECK(strstr(plan_text(&plan), "~ a: partitions 3 -> 6 (warning: keys move") != NULL &&
			  plan.steps[0].grow,
		  "partitions are added when asked");

	set_state(&plan.steps[0], 7, 3, "86400000", "compact,delete");
	outbox_topic_plan_compare(&plan, true, false);
	CHECK(strstr(plan_text(&plan),
				 "! a: partitions 7, wanted 6: partitions cannot be taken away") != NULL &&
			  outbox_topic_plan_stuck(&plan) && !outbox_topic_plan_pending(&plan),
		  "partitions are never taken away");
	outbox_topic_plan_free(&plan);
	outbox_topic_profile_free(&profile);
}

/* How a plan changes one topic that has these settings, with and without leave to shrink. */
static bool
needs_leave(OutboxTopicPlan *plan, const char *setting, const char *wanted, const char *retention,
			const char *cleanup)
{
	OutboxTopicStep *step = &plan->steps[0];
	int				 index =
		strcmp(setting, "retention.ms") == 0 ? OUTBOX_TOPIC_RETENTION : OUTBOX_TOPIC_CLEANUP;
	char line[128];
	bool needed;

	snprintf(step->spec.values[OUTBOX_TOPIC_RETENTION], OUTBOX_TOPIC_VALUE_SIZE, "%s", retention);
	snprintf(step->spec.values[OUTBOX_TOPIC_CLEANUP], OUTBOX_TOPIC_VALUE_SIZE, "%s", cleanup);
	set_state(step, 6, 3, retention, cleanup);
	snprintf(step->spec.values[index], OUTBOX_TOPIC_VALUE_SIZE, "%s", wanted);
	snprintf(line, sizeof(line),
			 "! a: %s %s, wanted %s: records would be deleted, so only with --allow-shrink\n",
			 setting, index == OUTBOX_TOPIC_RETENTION ? retention : cleanup, wanted);
	outbox_topic_plan_compare(plan, true, false);
	needed = outbox_topic_plan_stuck(plan);
	CHECK(needed == (strcmp(plan_text(plan), line) == 0) &&
			  outbox_topic_plan_pending(plan) == !needed,
		  "what shrinks is shown as stuck, with the reason");
	outbox_topic_plan_compare(plan, false, true);
	CHECK(outbox_topic_plan_pending(plan) && !outbox_topic_plan_stuck(plan) &&
			  needed == (strstr(plan_text(plan), "(warning: records are deleted)\n") != NULL),
		  "and done with leave, with a warning");
	return needed;
}

static void
test_shrinking(void)
{
	OutboxTopicProfile profile;
	OutboxTopicPlan	   plan;
	char			   error[1024];
	bool			   good;

	good = read_text(&profile, HEAD "retention.ms=1d\ncleanup.policy=delete\n[a]\n", error,
					 sizeof(error)) &&
		outbox_topic_plan_begin(&plan, &profile);
	CHECK(good, "a profile that shrinks");
	if (!good)
		return;
	CHECK(needs_leave(&plan, "retention.ms", "86400000", "86400001", "delete"),
		  "a shorter retention");
	CHECK(needs_leave(&plan, "retention.ms", "86400000", "-1", "delete"), "one that was for ever");
	CHECK(needs_leave(&plan, "retention.ms", "0", "1", "delete"), "one of nothing");
	CHECK(!needs_leave(&plan, "retention.ms", "86400001", "86400000", "delete"), "a longer one");
	CHECK(!needs_leave(&plan, "retention.ms", "-1", "86400000", "delete"), "one for ever");
	CHECK(needs_leave(&plan, "cleanup.policy", "delete", "86400000", "compact"),
		  "compact to delete");
	CHECK(needs_leave(&plan, "cleanup.policy", "compact", "86400000", "delete"),
		  "delete to compact");
	CHECK(needs_leave(&plan, "cleanup.policy", "compact,delete", "86400000", "compact"),
		  "compact to both");
	CHECK(needs_leave(&plan, "cleanup.policy", "compact,delete", "86400000", "delete"),
		  "delete to both");
	CHECK(needs_leave(&plan, "cleanup.policy", "delete", "86400000", "delete,compact"),
		  "both to delete");
	CHECK(!needs_leave(&plan, "cleanup.policy", "compact", "86400000", "delete,compact"),
		  "both to compact");
	outbox_topic_plan_free(&plan);
	outbox_topic_profile_free(&profile);
}

static void
test_capping(void)
{
	OutboxTopicProfile profile;
	OutboxTopicPlan	   plan;
	OutboxTopicStep	  *step;
	char			   error[1024];
	char			   warnings[512] = "";
	FILE			  *out = fmemopen(warnings, sizeof(warnings), "w");
	bool			   good;

	good = read_text(&profile, HEAD "min.insync.replicas=2\n[a]\n", error, sizeof(error)) &&
		outbox_topic_plan_begin(&plan, &profile);
	CHECK(good, "a profile to cap");
	if (!good)
		return;
	step = &plan.steps[0];
	plan.brokers = 1;
	CHECK(!outbox_topic_plan_cap(&plan, false, out, error, sizeof(error)) &&
			  strstr(error,
					 "line 4: topic \"a\" wants replication 3, and the cluster has 1 brokers") !=
				  NULL,
		  "too few brokers are an error");
	CHECK(outbox_topic_plan_cap(&plan, true, out, error, sizeof(error)) &&
			  step->spec.replication == 1 &&
			  strcmp(step->spec.values[OUTBOX_TOPIC_MIN_INSYNC], "1") == 0,
		  "or the replication is capped, and what must be in sync with it");
	fclose(out);
	CHECK(strcmp(warnings, "warning: a: replication 1 instead of 3, the cluster has 1 brokers\n") ==
			  0,
		  "with a warning");
	out = fopen("/dev/null", "w");
	step->spec = profile.topics[0];
	set_state(step, 6, 3, "1", "delete");
	CHECK(outbox_topic_plan_cap(&plan, false, out, error, sizeof(error)) &&
			  step->spec.replication == 3,
		  "a broker that is down does not change what existing topics should have");
	set_state(step, 6, 1, "1", "delete");
	CHECK(outbox_topic_plan_cap(&plan, true, out, error, sizeof(error)) &&
			  step->spec.replication == 1,
		  "a topic capped before is equal");
	step->spec = profile.topics[0];
	plan.brokers = 3;
	CHECK(outbox_topic_plan_cap(&plan, true, out, error, sizeof(error)) &&
			  step->spec.replication == 3,
		  "and differs when there are brokers enough");
	fclose(out);
	outbox_topic_plan_free(&plan);
	outbox_topic_profile_free(&profile);
}

int
main(void)
{
	test_refusals();
	test_reading();
	test_plan();
	test_shrinking();
	test_capping();
	return finish_tests();
}
