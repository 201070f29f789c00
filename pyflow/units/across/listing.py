"""Lists of experiments, containers and cells, searched as AllenSDK documents it."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

_OF_CONTAINERS = ("imaging_depth", "targeted_structure", "cre_line", "reporter_line", "donor_name", "specimen_name")
_LINES = ("cre_line", "reporter_line", "transgenic_lines")  # compared without regard to case, as AllenSDK does
_COMPARE = {
    "=": operator.eq,
    "is": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "in": lambda value, wanted: value in wanted,
    "between": lambda value, wanted: wanted[0] <= value <= wanted[1],
}


def as_list(name: str, values: Any) -> list[Any]:
    """List of the values of a filter; TypeError for a single one, which would be searched letter by letter."""
    if isinstance(values, str) or np.ndim(values) != 1:
        raise TypeError(f"{name} is {values!r}, expected a list")
    return list(values)


def chosen(records: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Records that pass all filters.

    Parameters
    ----------
    records : iterable of dict
    **wanted : list, optional
        By key: the record's value, or one of its values where it has a list, must be among these.
    """
    wanted = {key: _folded(key, as_list(key, values)) for key, values in wanted.items() if values is not None}
    return [record for record in records if all(_among(record, key, values) for key, values in wanted.items())]


def _among(record, key, values):
    found = record[key] if isinstance(record[key], list) else [record[key]]
    return any(value in values for value in _folded(key, found))


def _folded(key, values):
    return [value.lower() if key in _LINES and isinstance(value, str) else value for value in values]


def passes(record: dict[str, Any], condition: dict[str, Any]) -> bool:
    """Tell whether a record passes a filter of AllenSDK's form; what is not known passes none.

    Raises
    ------
    ValueError
        The filter names a field or an operation that does not exist, or a value that the field is not comparable to.
    """
    field, op, value = (condition.get(key) for key in ("field", "op", "value"))
    if field not in record:
        raise ValueError(f"filter {condition!r}: field is {field!r}, but cells of local files have {', '.join(record)}")
    if op not in _COMPARE:
        raise ValueError(f"filter {condition!r}: op is {op!r}, expected one of {', '.join(map(repr, _COMPARE))}")
    try:
        return record[field] is not None and bool(_COMPARE[op](record[field], value))
    except (TypeError, IndexError) as error:
        raise ValueError(f"filter {condition!r}: {value!r} cannot be compared so with {record[field]!r}") from error


def containers(experiments: Iterable[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    """Containers of experiments that pass all filters, as of `chosen`."""
    found = {}
    for record in experiments:
        if record["experiment_container_id"] is not None:
            found.setdefault(record["experiment_container_id"], record)
    listed = {
        key: {"id": key} | {name: record[name] for name in _OF_CONTAINERS} | {"tags": [], "failed": False}
        for key, record in found.items()
    }
    searched = (container | {"transgenic_lines": found[key]["transgenic_lines"]} for key, container in listed.items())
    return [listed[container["id"]] for container in chosen(searched, **wanted)]


def cell_specimens(experiments: Iterable[tuple[dict[str, Any], set[int | str]]]) -> list[dict[str, Any]]:
    """Cells of experiments, given with their records; see `Sessions.get_cell_specimens`."""
    cells, n_experiments = {}, {}
    for record, of_experiment in experiments:
        container = record["experiment_container_id"]
        n_experiments[container] = n_experiments.get(container, 0) + 1
        for cell in sorted(of_experiment):
            listed = {
                "cell_specimen_id": cell,
                "experiment_container_id": container,
                "area": record["targeted_structure"],
                "imaging_depth": record["imaging_depth"],
                "tld1_name": record["cre_line"],
                "donor_full_genotype": record["genotype"],
                "specimen_id": None,
                "failed_experiment_container": False,
                "ophys_experiment_ids": [],
            }
            cells.setdefault(cell, listed)["ophys_experiment_ids"].append(record["id"])
    for cell in cells.values():
        cell["all_stim"] = len(cell["ophys_experiment_ids"]) == n_experiments[cell["experiment_container_id"]]
    return list(cells.values())
