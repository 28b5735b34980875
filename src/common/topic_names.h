/* SPDX-License-Identifier: PostgreSQL
 *
 * topic_names.h
 *	  Topic names that server and sender agree on.
 */
#ifndef OUTBOX_TOPIC_NAMES_H
#define OUTBOX_TOPIC_NAMES_H

#define OUTBOX_TOPIC_NAME_MAX  249	  /* bytes, Kafka's limit */
#define OUTBOX_TOPIC_NAME_SIZE 256	  /* room for one */
#define OUTBOX_DLT_SUFFIX	   ".DLT" /* of the dead-letter topic, after its topic's name */
/* one partition, no records; its group offset is the cursor */
#define OUTBOX_CURSOR_TOPIC	   "outbox.cursor"

#endif /* OUTBOX_TOPIC_NAMES_H */
