/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_plan.h
 *	  What must change in Kafka so that it has a profile's topics.  Pure: no
 *	  network.
 */
#ifndef OUTBOX_TOPIC_PLAN_H
#define OUTBOX_TOPIC_PLAN_H

#include <stdio.h>

#include "topic_profile.h"

/* A topic as Kafka has it. */
typedef struct OutboxTopicState
{
	bool exists;
	int	 partitions;
	int	 replication; /* of the partition with the fewest replicas */
	/* in effect, whoever has set them */
	char values[OUTBOX_TOPIC_SETTINGS][OUTBOX_TOPIC_VALUE_SIZE];
} OutboxTopicState;

/* A topic of the profile, what there is, and what to do. */
typedef struct OutboxTopicStep
{
	OutboxTopicSpec	 spec; /* with the capped replication */
	OutboxTopicState state;
	bool			 create;
	bool			 grow; /* add partitions */
	bool			 alter[OUTBOX_TOPIC_SETTINGS];
	/* the setting differs, and Kafka would delete records that are kept now */
	bool			 shrink[OUTBOX_TOPIC_SETTINGS];
	bool			 stuck; /* differs in a way apply does not mend */
} OutboxTopicStep;

typedef struct OutboxTopicPlan
{
	OutboxTopicStep *steps; /* malloc'ed */
	size_t			 count;
	int				 brokers; /* that answer now */
} OutboxTopicPlan;

/* Steps of the profile's topics with nothing known of Kafka yet; false: out of memory. */
extern bool outbox_topic_plan_begin(OutboxTopicPlan *plan, const OutboxTopicProfile *profile);
extern void outbox_topic_plan_free(OutboxTopicPlan *plan);

/*
 * Lowers the replication (and min.insync.replicas) of topics that do not exist to the number of
 * brokers, with a warning on `out` for each; without `cap` that is an error: false, one sentence.
 */
extern bool outbox_topic_plan_cap(OutboxTopicPlan *plan, bool cap, FILE *out, char *error,
								  size_t size);

/*
 * Compares states with specs and decides; more partitions are added only with allow_partitions,
 * settings that let Kafka delete more are altered only with allow_shrink.
 */
extern void outbox_topic_plan_compare(OutboxTopicPlan *plan, bool allow_partitions,
									  bool allow_shrink);

/* Is there something apply would do?  Is there something it cannot? */
extern bool outbox_topic_plan_pending(const OutboxTopicPlan *plan);
extern bool outbox_topic_plan_stuck(const OutboxTopicPlan *plan);

/*
 * A line for each difference: "+" created, "~" changed, "!" not mended by apply.
 */
extern void outbox_topic_plan_print(const OutboxTopicPlan *plan, FILE *out);

/* Does the step alter any setting? */
extern bool outbox_topic_step_alters(const OutboxTopicStep *step);

#endif /* OUTBOX_TOPIC_PLAN_H */
