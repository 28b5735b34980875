/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_plan.c
 *	  Compares a profile with what Kafka has.
 *
 * Runs in outbox-topics.  No topic is deleted and no partition removed; what
 * would make Kafka delete records is altered only when that is allowed, and what
 * the profile does not declare is not compared.
 */
#include "topic_plan.h"

#include <stdlib.h>
#include <string.h>

bool
outbox_topic_plan_begin(OutboxTopicPlan *plan, const OutboxTopicProfile *profile)
{
	plan->brokers = 0;
	plan->count = profile->count;
	plan->steps = calloc(profile->count + 1, sizeof(OutboxTopicStep));
	if (plan->steps == NULL)
		return false;
	for (size_t i = 0; i < profile->count; i++)
		plan->steps[i].spec = profile->topics[i];
	return true;
}

void
outbox_topic_plan_free(OutboxTopicPlan *plan)
{
	free(plan->steps);
	memset(plan, 0, sizeof(*plan));
}

bool
outbox_topic_plan_cap(OutboxTopicPlan *plan, bool cap, FILE *out, char *error, size_t size)
{
	for (size_t i = 0; i < plan->count; i++)
	{
		OutboxTopicStep *step = &plan->steps[i];
		char			*min_insync = step->spec.values[OUTBOX_TOPIC_MIN_INSYNC];
		int				 room = step->state.exists ? step->state.replication : plan->brokers;

		if (step->spec.replication <= room || (step->state.exists && !cap))
			continue;
		if (!cap)
		{
			snprintf(error, size,
					 "line %d: topic \"%s\" wants replication %d, and the cluster has %d brokers"
					 " (--cap-replication takes what there is)",
					 step->spec.line, step->spec.name, step->spec.replication, plan->brokers);
			return false;
		}
		/* A topic that has fewer replicas than there are brokers has drifted. */
		if (step->state.exists && room < plan->brokers)
			continue;
		fprintf(out, "warning: %s: replication %d instead of %d, the cluster has %d brokers\n",
				step->spec.name, room, step->spec.replication, plan->brokers);
		step->spec.replication = room;
		if (atoi(min_insync) > room)
			snprintf(min_insync, OUTBOX_TOPIC_VALUE_SIZE, "%d", room);
	}
	return true;
}

/* Sets of cleanup policies are equal in any order. */
static bool
values_equal(int setting, const char *wanted, const char *found)
{
	char normal[OUTBOX_TOPIC_VALUE_SIZE];

	if (setting == OUTBOX_TOPIC_CLEANUP && outbox_topic_cleanup_normalize(found, normal))
		return strcmp(wanted, normal) == 0;
	return strcmp(wanted, found) == 0;
}

/*
 * Does a changed setting let Kafka delete records that it would keep now?  A cleanup policy does
 * unless it only loses "delete"; one that Kafka names otherwise may.
 */
static bool
setting_shrinks(int setting, const char *wanted, const char *found)
{
	if (setting == OUTBOX_TOPIC_RETENTION)
	{
		long long wanted_ms = strtoll(wanted, NULL, 10);
		long long found_ms = strtoll(found, NULL, 10);

		return wanted_ms >= 0 && (found_ms < 0 || wanted_ms < found_ms);
	}
	return setting == OUTBOX_TOPIC_CLEANUP &&
		!(strcmp(wanted, "compact") == 0 && strstr(found, "compact") != NULL);
}

void
outbox_topic_plan_compare(OutboxTopicPlan *plan, bool allow_partitions, bool allow_shrink)
{
	for (size_t i = 0; i < plan->count; i++)
	{
		OutboxTopicStep		   *step = &plan->steps[i];
		const OutboxTopicSpec  *spec = &step->spec;
		const OutboxTopicState *state = &step->state;

		step->create = !state->exists;
		step->grow = state->exists && state->partitions < spec->partitions && allow_partitions;
		step->stuck = state->exists &&
			(state->replication != spec->replication ||
			 (state->partitions != spec->partitions && !step->grow));
		for (int j = 0; j < OUTBOX_TOPIC_SETTINGS; j++)
		{
			bool differs = state->exists && spec->values[j][0] != '\0' &&
				!values_equal(j, spec->values[j], state->values[j]);

			step->shrink[j] = differs && setting_shrinks(j, spec->values[j], state->values[j]);
			step->alter[j] = differs && (!step->shrink[j] || allow_shrink);
			step->stuck |= differs && !step->alter[j];
		}
	}
}

bool
outbox_topic_step_alters(const OutboxTopicStep *step)
{
	for (int i = 0; i < OUTBOX_TOPIC_SETTINGS; i++)
	{
		if (step->alter[i])
			return true;
	}
	return false;
}

bool
outbox_topic_plan_pending(const OutboxTopicPlan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
	{
		if (plan->steps[i].create || plan->steps[i].grow ||
			outbox_topic_step_alters(&plan->steps[i]))
			return true;
	}
	return false;
}

bool
outbox_topic_plan_stuck(const OutboxTopicPlan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
	{
		if (plan->steps[i].stuck)
			return true;
	}
	return false;
}

static void
print_new_topic(const OutboxTopicSpec *spec, FILE *out)
{
	fprintf(out, "+ %s: partitions=%d replication=%d", spec->name, spec->partitions,
			spec->replication);
	for (int i = 0; i < OUTBOX_TOPIC_SETTINGS; i++)
	{
		if (spec->values[i][0] != '\0')
			fprintf(out, " %s=%s", outbox_topic_setting_names[i], spec->values[i]);
	}
	fputc('\n', out);
}

static void
print_differences(const OutboxTopicStep *step, FILE *out)
{
	const OutboxTopicSpec  *spec = &step->spec;
	const OutboxTopicState *state = &step->state;

	for (int i = 0; i < OUTBOX_TOPIC_SETTINGS; i++)
	{
		if (step->alter[i])
			fprintf(out, "~ %s: %s %s -> %s%s\n", spec->name, outbox_topic_setting_names[i],
					state->values[i], spec->values[i],
					step->shrink[i] ? " (warning: records are deleted)" : "");
		else if (step->shrink[i])
			fprintf(out,
					"! %s: %s %s, wanted %s: records would be deleted, so only with "
					"--allow-shrink\n",
					spec->name, outbox_topic_setting_names[i], state->values[i], spec->values[i]);
	}
	if (step->grow)
		fprintf(out,
				"~ %s: partitions %d -> %d (warning: keys move to other partitions, their order is "
				"broken"
				" once)\n",
				spec->name, state->partitions, spec->partitions);
	else if (state->partitions < spec->partitions)
		fprintf(out,
				"! %s: partitions %d, wanted %d: keys would move to other partitions, so only with"
				" --allow-partitions\n",
				spec->name, state->partitions, spec->partitions);
	else if (state->partitions > spec->partitions)
		fprintf(out, "! %s: partitions %d, wanted %d: partitions cannot be taken away\n",
				spec->name, state->partitions, spec->partitions);
	if (state->replication != spec->replication)
		fprintf(out,
				"! %s: replication %d, wanted %d: replicas are moved by kafka-reassign-partitions,"
				" not by this program\n",
				spec->name, state->replication, spec->replication);
}

void
outbox_topic_plan_print(const OutboxTopicPlan *plan, FILE *out)
{
	for (size_t i = 0; i < plan->count; i++)
	{
		if (plan->steps[i].create)
			print_new_topic(&plan->steps[i].spec, out);
		else
			print_differences(&plan->steps[i], out);
	}
}
