/* SPDX-License-Identifier: PostgreSQL
 *
 * loop.c
 *	  The loop of a member: start partitions, gather records, work them off,
 *	  store offsets, retry what is due.
 *
 * Runs in the services, one thread a member.
 */
#include "loop.h"

#include <stdlib.h>
#include <string.h>

#include "breaker.h"
#include "call.h"
#include "calls.h"
#include "consumer.h"
#include "consumer_log.h"
#include "crash.h"
#include "maintain.h"
#include "member_breaker.h"
#include "position.h"
#include "process.h"
#include "retention.h"
#include "retry.h"
#include "retry_call.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/lib/array_text.h"
#include "services/lib/clock.h"

#define RETRY_BUDGET_MS 100 /* of retries between two batches */

/* How long the first poll may wait: until something else is due. */
static int
idle_timeout(OutboxMember *member)
{
	int64_t			 now = outbox_clock_ms();
	int64_t			 until = now + OUTBOX_SLEEP_MAX_MS;
	OutboxPartition *partition;

	if (outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_PAUSED)
		return OUTBOX_SLEEP_MAX_MS;
	if (member->retry_at < until && outbox_retry_has_room(member))
		until = member->retry_at;
	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (partition->owned && !partition->active && partition->resume_at < until)
			until = partition->resume_at;
	}
	return outbox_calls_timeout(member, until > now ? (int) (until - now) : 0);
}

/* How many records may be in hand at once. */
static int
choose_limit(OutboxMember *member)
{
	if (outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_TRYING)
		return 1;
	return outbox_crash_limit(member);
}

static void
begin_item(OutboxItem *item)
{
	item->prepared = item->done = false;
	item->tries = 1;
	item->span.started_ns = 0;
	item->span.traceparent[0] = '\0';
	item->claim = OUTBOX_CLAIM_NONE;
	item->outcome[0] = '\0';
}

/*
 * Polls records into member->items, or into the window: up to the limit, or until none came for
 * batch_wait_ms.
 */
static void
gather_items(OutboxMember *member)
{
	int		timeout = idle_timeout(member);
	int		limit = choose_limit(member);
	int64_t deadline = 0;

	member->item_count = 0;
	for (int taken = 0; taken < limit;)
	{
		OutboxItem *item = &member->items[member->item_count];

		if (outbox_consumer_poll(member->consumer, timeout, &item->record))
		{
			if (taken++ == 0)
				deadline = outbox_clock_ms() + outbox_settings.batch_wait_ms;
			if (!item->record.source->calls_out)
			{
				begin_item(item);
				member->item_count++;
			}
			else
			{
				outbox_calls_add(member, &item->record);
				outbox_consumer_release(&item->record);
			}
		}
		else if (taken == 0)
			return;
		timeout = (int) (deadline - outbox_clock_ms());
		if (timeout <= 0)
			return;
	}
}

static void
process_items(OutboxMember *member)
{
	OutboxItem *items[member->item_count];

	for (int i = 0; i < member->item_count; i++)
		items[i] = &member->items[i];
	outbox_process_items(member, items, member->item_count);
}

static void
release_items(OutboxMember *member)
{
	for (int i = 0; i < member->item_count; i++)
	{
		outbox_call_clear(&member->items[i].call);
		outbox_consumer_release(&member->items[i].record);
	}
	member->item_count = 0;
}

/* What /readyz shows. */
static void
publish_state(OutboxMember *member)
{
	OutboxPartition *partition;
	bool			 ready = outbox_consumer_assigned(member->consumer);
	int				 halted = 0;
	int				 paused = 0;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		ready = ready && (!partition->owned || partition->active);
		halted += partition->owned && partition->halted;
		paused += partition->owned && !partition->active;
	}
	member->ready = ready;
	member->halted = halted;
	member->paused = paused;
	member->turned_at = outbox_clock_ms();
}

