/* SPDX-License-Identifier: PostgreSQL
 *
 * leaders.h
 *	  Which partitions have no leader: looked at by a thread with a client of its own, so that no
 *	  batch waits for the answer.
 *
 * Main thread.  The thread looks once a second while there is a worry or the relay watches a topic;
 * else it sleeps, and has no client.
 */
#ifndef OUTBOX_LEADERS_H
#define OUTBOX_LEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <librdkafka/rdkafka.h>

#include "failure.h"
#include "settings.h"
#include "src/common/wire.h"

#define OUTBOX_LEADERS_TEXT 320 /* what outbox_leaders_name says, at most */

extern void outbox_leaders_open(const OutboxSettings *settings);
extern void outbox_leaders_close(void);
extern bool outbox_leaders_watch(OutboxWireReader *body);
extern void outbox_leaders_worry(int64_t after_us);
extern void outbox_leaders_rest(bool all);
extern void outbox_leaders_note(const rd_kafka_metadata_topic_t *topic);
extern bool outbox_leaders_lack(const char *topic, int32_t *partition, int64_t *for_us);
extern bool outbox_leaders_any(void);
extern void outbox_leaders_name(char *text, size_t size);
extern void outbox_leaders_explain(OutboxFailure *failure);

#endif /* OUTBOX_LEADERS_H */
