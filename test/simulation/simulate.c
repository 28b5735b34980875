/* SPDX-License-Identifier: PostgreSQL
 *
 * simulate.c
 *	  Runs schedules of transactions and faults, each decided by its seed.
 *
 * simulate SCHEDULES [FIRST-SEED]	the product must hold in every schedule, and every
 *									mutant must fail in one of the first MUTANT_SCHEDULES
 * simulate --seed SEED [MUTANT]	one schedule, with its outcome
 *
 * Prints TAP.  Exit code 0 only when all of that is so.
 */
#include "simulation.h"

#include <inttypes.h>

#define STEPS			 160
#define HEALING_TURNS	 2000
#define MUTANT_SCHEDULES 20000

static uint64 chance_state;

static const char *const mutant_names[MUTANTS] = {
	[MUTANT_NONE] = "none",
	[MUTANT_NO_FENCE] = "no fence",
	[MUTANT_NO_COMPARISON] = "no comparison on start",
	[MUTANT_NO_WATCH] = "no watch for torn transactions",
	[MUTANT_ROTATION_UNCHECKED] = "rotation unchecked",
	[MUTANT_LATE_EXCLUSION] = "late exclusion row",
	[MUTANT_CURSOR_FIRST] = "offset sent first",
	[MUTANT_NO_STANDBY_WAIT] = "no wait for the standby",
	[MUTANT_LATE_HOLD] = "late hold row",
	[MUTANT_LEFT_OUT_BLIND] = "left_out without holds",
	[MUTANT_END_APART] = "hold ends before its last copies",
	[MUTANT_END_UNRANKED] = "last copies not first in their window",
	[MUTANT_RELEASE_PASSES] = "new events pass during a release",
	[MUTANT_COPIES_HELD] = "own copies held",
	[MUTANT_REFUSED_SENT] = "refused copies sent",
	[MUTANT_ADOPT_KEEPS] = "adopt keeps what holds left out",
	[MUTANT_HELD_EMPTIED] = "rotation of what is held",
};

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) */
static uint64
next_random(void)
{
	uint64 z = (chance_state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

void
seed_chance(uint64 seed)
{
	chance_state = seed;
	(void) next_random();
}

uint32
pick(uint32 below)
{
	return (uint32) (next_random() % below);
}

bool
happens(int percent)
{
	return (int) pick(100) < percent;
}

/* -------------------------------------------------------------- what happens */

static uint64
choose_open(TxState state)
{
	uint64 found = 0;
	uint32 seen = 0;

	for (uint64 txid = FIRST_TXID; txid < tables.next_txid; txid++)
	{
		if (tables.transactions[txid].state == state && pick(++seen) == 0)
			found = txid;
	}
	return found;
}

static void
write_something(bool poisonous)
{
	uint64 txid = happens(50) ? choose_open(TX_RUNNING) : 0;

	if (txid == 0)
		txid = tables_begin();
	for (int i = 1 + (int) pick(happens(5) ? 12 : 3); txid != 0 && i > 0; i--)
		(void) tables_emit(txid, (int) pick(KEYS), poisonous && happens(4));
}

static void
end_something(void)
{
	uint64 txid = choose_open(happens(15) ? TX_PREPARED : TX_RUNNING);

	if (txid == 0)
		return;
	if (tables.transactions[txid].state == TX_RUNNING && happens(12))
	{
		tables_end(txid, TX_PREPARED);
		flushed = records;
		return;
	}
	tables_end(txid, happens(80) ? TX_COMMITTED : TX_ABORTED);
	if (happens(50)) /* else synchronous_commit = off */
		flushed = records;
}

static void
crash_server(int kept, bool lossy, bool new_timeline)
{
	oracle_cut(kept, lossy);
	relay_die();
	tables_cut(kept, new_timeline);
}

/* A person holds or releases a topic. */
static void
handle_hold(int topic)
{
	SimHoldChange change = {.hold = tables_hold_of(topic)};

	if (change.hold < 0)
	{
		if (tables.nholds == MOST_HOLDS)
			return;
		change.hold = tables.nholds;
		change.now = (SimHold) {.topic = topic, .cause = OUTBOX_HOLD_OPERATOR};
	}
	else
	{
		change.now = tables.holds[change.hold];
		if (change.now.state == HOLD_HELD)
			change.now.state = HOLD_RELEASING;
		else
			change.now = (SimHold) {.topic = topic, .cause = OUTBOX_HOLD_OPERATOR};
	}
	tables_change_hold(&change);
	if (happens(50))
		flushed = records;
}

static void
disturb_topic(void)
{
	int	   topic = (int) pick(TOPICS);
	uint32 what = pick(10);

	if (what < 5)
		broker_unled[topic] = !broker_unled[topic] && tables.nholds < MOST_HOLDS - TOPICS;
	else if (what < 6)
		broker_closed[topic] = !broker_closed[topic] && tables.nholds < MOST_HOLDS - TOPICS;
	else
		handle_hold(topic);
}

typedef struct Faults
{
	bool failover; /* to the standby */
	bool recovery; /* to a point in time */
	bool forget;   /* Kafka loses the cursor */
	bool poison;
	bool topics; /* without leaders, refused, held by persons */
} Faults;

static void
strike(const Faults *faults)
{
	uint32 blow = pick(100);

	if (blow < 40)
		relay_die();
	else if (blow < 70)
		crash_server(flushed, false, false);
	else if (blow < 85 && faults->failover)
		crash_server(standby, !replicated_mode, true);
	else if (blow < 90 && faults->recovery && flushed > 2)
		crash_server(2 + (int) pick(flushed - 2), true, true);
	else if (blow < 95 && faults->forget)
	{
		oracle_cursor_forgotten();
		broker_forget_cursor();
	}
}

static void
take_step(const Faults *faults)
{
	uint32 choice = pick(100);
	int	   replicated = standby + (int) pick(20);

	clock_now += pick(3);
	broker_tick();
	if (faults->topics && happens(8))
		disturb_topic();
	if (choice < 20)
		write_something(faults->poison);
	else if (choice < 36)
		end_something();
	else if (choice < 40)
		flushed = records;
	else if (choice < 46)
		standby = Max(standby, Min(flushed, replicated));
	else if (choice < 50)
		strike(faults);
	else
		relay_turn();
}

/* -------------------------------------------------------------- a schedule */

/* The genesis row, as start_relay() writes it. */
static void
store_genesis(void)
{
	SimBatch genesis;

	memset(&genesis, 0, sizeof(genesis));
	genesis.row.range.lower.xmax = genesis.row.range.upper.xmax = FIRST_TXID;
	genesis.row.range.lower.xip = genesis.lower;
	genesis.row.range.upper.xip = genesis.upper;
	genesis.row.system_id = 77;
	genesis.row.database = 5;
	tables_store_batch(&genesis);
	flushed = standby = records;
}

static void
heal(void)
{
	uint64 txid;

	healing = true;
	memset(broker_unled, 0, sizeof(broker_unled));
	memset(broker_closed, 0, sizeof(broker_closed));
	while ((txid = choose_open(TX_RUNNING)) != 0 || (txid = choose_open(TX_PREPARED)) != 0)
		tables_end(txid, TX_COMMITTED);
	for (int turn = 0; turn < HEALING_TURNS; turn++)
	{
		for (int topic = 0; topic < TOPICS; topic++)
		{
			int hold = tables_hold_of(topic);

			if (hold >= 0 && tables.holds[hold].state == HOLD_HELD &&
				tables.holds[hold].cause != OUTBOX_HOLD_LEADER)
				handle_hold(topic);
		}
		flushed = standby = records;
		if (relay_is_done())
			return;
		relay_turn();
	}
	oracle_fail("the relay does not come to an end");
}

/* NULL when the schedule of this seed holds. */
static const char *
run_schedule(uint64 seed, Mutant without)
{
	Faults faults;

	seed_chance(seed);
	mutant = without;
	healing = false;
	tables_reset();
	broker_reset();
	relay_reset();
	oracle_reset();
	timed = happens(70);
	replicated_mode = happens(40);
	faults.failover = happens(50);
	faults.recovery = happens(15);
	/* a lost history that nobody remembers cannot be told from none */
	faults.forget = happens(15) && !faults.recovery && (replicated_mode || !faults.failover);
	faults.poison = happens(30);
	faults.topics = happens(25);
	store_genesis();
	for (int step = 0; step < STEPS; step++)
		take_step(&faults);
	heal();
	return oracle_judge();
}

static bool
check_product(uint64 schedules, uint64 first)
{
	for (uint64 seed = first; seed < first + schedules; seed++)
	{
		const char *wrong = run_schedule(seed, MUTANT_NONE);

		if (wrong != NULL)
		{
			printf("not ok 1 - %" PRIu64 " schedules hold\n# seed %" PRIu64 ": %s\n", schedules,
				   seed, wrong);
			return false;
		}
	}
	printf("ok 1 - %" PRIu64 " schedules hold\n", schedules);
	return true;
}

static bool
check_mutant(Mutant without, uint64 first)
{
	for (uint64 seed = first; seed < first + MUTANT_SCHEDULES; seed++)
	{
		const char *wrong = run_schedule(seed, without);

		if (wrong == NULL)
			continue;
		printf("ok %d - mutant \"%s\" is killed\n# seed %" PRIu64 ": %s\n", without + 1,
			   mutant_names[without], seed, wrong);
		return true;
	}
	printf("not ok %d - mutant \"%s\" is killed\n", without + 1, mutant_names[without]);
	return false;
}

int
main(int argc, char **argv)
{
	uint64 first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	uint64 schedules = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000;
	int	   passed = 0;

	if (argc > 2 && strcmp(argv[1], "--seed") == 0)
	{
		const char *wrong = run_schedule(first, argc > 3 ? atoi(argv[3]) : MUTANT_NONE);

		printf("seed %" PRIu64 ": %s (%d records, %d deliveries, %d holds)\n", first,
			   wrong ? wrong : "holds", records, nlogged, holds);
		return wrong != NULL;
	}
	passed += check_product(schedules, first);
	for (Mutant without = MUTANT_NONE + 1; without < MUTANTS; without++)
		passed += check_mutant(without, first);
	printf("1..%d\n", (int) MUTANTS);
	return passed == MUTANTS ? 0 : 1;
}
