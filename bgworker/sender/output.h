/* SPDX-License-Identifier: PostgreSQL
 *
 * output.h
 *	  Answers to the relay, from any thread: one whole frame at a time.
 */
#ifndef OUTBOX_OUTPUT_H
#define OUTBOX_OUTPUT_H

#include <stdbool.h>

#include "src/common/wire.h"

extern bool outbox_output_write(const OutboxWireBuffer *frames);

#endif /* OUTBOX_OUTPUT_H */
