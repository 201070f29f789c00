"""Who is who across sessions: one store for units, identities and where their data is."""

from pyflow._lazy import lazy

_HOME = {
    "BrainObservatoryCache": "pyflow.units.across.opening",
    "Comparison": "pyflow.units.store.comparison",
    "MultiSessUnit": "pyflow.units.store.lookup",
    "SourceError": "pyflow.units.sources",
    "SpikeTrain": "pyflow.units.across.spikes",
    "StoreLockedError": "pyflow.units.store.database",
    "TableError": "pyflow.units.unit_table",
    "UnitKey": "pyflow.units.store.lookup",
    "UnitStore": "pyflow.units.store.unit_store",
    "UnitStoreError": "pyflow.units.store.database",
    "UnitTable": "pyflow.units.unit_table",
    "autocorrelogram": "pyflow.units.across.spikes",
    "clustering_table": "pyflow.units.incoming.clusterings",
    "consistent_ids": "pyflow.units.incoming.clusterings",
    "open_sessions": "pyflow.units.across.opening",
    "read_any": "pyflow.units.incoming.recognise",
    "read_caiman": "pyflow.units.incoming.matchers",
    "read_cellreg": "pyflow.units.incoming.matchers",
    "read_clustering": "pyflow.units.incoming.clusterings",
    "read_id_table": "pyflow.units.incoming.id_tables",
    "read_phy_ids": "pyflow.units.incoming.clusterings",
    "read_roicat": "pyflow.units.incoming.matchers",
    "read_spreadsheet": "pyflow.units.incoming.spreadsheet",
    "read_suite2p_ids": "pyflow.units.incoming.clusterings",
    "read_track2p": "pyflow.units.incoming.matchers",
    "read_wide_table": "pyflow.units.incoming.id_tables",
    "read_unitmatch": "pyflow.units.incoming.matchers",
}

__getattr__, __dir__, __all__ = lazy(__name__, _HOME)
