"""Who is who across sessions: one store for units, identities and where their data is."""

from importlib import import_module

_HOME = {
    "BrainObservatoryCache": "sessions",
    "Comparison": "comparison",
    "MultiSessUnit": "lookup",
    "SourceError": "sources",
    "StoreLockedError": "database",
    "TableError": "table",
    "UnitKey": "lookup",
    "UnitStore": "store",
    "UnitStoreError": "database",
    "UnitTable": "table",
    "clustering_table": "clusterings",
    "consistent_ids": "clusterings",
    "open_sessions": "sessions",
    "read_any": "recognise",
    "read_caiman": "matchers",
    "read_cellreg": "matchers",
    "read_clustering": "clusterings",
    "read_id_table": "clusterings",
    "read_phy_ids": "clusterings",
    "read_roicat": "matchers",
    "read_spreadsheet": "spreadsheet",
    "read_suite2p_ids": "clusterings",
    "read_track2p": "matchers",
    "read_unitmatch": "matchers",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    """Load a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyflow.units' has no attribute {name!r}")
    value = getattr(import_module(f"pyflow.units.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
