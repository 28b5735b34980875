# SPDX-License-Identifier: PostgreSQL
"""python -m checker: compare a database's committed events with Kafka; exit 1 on any difference."""

import argparse
import sys

from .observe import check_database


def main():
    parser = argparse.ArgumentParser(prog="checker", description=__doc__)
    parser.add_argument("--dsn", required=True, help="connection string of the database")
    parser.add_argument("--bootstrap", required=True, help="host:port of a broker")
    parser.add_argument("--topic", required=True, action="append", help="may be repeated")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for missing events")
    arguments = parser.parse_args()
    report = check_database(arguments.dsn, arguments.bootstrap, arguments.topic, arguments.timeout)
    print(report.text())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
