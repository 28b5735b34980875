-- outbox.topic_hold() and topic_release(): refusals, states, rights, audit.  No relay runs here.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset null NULL
SET client_min_messages = warning;
CREATE ROLE regress_hold_operator;
CREATE ROLE regress_hold_stranger;
SELECT outbox.grant_operate('regress_hold_operator');
SELECT outbox.declare_topic('hold.a');
CREATE VIEW pg_temp.holds AS SELECT id - (SELECT min(id) FROM outbox.topic_hold WHERE topic LIKE 'hold.%') AS number,
	topic, cause, partition, reason, state, held_by = current_user AS by_me, released_by = current_user AS released_by_me
FROM outbox.topic_hold WHERE topic LIKE 'hold.%' ORDER BY id;

-- Refused, and nothing is stored.
SELECT outbox.topic_hold(NULL, 'why');
SELECT outbox.topic_hold('hold.a', NULL);
SELECT outbox.topic_hold('hold.a', '  ');
SELECT outbox.topic_hold('hold.undeclared', 'why');
SELECT outbox.topic_hold('hold.undeclared.DLT', 'why');
SELECT outbox.topic_release(NULL);
SELECT outbox.topic_release('hold.a');
SELECT count(*) FROM pg_temp.holds;

-- A hold; a second call changes nothing, and its dead-letter topic has one of its own.
SELECT outbox.topic_hold('hold.a', 'broker 2 is being moved');
SET client_min_messages = notice;
\set VERBOSITY sqlstate
SELECT outbox.topic_hold('hold.a', 'again');
\set VERBOSITY default
SELECT outbox.topic_hold('hold.a.DLT', 'too');
SELECT * FROM pg_temp.holds;

-- Released, once; held again before it has ended, it is the same hold.
SELECT outbox.topic_release('hold.a', 'moved');
SELECT outbox.topic_release('hold.a');
SELECT * FROM pg_temp.holds;
SELECT outbox.topic_hold('hold.a', 'moved back');
SELECT * FROM pg_temp.holds;
-- One that has ended stays; the next is another.
UPDATE outbox.topic_hold SET state = 'ended' WHERE topic = 'hold.a';
SELECT outbox.topic_release('hold.a');
SELECT outbox.topic_hold('hold.a', 'a second time');
SELECT * FROM pg_temp.holds;

-- What the relay holds becomes a person's, or is released by one.
UPDATE outbox.topic_hold SET cause = 'leader', partition = 3, reason = 'partition 3 has no leader'
WHERE topic = 'hold.a' AND state = 'held';
SELECT outbox.topic_release('hold.a');
UPDATE outbox.topic_hold SET state = 'held', released_at = NULL WHERE topic = 'hold.a' AND state = 'releasing';
SELECT outbox.topic_hold('hold.a', 'until we know why');
SELECT * FROM pg_temp.holds;
SELECT action, object, reason, detail - 'hold' AS detail FROM outbox.audit WHERE object LIKE 'topic hold.%' ORDER BY id;

-- What is held may be so also where its declaration has gone.
UPDATE outbox.topic_hold SET cause = 'leader', state = 'releasing' WHERE topic = 'hold.a.DLT';
BEGIN;
DELETE FROM outbox.topic WHERE name = 'hold.a';
SELECT outbox.topic_hold('hold.a.DLT', 'still');
SELECT cause, state, reason FROM pg_temp.holds WHERE topic = 'hold.a.DLT';
ROLLBACK;
UPDATE outbox.topic_hold SET cause = 'operator', state = 'held' WHERE topic = 'hold.a.DLT';

-- Not in a prepared transaction: the relay is told at commit.
BEGIN;
SELECT outbox.topic_release('hold.a.DLT');
PREPARE TRANSACTION 'regress_hold';

-- The relay does not wait for a person's transaction.
SELECT outbox.topic_hold_lock('hold.a', false), outbox.topic_hold_lock('hold.undeclared', false);
SELECT outbox.topic_hold_lock('hold.a.DLT', false);

-- Rights: operators, nobody else.
SET ROLE regress_hold_stranger;
SELECT outbox.topic_hold('hold.a', 'why');
SELECT outbox.topic_release('hold.a');
RESET ROLE;
SET ROLE regress_hold_operator;
SELECT outbox.topic_release('hold.a', 'known now');
SELECT outbox.topic_hold_lock('hold.a', false);
SELECT count(*) FROM outbox.topic_hold;
RESET ROLE;
DELETE FROM outbox.topic_hold WHERE topic LIKE 'hold.%';
SELECT outbox.revoke_operate('regress_hold_operator');
DROP OWNED BY regress_hold_operator;
DROP ROLE regress_hold_operator, regress_hold_stranger;
