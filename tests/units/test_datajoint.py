"""A link set in a real database, which the test starts and stops."""

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
import pytest
from units import kavli

from pyflow.units import UnitStore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it has no settings file here
    try:
        import datajoint as dj
    except ImportError:
        pytest.skip("DATAJOINT IS MISSING: pip install 'datajoint[postgres]'", allow_module_level=True)

from pyflow.units.outgoing.datajoint import declare, fetch_link_set, insert_link_set

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:datajoint", "ignore::DeprecationWarning:datajoint")


def find(program, folder):
    return shutil.which(program) or next((str(p) for p in sorted(Path("/").glob(f"{folder}/{program}"))), None)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def user_for(name, folder):
    """Servers refuse to run as root: then they run as the user that their package made."""
    if os.getuid():
        return {}
    user = pwd.getpwnam(name)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stderr


def start_mariadb(folder, port):
    server, install = find("mariadbd", "usr/sbin"), find("mariadb-install-db", "usr/bin")
    if not server or not install:
        pytest.skip("MARIADB IS MISSING: apt-get install mariadb-server")
    user = user_for("mysql", folder)
    data = f"--datadir={folder}/db"
    run([install, "--no-defaults", data, "--auth-root-authentication-method=normal", "--skip-test-db"], **user)
    command = [server, "--no-defaults", data, f"--socket={folder}/s", f"--pid-file={folder}/pid", f"--port={port}"]
    return [*command, "--bind-address=127.0.0.1"], user, {"backend": "mysql", "user": "root"}


def start_postgresql(folder, port):
    server, install = (find(program, "usr/lib/postgresql/*/bin") for program in ("postgres", "initdb"))
    if not server or not install:
        pytest.skip("POSTGRESQL IS MISSING: apt-get install postgresql")
    user = user_for("postgres", folder)
    run([install, f"--pgdata={folder}/db", "--username=lab", "--auth=trust", "--no-sync"], cwd=folder, **user)
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    command = [server, "-D", f"{folder}/db", *(w for k, v in settings.items() for w in ("-c", f"{k}={v}"))]
    return command, user, {"backend": "postgresql", "user": "lab"}


def ready(log):
    """Whether a server says that it is; it listens a while before that, and refuses who comes."""
    return re.search("ready (for|to accept) connections", log.read_text(errors="replace")) is not None


@pytest.fixture(scope="module", params=[start_mariadb, start_postgresql], ids=["mariadb", "postgresql"])
def pipeline(request):
    """A DataJoint instance on a server of our own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # tmp_path is too long for a socket
        port = free_port()
        command, user, account = request.param(folder, port)
        log = Path(folder) / "log"
        with open(log, "wb") as file:
            environment = os.environ | {"LC_ALL": "C"}
            server = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=environment, **user)
        try:
            end = time.monotonic() + 60
            while not ready(log) and server.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            assert ready(log), log.read_text(errors="replace")
            instance = dj.Instance(host="127.0.0.1", password="", port=port, **account)
            instance.config.safemode = False
            yield instance
            instance.connection.close()
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
def lab(pipeline):
    """Tables that a lab has, with the units of the spreadsheet."""
    schema = pipeline.Schema("lab")

    class Recording(dj.Manual):
        definition = """
        subject : varchar(16)
        recording : varchar(64)
        """

    class Cluster(dj.Manual):
        definition = """
        -> Recording
        tetrode : int16
        cluster : int32
        """

    schema(Recording, context=locals())
    schema(Cluster, context=locals())
    units = [(kavli.SESSIONS.index(r[1]), r[1], r[3], r[4]) for r in kavli.rows()]
    Recording().insert([{"subject": "M1", "recording": s} for s in kavli.SESSIONS])
    Cluster().insert([{"subject": "M1", "recording": s, "tetrode": t, "cluster": c} for _, s, t, c in units])
    yield schema, Recording, Cluster
    schema.drop(prompt=False)


@pytest.fixture
def store(tmp_path):
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_spreadsheet(kavli.save(tmp_path / "cells.xlsx"))
        yield store


def key(unit):
    return {"subject": "M1", "recording": unit.session, "tetrode": int(unit.group), "cluster": int(unit.unit)}


def name_of(key):
    return key["recording"], str(key["tetrode"]), str(key["cluster"])


def test_there_and_back(store, lab, tmp_path):
    tables = declare(*lab)
    assert insert_link_set(tables, store, key) == "cells"
    assert len(tables.multi_sess_unit()) == 39
    assert len(tables.member_unit()) == 62
    here = (tables.member_unit & {"multi_sess_unit": 12} & "cluster = 2").to_dicts()
    assert [row["recording"] for row in here] == list(kavli.SESSIONS)
    again = declare(*lab)
    with UnitStore.open(tmp_path / "back.sqlite") as back:
        back.import_table(fetch_link_set(again, "cells", name_of))
        columns = ["number", "global_id", "label", "session", "group", "unit", "probability"]
        pd.testing.assert_frame_equal(
            *(s.members()[columns].sort_values(["number", "session"], ignore_index=True) for s in (store, back))
        )
        claims = [s.tables()["link_set"].drop(columns=["link_set_id"]) for s in (store, back)]
        pd.testing.assert_frame_equal(*claims)


def test_the_database_keeps_the_rules(store, lab):
    tables = declare(*lab)
    insert_link_set(tables, store, key)
    unit = {"link_set": "cells", "multi_sess_unit": 5, "subject": "M1", "recording": kavli.SESSIONS[0], "tetrode": 1}
    with pytest.raises(dj.errors.DuplicateError):
        tables.member_unit().insert1(unit | {"cluster": 6})  # is in number 6 already
    with pytest.raises(dj.errors.DuplicateError):
        tables.member_unit().insert1(unit | {"cluster": 11})  # number 5 has another one in this session
    with pytest.raises(dj.errors.IntegrityError):
        tables.member_unit().insert1(unit | {"multi_sess_unit": 777, "cluster": 11})


def test_nothing_is_copied_by_halves(store, lab):
    schema, recording, cluster = lab
    tables = declare(*lab)
    with pytest.raises(ValueError, match=r"key gives a; the units' primary key is subject, recording"):
        insert_link_set(tables, store, lambda unit: {"a": 1})
    with pytest.raises(ValueError, match=r"Cluster has no .*'M2'.* \(62 of 62 units are missing\)"):
        insert_link_set(tables, store, lambda unit: key(unit) | {"subject": "M2"})
    always_the_same = {"subject": "M1", "recording": kavli.SESSIONS[0], "tetrode": 1, "cluster": 1}
    with pytest.raises(dj.errors.DuplicateError):
        insert_link_set(tables, store, lambda unit: always_the_same)
    assert not len(tables.link_set())
    assert not len(tables.multi_sess_unit())
    insert_link_set(tables, store, key)
    with pytest.raises(ValueError, match="has a link set 'cells' already"):
        insert_link_set(tables, store, key)
    with pytest.raises(ValueError, match=r"no link set 'other'; it has 'cells'"):
        fetch_link_set(tables, "other", name_of)
    with pytest.raises(ValueError, match=r"primary key of Recording .* must contain that of Cluster"):
        declare(schema, cluster, recording)
