# SPDX-License-Identifier: PostgreSQL
"""Fixtures: one PostgreSQL cluster and one broker for the run, a fresh database for each test."""

import contextlib
import functools
import itertools
import shutil
import signal

import pytest
from harness import Database, FaultPoints, KafkaBroker, PostgresCluster, Service, Session, ShiftedClock
from harness.hazard import HazardTest
from harness.payment import TOPICS, PaymentTest

_numbers = itertools.count(1)

# Killed processes lose nothing they have written; only a power cut would need fsync.
NO_FSYNC = {"fsync": "off"}


def pytest_configure(config):
    # So that fixtures are torn down, and servers stopped, when make or CI ends the run, also
    # in a worker and in the background. Any other exception would fail one test and go on.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """--dist loadscope: tests that share servers of their module's own stay together and come first, any other goes
    where a worker is free. So no worker is left with a whole file at the end."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            path = nodeid.split("::")[0]
            return path if shares_servers(config.rootpath / path) else nodeid
    return Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@functools.cache
def shares_servers(path):
    """Does a test file have a fixture of its own that lasts as long as the module?"""
    return 'scope="module"' in path.read_text()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show the ends of the logs of a failed test's servers."""
    report = (yield).get_result()
    if report.failed:
        session = item.funcargs.get("session")
        for path in sorted(session.logs.glob("*.log")) if session else []:
            tail = path.read_text(errors="replace").splitlines()[-40:]
            report.sections.append((f"end of {path}", "\n".join(tail)))


@pytest.fixture(scope="session")
def session():
    """The run below .run/check; stops everything at the end."""
    session = Session("check")
    try:
        yield session
    finally:
        session.close()


@pytest.fixture(scope="session")
def _kafka(session):
    return KafkaBroker(session, proxied=True)


@pytest.fixture
def kafka(_kafka):
    """The run's broker, started and answering (however the last test left it)."""
    if _kafka.running:
        _kafka.resume()
        _kafka.wait_ready()
    else:
        _kafka.start()
    return _kafka


@pytest.fixture
def proxy(kafka):
    """A KafkaProxy before the run's broker; bootstrap.servers = proxy.bootstrap leads through it."""
    with contextlib.closing(kafka.proxy()) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _postgres(session, _kafka):
    return PostgresCluster(session, conf={"outbox.kafka_properties": f"bootstrap.servers={_kafka.bootstrap}", **NO_FSYNC})


@pytest.fixture
def postgres(_postgres):
    """The run's cluster, started, with the settings it was made with (changes are undone after the test)."""
    before = dict(_postgres.settings)
    if not _postgres.running:
        _postgres.start()
    _postgres.wait_ready()
    _postgres.drop_leftovers()
    yield _postgres
    if _postgres.settings != before:
        _postgres.settings = before
        _postgres.configure()
        _postgres.stop()


@pytest.fixture(scope="session")
def _faulty(session, _kafka):
    conf = {"outbox.kafka_properties": f"bootstrap.servers={_kafka.bootstrap}", **NO_FSYNC}
    return PostgresCluster(session, "faulty", conf, variant="faults")


@pytest.fixture
def faulty(_faulty, kafka):
    """The run's cluster of the build with fault points, started; its settings are undone after the test."""
    before = dict(_faulty.settings)
    FaultPoints(_faulty).clear()
    if not _faulty.running:
        _faulty.start()
    _faulty.wait_ready()
    _faulty.drop_leftovers()
    yield _faulty
    FaultPoints(_faulty).clear()
    if _faulty.settings != before:
        _faulty.settings = before
        _faulty.configure()
        _faulty.stop()


@pytest.fixture
def points(faulty):
    """The fault points of the cluster faulty; all are disarmed before and after the test."""
    return FaultPoints(faulty)


@pytest.fixture
def struck(faulty, make_database):
    """A fresh database of the cluster faulty, its relay started."""
    found = make_database(faulty)
    found.start_relay()
    return found


@pytest.fixture
def own_postgres(session, _kafka):
    """make(**conf): a new, started cluster for one test alone; further keyword: name, start, initdb_options."""
    made = []

    def make(name=None, start=True, initdb_options=(), **conf):
        conf = {key.replace("__", "."): value for key, value in conf.items()}
        settings = {"outbox.kafka_properties": f"bootstrap.servers={_kafka.bootstrap}", **NO_FSYNC, **conf}
        cluster = PostgresCluster(session, f"{name or 'own'}-{next(_numbers)}", settings, initdb_options)
        made.append(cluster)
        return cluster.start() if start else cluster
    yield make
    for cluster in made:
        cluster.remove()


