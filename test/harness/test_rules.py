# SPDX-License-Identifier: PostgreSQL
"""scripts/check-rules finds what it is there to find."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
from harness import Environment

LONG = "int\nlong_one(void)\n{\n" + "\tcall();\n" * 90 + "}\n"
ROW = "001" + ".1"  # which no test here proves
WIDE = "x" * 98
SPDX = "/* SPDX-License-Identifier: PostgreSQL */\n"

SEEDED = [
    ("rooms include what they may", "services/lib/a.c", '#include "src/emit.h"\n'),
    ("rooms include what they may", "bgworker/sender/a.c", '#include "src/emit.h"\n'),
    ("rooms include what they may", "services/lib/a.c", "#include <postgres.h>\n"),
    ("rooms include what they may", "src/emit.c", '#include "bgworker/relay/link.h"\n'),
    ("rooms include what they may", "bgworker/events/a.c", '#include "bgworker/relay/link.h"\n'),
    ("rooms include what they may", "services/attic/a.c", "int a;\n"),
    ("includes are written one way", "src/a.c", '#include "../src/emit.h"\n'),
    ("headers tell of their own file", "src/a.c", "extern int b(void);\n"),
    ("headers tell of their own file", "src/guc.h", "extern int emit(void);\n"),
    ("only the clients call librdkafka", "services/lib/db.c", "int a = rd_kafka_poll(b, 1);\n"),
    ("common stands alone", "src/common/wire.c", "char *a = palloc(1);\n"),
    ("common stands alone", "src/common/wire.c", '#include "postgres.h"\n'),
    ("functions are short", "src/emit.c", LONG),
    ("sources are formatted", "src/emit.c", "int  a;\n"),
    ("lines are at most 100 columns", "src/emit.c", f"/*\n * {WIDE}\n */\n"),
    ("lines are at most 100 columns", "extension/50-a.sql", f"\t-- {WIDE[4:]}\n"),
    ("lines are at most 100 columns", "extension/50-a.sql", f"-- {WIDE}\n"),
    ("lines are at most 100 columns", "docs/a.md", f"{WIDE} {WIDE}\n"),
    ("tests and expectations match", "sql/a.sql", "select 1;\n"),
    ("tests and expectations match", "expected/a.out", "1\n"),
    ("tests and expectations match", "test/isolation/specs/a.spec", "session s1\n"),
    ("settings are documented", "src/guc.c", '{"outbox.secret_knob"}\n'),
    ("functions are documented", "extension/91-rights.sql", "SELECT 'EXECUTE ON FUNCTION outbox.secret';\n"),
    ("rows and tests agree", "test/e2e/a.py", f'"""Row {ROW}: it says so."""\n'),
    ("rows and tests agree", "docs/rows.md", f"| {ROW} | it says so | `test_a` |\n"),
    ("documents link to what is there", "docs/a.md", "[b](b.md)\n"),
    ("documents link to what is there", "docs/a.md", "# A b\n\n[a](#a-c)\n"),
    ("nothing names this machine", "docs/a.md", "see /" + "work/main/src\n"),
    ("rows of documents are short", "docs/a.md", "| " + "word " * 26 + "|\n"),
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
        "src/emit.c": SPDX + '#include "emit.h"\n\nint\nemit(void)\n{\n\treturn 1;\n}\n',
        "src/emit.h": SPDX,
        "src/guc.c": SPDX,
        "bgworker/relay/link.h": SPDX,
        # A row of a table, code and a link alone may be as wide as they are.
        "docs/settings.md": f"| {WIDE} |\n\n```\n{WIDE}{WIDE}\n```\n\n- <https://{WIDE}>\n",
        "extension/00-schema.sql": SPDX + "\\echo no\nSET LOCAL search_path = pg_catalog, pg_temp;\n",
        # The words of a rule in a comment or a string break nothing.
        "services/lib/db.c": SPDX + '/* rd_kafka_poll() */\nchar *a = "rd_kafka_poll()";\n',
        "src/long.c": SPDX + "/* Long because it is a table. */\n" + LONG,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/check-rules", "scripts/format", ".clang-format", "Makefile"):
        shutil.copy(root / name, tmp_path / name)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def run_rules(tree, python=sys.executable):
    return subprocess.run([tree / "scripts" / "check-rules"], stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "HARNESS_PYTHON": python})


def broken_rules(tree):
    done = run_rules(tree)
    broken = [line.split(" - ")[1] for line in done.stdout.splitlines() if line.startswith("not ok")]
    assert done.returncode == (1 if broken else 0), done.stdout
    return broken


def test_a_tree_that_keeps_the_rules_passes(tree):
    assert broken_rules(tree) == []


def test_a_tool_that_does_not_run_breaks_its_rule(tree):
    """A check that did not run is no check that passed: neither pgspot nor clang-format is there."""
    lines = run_rules(tree, python="/bin/true").stdout.splitlines()
    broken = [line.split(" - ")[1] for line in lines if line.startswith("not ok")]
    assert broken == ["sources are formatted", "install script is safe"]
    assert "# outbox: clang-format is not installed; scripts/deps does that" in lines


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


def test_scripts_follow_extension(tree):
    """outbox--VERSION.sql is in the tree, and is what scripts/install-script makes of extension/."""
    shutil.copy(Environment().root / "scripts/install-script", tree / "scripts")
    (tree / "outbox.control").write_text("default_version = '1.0'\n")
    assert broken_rules(tree) == ["scripts are what extension says"]
    subprocess.run([tree / "scripts/install-script"], check=True)
    assert broken_rules(tree) == []
    with open(tree / "extension/00-schema.sql", "a") as source:
        source.write("/* one line more */\n")
    assert broken_rules(tree) == ["scripts are what extension says"]


def release(tree, version, text):
    (tree / f"outbox--{version}.sql").write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    with open(tree / "extension/released", "a") as released:
        released.write(f"{digest}  outbox--{version}.sql\n")


def test_released_scripts_stay(tree):
    """A version that is released is kept as it is, and has a way to the next one."""
    def describe(control, changelog):
        (tree / "outbox.control").write_text(f"default_version = '{control}'\n")
        (tree / "CHANGELOG.md").write_text(changelog)
        return [line for line in run_rules(tree).stdout.splitlines() if line.startswith("# ")]

    assert describe("1.0", "## 1.0 (unreleased)\n") == []
    assert describe("1.1", "## 1.0 (unreleased)\n") == ["# outbox.control: is of version 1.1, CHANGELOG.md begins with 1.0"]
    unkept = "# extension/released: has no outbox--1.0.sql, which CHANGELOG.md says is released"
    assert describe("1.0", "## 1.0 (2027-01-01)\n") == [unkept]
    release(tree, "1.0", "SELECT 1;\n")
    assert describe("1.0", "## 1.0 (2027-01-01)\n") == []
    later = ("1.1", "## 1.1 (unreleased)\n\n## 1.0 (2027-01-01)\n")
    assert describe(*later) == ["# outbox--1.0--1.1.sql: there is no way from 1.0 to 1.1"]
    (tree / "outbox--1.0--1.1.sql").write_text("SELECT 1;\n")
    assert describe(*later) == []
    (tree / "outbox--1.0.sql").write_text("SELECT 2;\n")
    assert describe(*later) == ["# outbox--1.0.sql: is released and has changed"]


HELP = """#!/bin/sh
echo 'Settings:

  address    where it listens; default "127.0.0.1"
  a_much_longer_name how long, 0 for ever (0 .. 9); default ""
  own        what it is named; required'
