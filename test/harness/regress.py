# SPDX-License-Identifier: PostgreSQL
"""python -m harness.regress regress|isolation [TEST...]: pg_regress on a cluster of its own.

Runs every test of sql/ (or test/isolation/specs/) unless some are named. The
extension exists in the test database; its relay finds no broker.
"""

import pathlib
import subprocess
import sys

from .postgres import PostgresCluster
from .session import Session, exit_on_sigterm

# name -> (program below pgxs/src/test, input directory, folder of the tests, their suffix)
_SUITES = {
    "regress": ("regress/pg_regress", ".", "sql", ".sql"),
    "isolation": ("isolation/pg_isolation_regress", "test/isolation", "specs", ".spec"),
}


def run_suite(suite, names):
    """Run one suite; returns pg_regress's exit code."""
    program, inputs, folder, suffix = _SUITES[suite]
    exit_on_sigterm()
    session = Session(suite)
    try:
        environment = session.environment
        inputs = environment.root / inputs
        names = names or sorted(path.stem for path in (inputs / folder).glob(f"*{suffix}"))
        if not names:
            print(f"{inputs / folder} holds no test")
            return 1
        cluster = PostgresCluster(session, conf={
            "outbox.kafka_properties": "bootstrap.servers=127.0.0.1:1",
            "max_prepared_transactions": "10",
        }).start()
        command = [
            environment.pkglibdir / "pgxs" / "src" / "test" / program,
            f"--inputdir={inputs}", f"--outputdir={session.directory}", f"--bindir={environment.bindir}",
            f"--host={cluster.host}", f"--port={cluster.port}", "--user=postgres",
            f"--dbname=outbox_{suite}", "--load-extension=outbox", *names,
        ]
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, cwd=session.directory)
        differences = pathlib.Path(session.directory) / "regression.diffs"
        if done.returncode != 0 and differences.exists():
            print(differences.read_text(errors="replace"))
        return done.returncode
    finally:
        session.close()


if __name__ == "__main__":
    sys.exit(run_suite(sys.argv[1], sys.argv[2:]))
