/* SPDX-License-Identifier: PostgreSQL
 *
 * relay.h
 *	  What the simulated relay keeps; shared by relay.c and hold.c.
 */
#ifndef OUTBOX_SIMULATION_RELAY_H
#define OUTBOX_SIMULATION_RELAY_H

#include "simulation.h"

typedef struct SimRelay
{
	OutboxRelayState state;
	SimBatch		 last;
	OutboxIdentity	 identity;
	OutboxComparison comparison;
	int64			 delivered;
	int				 epoch;
	OutboxPeer		 peer; /* OPENED or FENCED: this sender answers at once */
	OutboxErrand	 errand;
	bool			 overruled;
	int				 row_end; /* records the standby needs before the batch */
	int				 start_fence;
	int				 nwaypoints;
	OutboxRange		 range; /* of the window */
	size_t			 count; /* entries of it */
	size_t			 next;
	SimBatch		 batch;	 /* with the sender, or about to be */
	int				 nids;	 /* that are sent */
	int				 poison; /* place in tables.events of a refused event, -1 = none */
	int				 held;	 /* events that holds have left out, refused copies too */
	int				 nknown; /* holds as they were read with the window */
	int				 nrefused;
	/* what is beyond their numbers is never read, nor cleared */
	SimSnapshot		 waypoints[MOST_WAYPOINTS];
	uint64			 lower[MOST_RUNNING];
	uint64			 upper[MOST_RUNNING];
	OutboxEntry		 entries[MOST_EVENTS];
	uint64			 lowest[MOST_EVENTS / OUTBOX_ENTRY_BLOCK + 1];
	int				 ids[MOST_EVENTS];
	uint32			 sent[MOST_EVENTS]; /* places in tables.events of the ids */
	OutboxHold		 known[MOST_HOLDS];
	uint64			 refused[MOST_COPIES]; /* transactions of refused copies */
} SimRelay;

extern SimRelay relay;

/* Opens a range into entries, in the order of a window. */
extern size_t range_entries(const OutboxRange *range, OutboxEntry *entries);

/* Reads the holds there are; for an old row those that batch_no was read with (0: a next one). */
extern void holds_load(int64 batch_no);
/* Has the batch in hand the event for no hold?  Else it counts what is left out. */
extern bool holds_pass(const SimEvent *event);
/* The copies of a transaction go in one batch. */
extern bool holds_keep_whole(uint64 txid);
/* The topic's events are left out of the batch in hand, which is to be sent again. */
extern void holds_take_topic(int topic, OutboxHoldCause cause);
/* What is left out of an old row and its rows do not say is written before it is sent again. */
extern void holds_store_old(void);
/* What the relay does between its other work. */
extern void holds_tend(void);

#endif /* OUTBOX_SIMULATION_RELAY_H */
