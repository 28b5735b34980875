/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_profile.h
 *	  The topics a profile file declares.  docs/topics.md has the format.
 */
#ifndef OUTBOX_TOPIC_PROFILE_H
#define OUTBOX_TOPIC_PROFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "src/common/topic_names.h"

#define OUTBOX_TOPIC_VALUE_SIZE 32 /* of a setting's text, with terminator */

/* The topic settings a profile can declare, in Kafka's names. */
typedef enum OutboxTopicSetting
{
	OUTBOX_TOPIC_RETENTION,
	OUTBOX_TOPIC_CLEANUP,
	OUTBOX_TOPIC_MIN_INSYNC,
	OUTBOX_TOPIC_SETTINGS, /* their number */
} OutboxTopicSetting;

extern const char *const outbox_topic_setting_names[OUTBOX_TOPIC_SETTINGS];

typedef struct OutboxTopicSpec
{
	char name[OUTBOX_TOPIC_NAME_MAX + 1];
	int	 line;		  /* of the profile, for messages */
	int	 partitions;  /* 0: not declared, only while reading */
	int	 replication; /* the same */
	/* as Kafka spells them; "": not declared */
	char values[OUTBOX_TOPIC_SETTINGS][OUTBOX_TOPIC_VALUE_SIZE];
	bool dlt; /* has a dead letter topic, which is a spec of its own */
	char dlt_retention[OUTBOX_TOPIC_VALUE_SIZE]; /* ms; "": not declared */
} OutboxTopicSpec;

typedef struct OutboxTopicProfile
{
	OutboxTopicSpec *topics; /* in file order, each before its dead letter topic; malloc'ed */
	size_t			 count;
} OutboxTopicProfile;

/*
 * Reads and checks a profile.  false: one sentence with the line in error, nothing to free.
 */
extern bool outbox_topic_profile_read(OutboxTopicProfile *profile, const char *path, char *error,
									  size_t size);
extern void outbox_topic_profile_free(OutboxTopicProfile *profile);

/* cleanup.policy as a set: "delete", "compact" or "compact,delete"; false: it is none of them. */
extern bool outbox_topic_cleanup_normalize(const char *text, char value[OUTBOX_TOPIC_VALUE_SIZE]);

#endif /* OUTBOX_TOPIC_PROFILE_H */
