# SPDX-License-Identifier: PostgreSQL
"""scripts/check-rules finds what it is there to find."""

import os
import shutil
import subprocess

import pytest
from harness import Environment

LONG = "int\nlong_one(void)\n{\n" + "\tcall();\n" * 90 + "}\n"
SPDX = "/* SPDX-License-Identifier: PostgreSQL */\n"

SEEDED = [
    ("rooms include what they may", "services/lib/a.c", '#include "src/emit.h"\n'),
    ("rooms include what they may", "bgworker/sender/a.c", '#include "src/emit.h"\n'),
    ("rooms include what they may", "services/lib/a.c", "#include <postgres.h>\n"),
    ("rooms include what they may", "src/emit.c", '#include "bgworker/relay/link.h"\n'),
    ("rooms include what they may", "bgworker/events/a.c", '#include "bgworker/relay/link.h"\n'),
    ("rooms include what they may", "services/attic/a.c", "int a;\n"),
    ("includes are written one way", "src/a.c", '#include "../src/emit.h"\n'),
    ("only the clients call librdkafka", "services/lib/db.c", "int a = rd_kafka_poll(b, 1);\n"),
    ("common stands alone", "src/common/wire.c", "char *a = palloc(1);\n"),
    ("common stands alone", "src/common/wire.c", '#include "postgres.h"\n'),
    ("functions are short", "src/emit.c", LONG),
    ("tests and expectations match", "sql/a.sql", "select 1;\n"),
    ("tests and expectations match", "expected/a.out", "1\n"),
    ("tests and expectations match", "test/isolation/specs/a.spec", "session s1\n"),
    ("settings are documented", "src/guc.c", '{"outbox.secret_knob"}\n'),
    ("nothing names this machine", "docs/a.md", "see /" + "work/main/src\n"),
    ("documents read as sentences", "docs/a.md", "word " * 20 + "end\n"),
    ("documents read as sentences", "docs/a.md", "| " + "word " * 26 + "|\n"),
    ("nothing is left to do", "src/emit.c", "/* TO" + "DO */\n"),
    ("files carry their licence", "src/emit.c", None),
    ("tests wait instead of sleeping", "test/e2e/a.py", "time.sleep(3)\n"),
    ("tests produce in order", "test/e2e/a.py", "from confluent_kafka import Consumer, Producer\n"),
    ("install script is safe", "extension/50-a.sql", "CREATE FUNCTION outbox.a() RETURNS void LANGUAGE sql\n"
     "\tSECURITY DEFINER AS 'DELETE FROM b';\n"),
    ("install script is safe", "extension/50-a.sql", "CREATE OR REPLACE VIEW outbox.a AS SELECT 1;\n"),
]


@pytest.fixture
def tree(tmp_path):
    """A small tree that breaks no rule, with the script under test in it."""
    root = Environment().root
    files = {
        "src/emit.c": SPDX + '#include "emit.h"\n',
        "src/emit.h": SPDX,
        "src/guc.c": SPDX,
        "bgworker/relay/link.h": SPDX,
        "docs/settings.md": "",
        "extension/00-schema.sql": SPDX + "\\echo no\nSET LOCAL search_path = pg_catalog, pg_temp;\n",
        # The words of a rule in a comment or a string break nothing.
        "services/lib/db.c": SPDX + '/* rd_kafka_poll() */\nchar *a = "rd_kafka_poll()";\n',
        "src/long.c": SPDX + "/* Long because it is a table. */\n" + LONG,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scripts").mkdir()
    shutil.copy(root / "scripts" / "check-rules", tmp_path / "scripts")
    shutil.copy(root / "Makefile", tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def broken_rules(tree, **environment):
    done = subprocess.run([tree / "scripts" / "check-rules"], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, **environment})
    broken = [line.split(" - ")[1] for line in done.stdout.splitlines() if line.startswith("not ok")]
    assert done.returncode == (1 if broken else 0), done.stdout
    return broken


def test_a_tree_that_keeps_the_rules_passes(tree):
    assert broken_rules(tree) == []


def test_a_silent_pgspot_breaks_the_rule(tree):
    """A check that did not run is no check that passed."""
    assert broken_rules(tree, HARNESS_PYTHON="/bin/true") == ["install script is safe"]


@pytest.mark.parametrize("rule, name, text", SEEDED)
def test_a_seeded_violation_is_found(tree, rule, name, text):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        (tree / name).write_text("int a;\n")
    else:
        code = name.endswith((".c", ".h"))
        spdx = SPDX if code else "# SPDX-License-Identifier: PostgreSQL\n" if name.endswith(".py") else ""
        (tree / name).write_text(spdx + text)
    assert broken_rules(tree) == [rule]


def test_a_circle_of_files_is_found(tree):
    """a needs b, b needs c, c needs a; d needs a, and nobody d."""
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        path = tree / "src" / f"{name}.c"
        path.write_text(f"{SPDX}extern int {other}(void);\nint\n{name}(void)\n{{\n\treturn {other}();\n}}\n")
        subprocess.run(["gcc", "-c", "-o", path.with_suffix(".o"), path], check=True)
    assert broken_rules(tree) == ["files need each other one way"]
    (tree / "src" / "c.c").write_text(SPDX + "int\nc(void)\n{\n\treturn 1;\n}\n")
    subprocess.run(["gcc", "-c", "-o", tree / "src" / "c.o", tree / "src" / "c.c"], check=True)
    assert broken_rules(tree) == []
