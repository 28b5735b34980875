/* SPDX-License-Identifier: PostgreSQL
 *
 * answers.c
 *	  The sender's answers as values: decoding, and nothing else.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "answers.h"
#include "link.h"

static void
read_opened(OutboxWireReader *body, OutboxOpened *opened)
{
	opened->version = outbox_wire_get_u16(body);
	opened->library = outbox_link_text(body);
	opened->properties = outbox_link_text(body);
}

static void
read_cursor(OutboxWireReader *body, OutboxCursorRead *cursor)
{
	const char *note;
	uint32_t	len;

	memset(cursor, 0, sizeof(*cursor));
	cursor->kafka.present = outbox_wire_get_u8(body) != 0;
	cursor->kafka.batch_no = (int64) outbox_wire_get_u64(body);
	if (outbox_wire_get_string(body, &note, &len) && note != NULL)
		outbox_cursor_read_note(note, len, &cursor->kafka);
	cursor->longest_ms = outbox_wire_get_u32(body);
	cursor->usual_ms = outbox_wire_get_u32(body);
	cursor->spare = outbox_wire_get_u8(body) != 0;
	cursor->passed_over = outbox_wire_get_u8(body) != 0;
	cursor->why = outbox_link_text(body);
}

static void
read_members(OutboxWireReader *body, OutboxLiving *members)
{
	members->allowed = outbox_wire_get_u8(body) != 0;
	members->joined = outbox_wire_get_u8(body) != 0;
	members->problem = outbox_link_text(body);
	members->count = outbox_wire_get_u16(body);
	members->members = palloc((members->count + 1) * sizeof(OutboxLivingSender));
	for (int i = 0; i < members->count; i++)
	{
		members->members[i].client = outbox_link_text(body);
		members->members[i].host = outbox_link_text(body);
	}
}

static void
read_committed(OutboxWireReader *body, OutboxCommitted *committed)
{
	committed->batch_no = (int64) outbox_wire_get_u64(body);
	committed->events = outbox_wire_get_u32(body);
	committed->bytes = (int64) outbox_wire_get_u64(body);
	committed->took_ms = (int64) outbox_wire_get_u64(body) / 1000;
	committed->suspect = outbox_wire_get_u8(body) != 0;
}

static char **
read_texts(OutboxWireReader *body, uint16 *count)
{
	char **texts;

	*count = outbox_wire_get_u16(body);
	texts = palloc((*count + 1) * sizeof(char *));
	for (int i = 0; i < *count; i++)
		texts[i] = outbox_link_text(body);
	return texts;
}

static void
read_refused_events(OutboxWireReader *body, OutboxRefused *refused)
{
	uint16 ntexts;
	char **texts = read_texts(body, &ntexts);

	refused->count = outbox_wire_get_u32(body);
	if (body->bad || refused->count > (size_t) (body->end - body->pos))
		elog(ERROR, "the sender wrote a refusal that cannot be read");
	refused->events =
		MemoryContextAllocHuge(CurrentMemoryContext,
							   (refused->count + (Size) 1) * sizeof(OutboxRefusedEvent));
	for (uint32 i = 0; i < refused->count; i++)
	{
		OutboxRefusedEvent *event = &refused->events[i];
		uint16				text;

		event->index = outbox_wire_get_u32(body);
		event->kafka_error = (int32) outbox_wire_get_u32(body);
		event->whole_topic = outbox_wire_get_u8(body) != 0;
		text = outbox_wire_get_u16(body);
		if (body->bad || text >= ntexts)
			elog(ERROR, "the sender wrote a refusal that cannot be read");
		event->text = texts[text];
	}
}

static void
read_refused(OutboxWireReader *body, OutboxRefused *refused)
{
	refused->fence = outbox_wire_get_u8(body) != 0;
	refused->suspects = outbox_wire_get_u32(body);
	refused->per_request = outbox_wire_get_u32(body);
	refused->why = outbox_link_text(body);
	read_refused_events(body, refused);
}

static void
read_failed(OutboxWireReader *body, OutboxFailed *failed)
{
	failed->class = outbox_wire_get_u8(body);
	failed->error = (int32) outbox_wire_get_u32(body);
	failed->tried = outbox_link_text(body);
	failed->text = outbox_link_text(body);
	failed->bytes = (int64) outbox_wire_get_u64(body);
	failed->done = (int64) outbox_wire_get_u64(body);
	failed->took_ms = (int64) outbox_wire_get_u64(body);
}

static void
read_leaders(OutboxWireReader *body, OutboxLeaders *leaders)
{
	leaders->given_up = outbox_wire_get_u8(body) != 0;
	leaders->count = outbox_wire_get_u16(body);
	leaders->topics = palloc((leaders->count + 1) * sizeof(OutboxTopicLeaders));
	for (int i = 0; i < leaders->count; i++)
	{
		OutboxTopicLeaders *one = &leaders->topics[i];

		one->topic = outbox_link_text(body);
		one->partition = (int32) outbox_wire_get_u32(body);
		one->for_ms = (int64) outbox_wire_get_u64(body);
	}
	if (body->bad)
		elog(ERROR, "the sender wrote leaders that cannot be read");
}

void
outbox_answer_read(OutboxFrameType type, OutboxWireReader *body, OutboxAnswer *answer)
{
	answer->type = type;
	switch (type)
	{
		case OUTBOX_FRAME_OPENED:
			read_opened(body, &answer->opened);
			break;
		case OUTBOX_FRAME_CURSOR:
			read_cursor(body, &answer->cursor);
			break;
		case OUTBOX_FRAME_MEMBERS:
			read_members(body, &answer->members);
			break;
		case OUTBOX_FRAME_COMMITTED:
			read_committed(body, &answer->committed);
			break;
		case OUTBOX_FRAME_REFUSED:
			read_refused(body, &answer->refused);
			break;
		case OUTBOX_FRAME_FAILED:
			read_failed(body, &answer->failed);
			break;
		case OUTBOX_FRAME_LEADERS:
			read_leaders(body, &answer->leaders);
			break;
		default:
			elog(ERROR, "the sender wrote a frame of unknown type %d", (int) type);
	}
}
