"""Who is who across sessions: one store for units, identities and where their data is."""

from pyflow._lazy import lazy

_HOME = {
    "BrainObservatoryCache": "pyflow.units.opening",
    "Comparison": "pyflow.units.comparison",
    "MultiSessUnit": "pyflow.units.lookup",
    "SourceError": "pyflow.units.sources",
    "StoreLockedError": "pyflow.units.database",
    "TableError": "pyflow.units.table",
    "UnitKey": "pyflow.units.lookup",
    "UnitStore": "pyflow.units.store",
    "UnitStoreError": "pyflow.units.database",
    "UnitTable": "pyflow.units.table",
    "clustering_table": "pyflow.units.clusterings",
    "consistent_ids": "pyflow.units.clusterings",
    "open_sessions": "pyflow.units.opening",
    "read_any": "pyflow.units.recognise",
    "read_caiman": "pyflow.units.matchers",
    "read_cellreg": "pyflow.units.matchers",
    "read_clustering": "pyflow.units.clusterings",
    "read_id_table": "pyflow.units.clusterings",
    "read_phy_ids": "pyflow.units.clusterings",
    "read_roicat": "pyflow.units.matchers",
    "read_spreadsheet": "pyflow.units.spreadsheet",
    "read_suite2p_ids": "pyflow.units.clusterings",
    "read_track2p": "pyflow.units.matchers",
    "read_unitmatch": "pyflow.units.matchers",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOME)
