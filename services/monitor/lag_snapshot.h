/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_snapshot.h
 *	  What one poll found: groups, their partitions, lag and age.
 *
 * A snapshot belongs to the poller thread until it is published (lag_published.h).
 */
#ifndef OUTBOX_LAG_SNAPSHOT_H
#define OUTBOX_LAG_SNAPSHOT_H

#include <stddef.h>

#include "alert_rules.h"

typedef struct OutboxLagPartition
{
	char		   *topic;
	int32_t			partition;
	int64_t			committed;	  /* OUTBOX_LAG_NULL: nothing is */
	int64_t			start;		  /* the log's first offset; OUTBOX_LAG_NULL: not known */
	int64_t			start_before; /* the same at the last poll before that knew it */
	int64_t			end;		  /* high watermark; OUTBOX_LAG_NULL: not known */
	int64_t			stable;		  /* last stable offset; OUTBOX_LAG_NULL: not known */
	/* readable ones up to stable; 0 with markers alone; OUTBOX_LAG_NULL: not known */
	int64_t			lag;
	int64_t			beyond;	 /* how far committed is above the log's end; 0: it is not */
	int64_t			lost;	 /* offsets from committed on that the log no longer has; 0: none */
	bool			missing; /* the topic has no such partition */
	/*
	 * since when the event of the first readable record exists; OUTBOX_LAG_NULL: none or not known
	 */
	int64_t			pending_ms;
	int64_t			pending_read_at; /* outbox_clock_ms of reading pending_ms */
	int64_t			clear_to;  /* from committed to here there is no record that can be read */
	char		   *client_id; /* of the member that has it; NULL: nobody, or not known */
	char		   *consumer_id;
	char		   *host;
	OutboxLagWindow window;
	OutboxLagStatus status;
} OutboxLagPartition;

typedef struct OutboxLagGroup
{
	char			   *name;
	const char		   *state;		/* Kafka's name of it, a constant */
	long				members;	/* OUTBOX_LAG_NULL: not known */
	bool				simple;		/* commits without ever joining: has no members by nature */
	bool				empty;		/* Kafka says that nobody is in it */
	bool				answered;	/* false: what stands here is of an earlier poll */
	OutboxLagPartition *partitions; /* by topic and number */
	size_t				partition_count;
	size_t				partition_room;
	OutboxLagStatus		status;		  /* worst of the partitions */
	bool				complete;	  /* see OutboxLagSample */
	bool				beyond;		  /* some partition's committed offset is */
	bool				lost;		  /* some partition has lost records */
	bool				ranges_known; /* start and end of every log with a committed offset are */
	int64_t				total_lag;	  /* OUTBOX_LAG_NULL: not known of any partition */
	double				threshold;	  /* seconds */
	OutboxAlertState	alert;
	int64_t				alert_since_ms; /* wall clock; firing only */
	OutboxAlertState	range_alert;	/* of offsets outside their logs */
	int64_t				range_alert_since_ms;
} OutboxLagGroup;

typedef struct OutboxLagSnapshot
{
	OutboxLagGroup *groups; /* by name */
	size_t			group_count;
	size_t			group_room;
	int64_t			measured_ms; /* wall clock */
} OutboxLagSnapshot;

/*
 * Each adds or finds; the address holds until the next addition.  Memory that cannot be had ends
 * the program.
 */
extern OutboxLagGroup *outbox_lag_snapshot_add_group(OutboxLagSnapshot *snapshot, const char *name);
extern OutboxLagPartition *outbox_group_partition(OutboxLagGroup *group, const char *topic,
												  int32_t partition);

/* Takes a partition out; the others keep their order. */
extern void outbox_group_drop(OutboxLagGroup *group, OutboxLagPartition *partition);

/* NULL: not there.  The groups must be sorted. */
extern OutboxLagGroup *outbox_lag_snapshot_find(const OutboxLagSnapshot *snapshot,
												const char				*name);

/* After the groups are added, and after the partitions of each are. */
extern void outbox_lag_snapshot_sort(OutboxLagSnapshot *snapshot);

/* Takes groups that did not answer, and windows, ages and alerts, over from the poll before. */
extern void outbox_lag_snapshot_carry(OutboxLagSnapshot *snapshot, OutboxLagSnapshot *before);

/* Fills lag, beyond and lost of a partition from what was measured of its log. */
extern void outbox_partition_measure(OutboxLagPartition *partition);

/* Drops groups that answered, and have neither committed anything nor been given a partition. */
extern void outbox_lag_snapshot_prune(OutboxLagSnapshot *snapshot);

/* Window, status and sum of each group, from what was measured. */
extern void outbox_lag_snapshot_judge(OutboxLagSnapshot *snapshot);

/* Seconds since the oldest pending record at wall clock now_ms; 0: none; negative: not known. */
extern double outbox_partition_seconds(const OutboxLagPartition *partition, int64_t now_ms);

/* The partition furthest behind, by seconds, then by lag; NULL: no lag is known. */
extern const OutboxLagPartition *outbox_group_worst(const OutboxLagGroup *group, int64_t now_ms);

/*
 * Seconds of that partition.  Negative: not known, also when those of another partition are not,
 * unless what is known is above the threshold already.
 */
extern double outbox_group_seconds(const OutboxLagGroup *group, int64_t now_ms);

extern void outbox_lag_snapshot_free(OutboxLagSnapshot *snapshot);

#endif /* OUTBOX_LAG_SNAPSHOT_H */