/* What is due of outbox.dead_letter, one at least, as long as new records need not wait. */
static void
run_retries(OutboxMember *member)
{
	int64_t deadline = outbox_clock_ms() + RETRY_BUDGET_MS;

	outbox_retry_take_answers(member);
	do
	{
		if (outbox_clock_ms() < member->retry_at || !outbox_retry_has_room(member) ||
			outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_PAUSED)
			return;
		outbox_retry_run(member);
	} while (outbox_clock_ms() < deadline && !member->runtime->stopping);
}

/*
 * A partition that stays must not stand still because another one has moved.  With calls under way
 * turns are many.
 */
static void
wake_client(OutboxMember *member)
{
	int64_t now = outbox_clock_ms();

	if (member->item_count > 0 || !outbox_consumer_rebalancing(member->consumer) ||
		(member->window != NULL && now - member->woken_at < OUTBOX_SLEEP_MAX_MS))
		return;
	member->woken_at = now;
	outbox_consumer_wake(member->consumer);
}

static bool
open_member(OutboxMember *member)
{
	const OutboxRuntime *runtime = member->runtime;
	const char			*topics[64];
	size_t				 count = 0;
	OutboxConsumerConfig config = {0};
	OutboxArrayText		 list;

	outbox_array_begin(&list);
	for (const OutboxHandler *handler = runtime->handlers; handler->topic != NULL; handler++)
	{
		bool known = false;

		for (size_t i = 0; i < count; i++)
			known = known || strcmp(topics[i], handler->topic) == 0;
		if (!known && count < sizeof(topics) / sizeof(topics[0]))
		{
			outbox_array_add_text(&list, handler->topic);
			outbox_count_nothing(handler->topic);
			topics[count++] = handler->topic;
		}
	}
	outbox_array_finish(&list);
	member->topics = list.text;
	config.bootstrap_servers = outbox_settings.bootstrap_servers;
	config.group = outbox_settings.group_id;
	config.client_id = runtime->service->name;
	config.instance_id = member->instance_id[0] != '\0' ? member->instance_id : NULL;
	config.properties = outbox_settings.kafka_properties;
	config.topics = topics;
	config.topic_count = count;
	member->consumer = outbox_consumer_open(&config);
	member->items = calloc((size_t) outbox_settings.batch_max, sizeof(OutboxItem));
	outbox_calls_open(member);
	return member->consumer != NULL && member->items != NULL &&
		outbox_db_open(&member->db, outbox_settings.database, outbox_settings.statement_timeout_ms);
}

void *
outbox_member_run(void *arg)
{
	OutboxMember  *member = arg;
	OutboxRuntime *runtime = member->runtime;

	if (!open_member(member))
	{
		runtime->failed = runtime->stopping = true;
		member->end_by = OUTBOX_ENDED;
		return NULL;
	}
	while (!runtime->stopping)
	{
		if (!outbox_breaker_pause(member))
			outbox_position_start(member);
		gather_items(member);
		wake_client(member);
		outbox_crash_leave(member, false);
		if (member->item_count > 0)
		{
			runtime->last_record_at = outbox_clock_ms();
			process_items(member);
			release_items(member);
		}
		outbox_calls_turn(member, true);
		outbox_crash_end_alone(member);
		outbox_consumer_store(member->consumer);
		outbox_log_watch(member);
		if (!runtime->retention_checked && outbox_consumer_assigned(member->consumer) &&
			!atomic_exchange(&runtime->retention_checked, true))
			outbox_retention_check(member);
		run_retries(member);
		outbox_maintain_run(member);
		publish_state(member);
		if (outbox_consumer_fatal(member->consumer))
			runtime->failed = runtime->stopping = true;
	}
	outbox_calls_drain(member);
	outbox_retry_leave(member);
	outbox_crash_leave(member, true);
	member->end_by = outbox_clock_ms() + OUTBOX_ASSIGNMENT_MAX_MS + OUTBOX_END_MAX_MS;
	outbox_consumer_await_assignment(member->consumer);
	member->end_by = outbox_clock_ms() + OUTBOX_END_MAX_MS;
	outbox_calls_close(member);
	outbox_consumer_close(member->consumer);
	outbox_db_close(&member->db);
	free(member->items);
	free(member->topics);
	member->end_by = OUTBOX_ENDED;
	return NULL;
}
