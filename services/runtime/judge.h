/* SPDX-License-Identifier: PostgreSQL
 *
 * judge.h
 *	  Asks the database before handlers call out: for which records, and what their handlers want to
 *	  know.
 */
#ifndef OUTBOX_JUDGE_H
#define OUTBOX_JUDGE_H

#include "member.h"
#include "window.h"

/*
 * One statement for all: fills the items' claim, NEW where a call may be made, and notes which
 * calls may be under way from now on.  Not known yet are the answers to these and the window's.
 * false: member->db.error.
 */
extern bool outbox_judge_records(OutboxMember *member, OutboxEntry **entries, int count);

/*
 * What the handlers' ask says of the entries' calls, of one handler each time: fills told.  false:
 * member->db.error.
 */
extern bool outbox_judge_ask(OutboxMember *member, OutboxEntry **entries, int count);

/* The same of a letter's item; told is malloc'ed.  Without an ask it is NULL. */
extern bool outbox_judge_ask_item(OutboxMember *member, const OutboxItem *item, char **told);

/* Has the letter's event been processed?  false: member->db.error. */
extern bool outbox_judge_letter(OutboxMember *member, const char *letter, const OutboxItem *item,
								bool *processed);

#endif /* OUTBOX_JUDGE_H */