@pytest.fixture
def shifted_clock(own_postgres, session):
    """A server, and a function that shifts its wall clock by seconds; its monotonic clock goes on."""
    cluster = own_postgres(start=False)
    clock = ShiftedClock(session, cluster.name)
    cluster.variables = clock.variables
    return cluster.start(), clock.shift


@pytest.fixture
def copy_cluster():
    """copy_cluster(kind, source, **options): a cluster made of source's data by a kind of harness.copies."""
    made = []

    def make(kind, source, **options):
        made.append(kind(source, f"copy-{next(_numbers)}", **options))
        return made[-1]
    yield make
    for cluster in made:
        cluster.remove()


@pytest.fixture
def unique(request):
    """unique("orders") gives a name nobody else uses, fit for topics, groups and databases."""
    return lambda stem: f"{stem}_{next(_numbers)}"


@pytest.fixture
def database(postgres, unique):
    """A fresh database with the extension; its relay is not started."""
    name = postgres.create_database(unique("test"))
    yield Database(postgres, name)
    if postgres.running:
        postgres.wait_ready()
        postgres.drop_database(name)
    else:
        postgres.leftovers.append(name)


@pytest.fixture
def make_database(unique):
    """make(cluster, extension=True, encoding=None): further databases, or ones of other clusters, as Database."""
    made = []

    def make(cluster, name=None, extension=True, encoding=None):
        found = Database(cluster, cluster.create_database(name or unique("test"), extension, encoding=encoding))
        made.append(found)
        return found
    yield make
    for found in made:
        if found.cluster.running:
            found.cluster.wait_ready()
            found.cluster.drop_database(found.name)
        else:
            found.cluster.leftovers.append(found.name)


@pytest.fixture
def policy(postgres):
    """policy(name) sets outbox.dead_letter_policy in the running server."""
    def choose(name):
        postgres.configure(**{"outbox.dead_letter_policy": name})
        postgres.reload()
    return choose


@pytest.fixture
def relay(database, kafka):
    """The fresh database with its relay started and Kafka up."""
    database.start_relay()
    return database


@pytest.fixture
def topic_name(unique):
    """A topic name nobody else uses, neither declared nor created."""
    return unique("topic")


@pytest.fixture
def topic(database, topic_name):
    """A topic name nobody else uses, declared in the fresh database with 3 partitions."""
    return database.declare(topic_name)


@pytest.fixture
def service(session):
    """make(program, config, ...): a started Service, stopped after the test."""
    made = []

    def make(program, config, name=None, env=None, start=True):
        found = Service(session, program, config, name or f"{program}-{next(_numbers)}", env)
        made.append(found)
        return found.start() if start else found
    yield make
    for found in reversed(made):
        found.kill9()


def take_program(session, name):
    """A program of test/services, as scripts/check has built it, put where the servers' user can run it."""
    copy = shutil.copy(session.environment.root / "build" / name, session.data)
    return session.environment.give(copy)


@pytest.fixture(scope="session")
def consume_next_program(session):
    return take_program(session, "outbox-consume-next")


@pytest.fixture(scope="session")
def sequence_program(session):
    return take_program(session, "outbox-sequence")


@pytest.fixture(scope="session")
def hazard_program(session):
    return take_program(session, "outbox-hazard")


@pytest.fixture(scope="session")
def web_program(session):
    return take_program(session, "outbox-web")


@pytest.fixture
def hazard(kafka, database, service, unique, hazard_program, topic_name):
    """A HazardTest on a topic of its own: outbox-hazard, not started, and a producer; no relay runs."""
    return HazardTest(kafka, database, service, hazard_program, topic_name, unique("hazard"))


@pytest.fixture
def payment(kafka, database, service, unique):
    """A PaymentTest on empty topics: outbox-payment, not started, and a producer; no relay runs."""
    names = [name for topic in TOPICS for name in (topic, topic + ".DLT")]
    kafka.delete_topics(names)
    kafka.create_topics(names, 6)
    return PaymentTest(kafka, database, service, unique("payment"))