"""
TABLE = """<!-- settings of {} -->
| Setting | Default | Meaning |
|---|---|---|
| `address` | 127.0.0.1 | where it listens |
| `a_much_longer_name` | empty | how long, 0 for ever (0 to 9) |
| `own` | required | what it is named |
<!-- end -->
"""


def test_settings_that_differ_from_the_documents_are_found(tree):
    """A table has each setting of --help, its default and its words; the script writes it so."""
    script = tree / "scripts" / "settings-tables"
    shutil.copy(Environment().root / "scripts" / "settings-tables", script)
    for program in ("outbox-consume", "outbox-monitor", "outbox-payment"):
        path = tree / "build" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(HELP if program != "outbox-payment" else HELP.replace("own ", "toll"))
        path.chmod(0o755)
    document = tree / "docs" / "settings.md"
    payment = ("<!-- settings of outbox-payment, besides those of outbox-consume -->\n"
               "| Setting | Default | Meaning |\n|---|---|---|\n| `toll` | required | what it is named |\n<!-- end -->\n")
    right = "# a\n" + TABLE.format("outbox-consume") + "b\n" + TABLE.format("outbox-monitor") + payment + "c\n"
    rule = ["documents have the programs settings"]
    document.write_text(right)
    assert broken_rules(tree) == []
    for wrong in (right.replace("127.0.0.1", "0.0.0.0", 1), right.replace("| `own` | required | what it is named |\n", "", 1)):
        document.write_text(wrong)
        assert broken_rules(tree) == rule
        subprocess.run([script], check=True, stdout=subprocess.PIPE)
        assert document.read_text() == right
    document.write_text(right.replace(payment, ""))
    assert broken_rules(tree) == rule
    document.write_text(right)
    (tree / "build" / "outbox-monitor").unlink()
    assert broken_rules(tree) == rule


def test_a_circle_of_files_is_found(tree):
    """a needs b, b needs c, c needs a; d needs a, and nobody d."""
    for name, other in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")):
        path = tree / "src" / f"{name}.c"
        path.write_text(f"{SPDX}int {other}(void);\nint\n{name}(void)\n{{\n\treturn {other}();\n}}\n")
        subprocess.run(["gcc", "-c", "-o", path.with_suffix(".o"), path], check=True)
    assert broken_rules(tree) == ["files need each other one way"]
    (tree / "src" / "c.c").write_text(SPDX + "int\nc(void)\n{\n\treturn 1;\n}\n")
    subprocess.run(["gcc", "-c", "-o", tree / "src" / "c.o", tree / "src" / "c.c"], check=True)
    assert broken_rules(tree) == []
