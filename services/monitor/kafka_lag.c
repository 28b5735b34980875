/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_lag.c
 *	  One measuring from end to end: groups, members, committed offsets, ends of the logs, ages.
 *
 * Runs in outbox-monitor, poller thread.
 */
#include "kafka_lag.h"

#include <stdlib.h>

#include "kafka_ages.h"
#include "kafka_client.h"
#include "kafka_ends.h"
#include "kafka_groups.h"
#include "kafka_offsets.h"
#include "services/lib/wall_time.h"

/* Poller thread. */
struct OutboxKafkaLag
{
	OutboxKafkaClient  client;
	OutboxKafkaMembers members;
	OutboxKafkaOffsets offsets;
	size_t			   turn; /* polls begun: which leader is asked first */
};

OutboxKafkaLag *
outbox_kafka_lag_open(const char *bootstrap_servers, const char *properties, int timeout_ms)
{
	OutboxKafkaLag *kafka = calloc(1, sizeof(*kafka));

	if (kafka == NULL)
		return NULL;
	if (!outbox_kafka_client_open(&kafka->client, bootstrap_servers, properties, timeout_ms))
	{
		free(kafka);
		return NULL;
	}
	outbox_kafka_members_open(&kafka->members, &kafka->client);
	outbox_kafka_offsets_open(&kafka->offsets, &kafka->client);
	return kafka;
}

void
outbox_kafka_lag_close(OutboxKafkaLag *kafka)
{
	outbox_kafka_members_close(&kafka->members);
	outbox_kafka_offsets_close(&kafka->offsets);
	outbox_kafka_client_close(&kafka->client);
	free(kafka);
}

bool
outbox_kafka_lag_idle(const OutboxKafkaLag *kafka)
{
	return kafka->members.asked_at == 0 && outbox_kafka_offsets_oldest(&kafka->offsets) == 0;
}

bool
outbox_kafka_lag_worn(const OutboxKafkaLag *kafka)
{
	return outbox_kafka_client_worn(kafka->members.asked_at) ||
		outbox_kafka_client_worn(outbox_kafka_offsets_oldest(&kafka->offsets));
}

/* Groups, members and committed offsets into an empty snapshot, sorted. */
static bool
read_groups(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot, const OutboxLagSnapshot *before,
			bool (*wanted)(const char *group), char *error, size_t size)
{
	if (!outbox_kafka_groups_list(&kafka->client, snapshot, before, wanted, error, size))
		return false;
	if (snapshot->group_count == 0)
		return true;
	if (!outbox_kafka_client_cancelled())
		outbox_kafka_members_read(&kafka->members, &kafka->client, snapshot);
	if (!outbox_kafka_offsets_read(&kafka->offsets, &kafka->client, snapshot, error, size))
		return false;
	outbox_lag_snapshot_sort(snapshot);
	return true;
}

bool
outbox_kafka_lag_measure(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot,
						 OutboxLagSnapshot *before, bool (*wanted)(const char *group), char *error,
						 size_t error_size)
{
	snapshot->measured_ms = outbox_wall_ms();
	if (!read_groups(kafka, snapshot, before, wanted, error, error_size))
		return false;
	outbox_lag_snapshot_carry(snapshot, before);
	if (snapshot->group_count > 0 &&
		!outbox_kafka_ends_read(&kafka->client, snapshot, &kafka->turn, error, error_size))
		return false;
	outbox_lag_snapshot_prune(snapshot);
	outbox_kafka_ages_read(&kafka->client, snapshot);
	return !outbox_kafka_client_cancelled();
}
