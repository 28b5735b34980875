# SPDX-License-Identifier: PostgreSQL
"""What counts as a difference between two dumps of the extension's objects (scripts/compare-objects)."""

import pytest

from harness.objects import differences, entries, tokens

DUMP = """--
-- Name: EXTENSION "outbox"; Type: EXTENSION; Schema: -; Owner:
--

SELECT pg_catalog.binary_upgrade_create_empty_extension('outbox', 'outbox', false, '1.0', '{16400}', '{""}', NULL);


--
-- Name: a(integer); Type: FUNCTION; Schema: outbox; Owner: postgres
--

CREATE FUNCTION outbox.a(n integer) RETURNS text
    LANGUAGE plpgsql
    AS $$
BEGIN
	RETURN 'it''s ' || n;	-- a number
END $$;


--
-- Name: b; Type: TABLE; Schema: outbox; Owner: postgres
--

SELECT pg_catalog.binary_upgrade_set_next_pg_type_oid('16389'::pg_catalog.oid);
SELECT pg_catalog.binary_upgrade_set_next_toast_pg_class_oid('16391'::pg_catalog.oid);

CREATE TABLE outbox.b (
    n integer
);

UPDATE pg_catalog.pg_class
SET relfrozenxid = '737', relminmxid = '1'
WHERE oid = 'outbox.b'::pg_catalog.regclass;


\\unrestrict 8hQk
"""


def changed(before, after):
    assert before in DUMP
    return differences(entries(DUMP), entries(DUMP.replace(before, after)))


@pytest.mark.parametrize("before, after", [
    ("\tRETURN 'it''s ' || n;	-- a number", "\n\t/* n */ RETURN 'it''s '\n\t\t|| n ;"),
    ("a(n integer)", "a(\n\tn integer)"),
    ("'it''s '", "'it'''\n\t\t's '"),
    ("oid('16389'", "oid('20001'"),
    ("relfrozenxid = '737'", "relfrozenxid = '740'"),
    ("{16400}", "{16411}"),
    ("unrestrict 8hQk", "unrestrict Xy1"),
])
def test_comments_white_space_and_numbers_of_a_dump_are_no_difference(before, after):
    assert changed(before, after) == []


@pytest.mark.parametrize("before, after, old, new", [
    ("|| n;", "|| m;", "RETURN 'it''s ' || n ; END $$", "RETURN 'it''s ' || m ; END $$"),
    ("'it''s '", "'it''s  '", "$$ BEGIN RETURN 'it''s ' || n ;", "$$ BEGIN RETURN 'it''s  ' || n ;"),
    ("text\n    LANGUAGE", "name\n    LANGUAGE", "integer ) RETURNS text LANGUAGE plpgsql AS",
     "integer ) RETURNS name LANGUAGE plpgsql AS"),
])
def test_a_word_is_a_difference_and_shown_with_three_around_it(before, after, old, new):
    assert changed(before, after) == ["differs: FUNCTION a(integer)", f"\t- {old}", f"\t+ {new}"]


def test_a_toast_table_is_a_difference():
    assert changed("SELECT pg_catalog.binary_upgrade_set_next_toast_pg_class_oid('16391'::pg_catalog.oid);\n", "")[0] == "differs: TABLE b"


def test_objects_of_one_side_are_named():
    assert changed("-- Name: b; Type: TABLE", "-- Name: c; Type: TABLE") == ["only before: TABLE b", "only after: TABLE c"]


def test_signs_stay_apart_and_together():
    assert tokens("a<=b") != tokens("a< =b")
    assert tokens("'a' 'b'") != tokens("'ab'")
    assert tokens("$_$ $1 $_$") == ["$_$", "$1", "$_$"]
