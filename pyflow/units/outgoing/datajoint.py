"""A link set in a DataJoint pipeline: `MultiSessUnit` with its part table `MemberUnit`, below the lab's own tables.

The lab has a table of sessions and, below it, one of units, named as it likes. `declare` adds three tables to a schema:

    LinkSet          who claimed the identities, how and when
    MultiSessUnit    -> LinkSet; one cell: a number, its global id and label
    MemberUnit       part of MultiSessUnit; -> the lab's Unit

The database itself refuses a unit in two cells of a link set and two units of one session in one cell.

DataJoint 2 speaks MySQL/MariaDB and PostgreSQL (``pip install "datajoint[postgres]"``). A server for trying it out,
which keeps everything in one folder and stops with Ctrl-C, starts as any user but root::

    mariadb-install-db --no-defaults --datadir=$PWD/db --auth-root-authentication-method=normal
    mariadbd --no-defaults --datadir=$PWD/db --socket=$PWD/db/socket --bind-address=127.0.0.1 --port=3307

    initdb --pgdata=db --username=lab --auth=trust
    postgres -D db -c listen_addresses=127.0.0.1 -c port=5433 -c unix_socket_directories=$PWD/db
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datajoint as dj
import pandas as pd

from pyflow.units.store.unit_store import UnitStore
from pyflow.units.unit_table import UnitTable

_CLAIM = ("source", "algorithm", "version", "author", "created")
_BATCH = 5000  # rows of one INSERT; databases limit its size


@dataclass(frozen=True)
class LinkTables:
    """The tables that `declare` made: classes of DataJoint, and the lab's units they refer to."""

    link_set: type
    multi_sess_unit: type
    unit: type

    @property
    def member_unit(self) -> type:
        """The part table of `multi_sess_unit`."""
        return self.multi_sess_unit.MemberUnit


def declare(schema: Any, session: type, unit: type) -> LinkTables:
    """Declare the tables, or find them again.

    Parameters
    ----------
    schema : datajoint.Schema
        Where to make them.
    session, unit : type
        The lab's tables, as DataJoint classes; the primary key of `unit` contains that of `session`.

    Returns
    -------
    LinkTables

    Raises
    ------
    ValueError
        `unit` is not below `session`.
    """
    of_session, of_unit = list(session().primary_key), list(unit().primary_key)
    if not set(of_session) < set(of_unit):
        raise ValueError(
            f"the primary key of {unit.__name__} ({', '.join(of_unit)}) must contain that of {session.__name__} "
            f"({', '.join(of_session)})"
        )

    class LinkSet(dj.Manual):
        definition = """
        # One way of claiming which units are one cell
        link_set    : varchar(64)
        ---
        source      : varchar(1000)
        algorithm   : varchar(255)
        version     : varchar(255)
        author      : varchar(255)
        created     : varchar(32)     # ISO 8601
        parameters  : varchar(10000)  # JSON
        """

    class MemberUnit(dj.Part):
        definition = f"""
        # Units that are this cell
        -> master
        -> {unit.__name__}
        ---
        probability=null : float64
        unique index (link_set, {", ".join(of_unit)})
        unique index (link_set, multi_sess_unit, {", ".join(of_session)})
        """

    class MultiSessUnit(dj.Manual):
        definition = """
        # One cell over several sessions
        -> LinkSet
        multi_sess_unit : int32  # its number
        ---
        global_id       : char(36)  # UUID, as text: DataJoint 2.3 cannot insert the type uuid into PostgreSQL
        label           : varchar(255)  # what its source calls it
        unique index (link_set, global_id)
        """

    MultiSessUnit.MemberUnit = MemberUnit
    context = {"LinkSet": LinkSet, unit.__name__: unit}
    schema(LinkSet, context=context)
    schema(MultiSessUnit, context=context)
    return LinkTables(LinkSet, MultiSessUnit, unit)


