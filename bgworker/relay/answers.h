/* SPDX-License-Identifier: PostgreSQL
 *
 * answers.h
 *	  The sender's answers as values (frames of src/common/wire.h).
 *
 * Process: the relay.  Texts and arrays live in the memory context in which an answer was read.
 */
#ifndef OUTBOX_ANSWERS_H
#define OUTBOX_ANSWERS_H

#include "leader_rules.h"
#include "refusal.h"
#include "start_rules.h"
#include "src/common/error_class.h"
#include "src/common/wire.h"

typedef struct OutboxOpened
{
	uint16 version;	   /* of the protocol */
	char  *library;	   /* librdkafka's version */
	char  *properties; /* effective ones */
} OutboxOpened;

typedef struct OutboxCursorRead
{
	OutboxKafkaCursor kafka;
	int64			  longest_ms;  /* that a batch may take with this producer; 0 = not told yet */
	int64			  usual_ms;	   /* the same by the settings; 0 = not told yet */
	bool			  spare;	   /* the producer has the spare transactional id */
	bool			  passed_over; /* the other one is not fenced */
	char			 *why;		   /* that is so; "" */
} OutboxCursorRead;

typedef struct OutboxLivingSender
{
	char *client;
	char *host;
} OutboxLivingSender;

typedef struct OutboxLiving
{
	bool				allowed; /* we may be in the group, and see it; else problem says why not */
	bool				joined;	 /* our own sender is a member */
	char			   *problem;
	int					count;
	OutboxLivingSender *members;
} OutboxLiving;

typedef struct OutboxCommitted
{
	int64  batch_no;
	uint32 events;
	int64  bytes; /* keys and payloads */
	int64  took_ms;
	bool   suspect; /* a request may still be under way twice: fence first */
} OutboxCommitted;

typedef struct OutboxRefused
{
	bool				fence;		 /* before the batch comes again */
	uint32				suspects;	 /* refused together, none known to be to blame; 0 = none */
	uint32				per_request; /* records, when the batch comes again; 0 = no limit */
	char			   *why;
	uint32				count;	/* 0: there are suspects */
	OutboxRefusedEvent *events; /* in the batch's order */
} OutboxRefused;

typedef struct OutboxFailed
{
	OutboxErrorClass class;
	int32 error; /* Kafka's */
	char *tried;
	char *text;
	int64 bytes;   /* of the batch, as COMMITTED counts */
	int64 done;	   /* of them acknowledged */
	int64 took_ms; /* until the last of those */
} OutboxFailed;

/* Of topics of the batch, or of those that are watched. */
typedef struct OutboxLeaders
{
	bool				given_up; /* the batch is, for these topics */
	int					count;
	OutboxTopicLeaders *topics;
} OutboxLeaders;

typedef struct OutboxAnswer
{
	OutboxFrameType type; /* says which one it is */
	union
	{
		OutboxOpened	 opened;
		OutboxCursorRead cursor;
		OutboxLiving	 members;
		OutboxCommitted	 committed;
		OutboxRefused	 refused;
		OutboxFailed	 failed;
		OutboxLeaders	 leaders;
	};
} OutboxAnswer;

/* Decodes a frame of the sender; ERROR when the relay knows none of its type, or cannot read it. */
extern void outbox_answer_read(OutboxFrameType type, OutboxWireReader *body, OutboxAnswer *answer);

#endif /* OUTBOX_ANSWERS_H */
