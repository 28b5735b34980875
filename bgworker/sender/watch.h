/* SPDX-License-Identifier: PostgreSQL
 *
 * watch.h
 *	  Counts transactional requests to notice torn transactions.
 *
 * The interceptors run in librdkafka's threads, the rest in the main thread.
 */
#ifndef OUTBOX_WATCH_H
#define OUTBOX_WATCH_H

#include <stdbool.h>

#include <librdkafka/rdkafka.h>

extern void outbox_watch_install(rd_kafka_conf_t *conf);
extern void outbox_watch_begin(void);
extern bool outbox_watch_is_suspect(void);

#endif /* OUTBOX_WATCH_H */