def insert_link_set(
    tables: LinkTables, store: UnitStore, key: Callable[[Any], dict[str, Any]], *, link_set: str | None = None
) -> str:
    """Copy a link set into the pipeline, all or nothing.

    Parameters
    ----------
    tables : LinkTables
    store : UnitStore
    key : callable
        Gets a followed unit (its row of ``store.tables()["unit"]``) and returns its primary key in the lab's table:
        ``lambda unit: {"subject": "M1", "session_name": unit.session, "unit_id": int(unit.unit)}``.
    link_set : str, optional
        The current one by default.

    Returns
    -------
    str
        Name of the link set.

    Raises
    ------
    ValueError
        The pipeline has a link set of that name, or lacks a unit, or `key` gives other attributes.
    """
    claim, _, units = store.gather(link_set)
    units = units[units["identity"].notna()]
    if tables.link_set & {"link_set": claim["name"]}:
        raise ValueError(f"the pipeline has a link set {claim['name']!r} already; delete it there first")
    names = list(tables.unit().primary_key)
    keys = [key(unit) for unit in units.itertuples()]
    wrong = next((k for k in keys if set(k) != set(names)), None)
    if wrong is not None:
        raise ValueError(f"key gives {', '.join(wrong)}; the units' primary key is {', '.join(names)}")
    _refuse_unknown(tables.unit, names, keys)
    master = {"link_set": claim["name"]}
    cells = units.drop_duplicates("identity")
    multi_sess_units = [
        master | {"multi_sess_unit": number, "global_id": global_id, "label": label}
        for number, global_id, label in zip(
            cells["identity_number"].tolist(), cells["identity_id"], cells["identity"], strict=True
        )
    ]
    probability = [None if pd.isna(p) else p for p in units["identity_probability"].tolist()]
    members = [
        master | {"multi_sess_unit": number, "probability": p} | k
        for number, p, k in zip(units["identity_number"].tolist(), probability, keys, strict=True)
    ]
    with tables.link_set().connection.transaction:
        said = {field: claim[field] for field in _CLAIM} | {"parameters": claim["parameters"]}
        tables.link_set().insert1(master | said)
        for table, rows in ((tables.multi_sess_unit(), multi_sess_units), (tables.member_unit(), members)):
            for start in range(0, len(rows), _BATCH):
                table.insert(rows[start : start + _BATCH])
    return claim["name"]


def _refuse_unknown(unit, names, keys):
    there = {tuple(str(row[name]) for name in names) for row in unit().proj().to_dicts()}
    missing = [k for k in keys if tuple(str(k[name]) for name in names) not in there]
    if missing:
        raise ValueError(f"{unit.__name__} has no {missing[0]} ({len(missing)} of {len(keys)} units are missing)")


def fetch_link_set(
    tables: LinkTables, link_set: str, name_of: Callable[[dict[str, Any]], tuple[str, str, str]]
) -> UnitTable:
    """Copy a link set out of the pipeline.

    Parameters
    ----------
    tables : LinkTables
    link_set : str
        Its name there.
    name_of : callable
        Gets a unit's primary key (dict) and returns its session, group and id as the store names them:
        ``lambda key: (key["session_name"], "", str(key["unit_id"]))``.

    Returns
    -------
    UnitTable
        For `UnitStore.import_table`.

    Raises
    ------
    ValueError
        The pipeline has no such link set.
    """
    here = {"link_set": link_set}
    if not tables.link_set & here:
        known = ", ".join(repr(row["link_set"]) for row in tables.link_set().to_dicts()) or "none"
        raise ValueError(f"the pipeline has no link set {link_set!r}; it has {known}")
    claim = (tables.link_set & here).fetch1()
    names = tables.unit().primary_key
    cells = {row["multi_sess_unit"]: row for row in (tables.multi_sess_unit & here).to_dicts()}
    rows = []
    for member in (tables.member_unit & here).to_dicts():
        cell = cells[member["multi_sess_unit"]]
        session, group, unit = name_of({name: member[name] for name in names})
        rows.append((session, group, unit, cell["label"], cell["global_id"], member["probability"]))
    columns = ["session", "group", "unit", "identity", "global_id", "probability"]
    said = {field: claim[field] for field in _CLAIM} | {"parameters": json.loads(claim["parameters"])}
    return UnitTable(pd.DataFrame(rows, columns=columns), name=link_set, origin=f"DataJoint, {link_set!r}", **said)
