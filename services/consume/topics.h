/* SPDX-License-Identifier: PostgreSQL
 *
 * topics.h
 *	  The setting topics: "topic, topic:EventType, ...".
 *
 * Runs in outbox-consume at start, main thread; what it makes is only read after that.
 */
#ifndef OUTBOX_TOPICS_H
#define OUTBOX_TOPICS_H

#include "services/runtime/service.h"

/* Option check. */
extern bool consume_check_topics(const char *value, char *error, size_t size);

/* The handlers of a text that was checked, ended by a NULL topic; never freed. */
extern const OutboxHandler *consume_make_handlers(const char *topics,
												  OutboxVerdict (*decode)(const OutboxRecord
																					 *record,
																		  OutboxCall *call));

#endif /* OUTBOX_TOPICS_H */
