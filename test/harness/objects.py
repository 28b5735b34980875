# SPDX-License-Identifier: PostgreSQL
"""python -m harness.objects BEFORE AFTER: compares the extension's objects of two build variants.

What is compared is pg_upgrade's own dump of them, entry by entry, and what that dump
leaves out: which tables a dump takes along, the rights of row types, and the rights that
are noted as the extension's.
"""

import difflib
import re
import sys

from .postgres import PostgresCluster
from .session import Session, exit_on_sigterm

_QUERIES = {
    "EXTENSION": """select format('%s in %s, relocatable: %s', extversion, extnamespace::regnamespace, extrelocatable)
        from pg_extension where extname = 'outbox'""",
    "TAKEN ALONG": """select format('%s %s', t.config::regclass, regexp_replace(t.condition, '[[:space:]]+', ' ', 'g'))
        from pg_extension e, unnest(e.extconfig, e.extcondition) t (config, condition)
        where e.extname = 'outbox' order by 1""",
    "MEMBERS": """select pg_describe_object(classid, objid, 0) from pg_depend
        where refclassid = 'pg_extension'::regclass and deptype = 'e'
            and refobjid = (select oid from pg_extension where extname = 'outbox') order by 1""",
    "RIGHTS OF TYPES": """select format('%s %s', oid::regtype, typacl) from pg_type
        where typnamespace = 'outbox'::regnamespace order by 1""",
    "INITIAL RIGHTS": """select format('%s %s', pg_describe_object(classoid, objoid, objsubid), initprivs)
        from pg_init_privs where privtype = 'e' order by 1""",
}

# Differs between two dumps of the same objects.
_OF_ONE_DUMP = re.compile(r"""
    (?<=^SELECT\ pg_catalog\.binary_upgrade_set_next_)(\w+)\(.*\);$
  | ^UPDATE\ pg_catalog\.pg_class\nSET\ relfrozenxid\ =.*\n.*;$
  | ^\\unrestrict\ .*$
""", re.X | re.M)

_TOKEN = re.compile(r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
  | (?P<space>   \s+ )
  | (?P<string>  '(?:[^']|'')*' )
  | (?P<other>   "(?:[^"]|"")*" | \$\w*\$ | \$\d+ | \w+
               | (?: (?!--|/\*) [-+*/<>=~!@\#%^&|`?:.] )+ | . )
""", re.X | re.S)


def tokens(text):
    """The words and signs of SQL text, bodies in $$ included. Comments and white space go; a line
    end within a literal counts as a blank, and literals on lines of their own as the one they are."""
    found, broken, in_string = [], False, False
    for match in _TOKEN.finditer(text):
        word = match.group(0)
        if match.lastgroup in ("comment", "space"):
            broken = broken or "\n" in word
            continue
        if match.lastgroup == "string":
            word = re.sub(r"\s*\n\s*", " ", word)
            if in_string and broken:
                word = found.pop()[:-1] + word[1:]
        found.append(word)
        in_string, broken = match.lastgroup == "string", False
    return found


def entries(dump):
    """{"TYPE name": tokens} of a dump by pg_dump --binary-upgrade, without what differs from dump to dump."""
    found = {}
    parts = re.split(r"^-- Name: (.*); Type: (.*); Schema: .*\n--\n", dump, flags=re.M)
    for name, kind, text in zip(parts[1::3], parts[2::3], parts[3::3]):
        if kind == "EXTENSION":
            continue  # the OIDs of the tables taken along
        key = f"{kind} {name}"
        found[key] = found.get(key, []) + tokens(_OF_ONE_DUMP.sub(r"\1", text))
    return found


def differences(before, after):
    """Lines that say in what two dictionaries of entries differ, the parts that differ with three words around them."""
    lines = [f"only before: {name}" for name in sorted(before.keys() - after.keys())]
    lines += [f"only after: {name}" for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        if old != new:
            lines.append(f"differs: {name}")
            for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(3):
                _, old_from, _, new_from, _ = group[0]
                _, _, old_to, _, new_to = group[-1]
                lines.append("\t- " + " ".join(old[old_from:old_to]))
                lines.append("\t+ " + " ".join(new[new_from:new_to]))
    return lines


def objects_of(cluster, name):
    """The entries of the extension's objects in the database of that name, with the rights of roles."""
    found = entries(cluster.run("pg_dump", "--schema-only", "--binary-upgrade", "-d", cluster.dsn(name)))
    for kind, query in _QUERIES.items():
        for (line,) in cluster.execute(query, dbname=name):
            found[f"{kind}: {line}"] = []
    return found


def installed(session, variant):
    """The entries of what CREATE EXTENSION makes in that variant's server."""
    cluster = PostgresCluster(session, variant, variant=variant).start()
    cluster.create_database("objects")
    found = objects_of(cluster, "objects")
    cluster.stop()
    return found


def main(before, after):
    exit_on_sigterm()
    session = Session("objects")
    try:
        old, new = installed(session, before), installed(session, after)
    finally:
        session.close()
    lines = differences(old, new)
    print("\n".join([*lines, f"{len(old)} entries before, {len(new)} after, {len(lines)} lines of differences"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
