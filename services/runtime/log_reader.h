/* SPDX-License-Identifier: PostgreSQL
 *
 * log_reader.h
 *	  Looks at single records of logs: a client of its own that is in no group.
 *
 * One thread uses a reader.
 */
#ifndef OUTBOX_LOG_READER_H
#define OUTBOX_LOG_READER_H

#include <stddef.h>
#include <stdint.h>

#include "anchor.h"
#include "consumer.h"

typedef struct OutboxLogReader OutboxLogReader;

/* What to look at, and what was seen. */
typedef struct OutboxLogProbe
{
	const char	 *topic;
	int32_t		  partition;
	int64_t		  offset; /* -1: the log's range alone */
	OutboxLogView view;
	bool		  answered;
	bool		  present; /* the partition exists */
	int32_t		  leader;  /* its broker, when it is present */
	bool		  silent;  /* the leader has not answered in this look */
	bool		  told;	   /* view.keeps_all is what the topic's policy says */
	void		 *handle;  /* of the client; while outbox_log_reader_look runs */
} OutboxLogProbe;

/* config: without a group.  NULL on failure, logged. */
extern OutboxLogReader *outbox_log_reader_open(const OutboxConsumerConfig *config);

/*
 * Fills the views; each partition once at most.  Takes up to 4 s each for the leaders, the ranges
 * and the records, when brokers do not answer, and 2 s more for each compacted topic without a
 * record at an offset.
 */
extern void outbox_log_reader_look(OutboxLogReader *reader, OutboxLogProbe *probes, int count);

/* Any thread: a look under way ends with its request, of 2 s at most. */
extern void outbox_log_reader_end(OutboxLogReader *reader);

extern void outbox_log_reader_close(OutboxLogReader *reader);

#endif /* OUTBOX_LOG_READER_H */
