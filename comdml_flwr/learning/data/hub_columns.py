"""Which columns of a table of the package datasets hold images, labels, and whose a sample is.

Each function raises InputError, in one line with all columns and their kinds, if there is no such column.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from comdml_flwr.core.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset as Table


def image_column(name: str, table: "Table") -> str:
    """Return the only column of images."""
    from datasets import Image

    found = [column for column, feature in table.features.items() if isinstance(feature, Image)]
    if len(found) != 1:
        raise InputError("dataset", name, f"must have one column of images; it has {_columns(table)}")
    return str(found[0])


def label_column(name: str, table: "Table", named: str) -> str:
    """Return the column that is named, or the only one of class labels."""
    from datasets import ClassLabel

    if named:
        if named not in table.features:
            raise InputError("label-column", named, f"must be a column of {name}: {_columns(table)}")
        return named
    found = [column for column, feature in table.features.items() if isinstance(feature, ClassLabel)]
    if len(found) != 1:
        rule = f"must have one column of class labels, or label-column names it; it has {_columns(table)}"
        raise InputError("dataset", name, rule)
    return str(found[0])


def _columns(table: "Table") -> str:
    kinds = {
        column: getattr(feature, "dtype", None)
        if type(feature).__name__ == "Value"
        else type(feature).__name__
        for column, feature in table.features.items()
    }
    return ", ".join(f"{column} ({kind})" for column, kind in kinds.items())


def classes_of(name: str, table: "Table", column: str) -> Mapping[object, int]:
    """Return the label of each value: text and whole numbers are sorted."""
    from datasets import ClassLabel

    feature = table.features[column]
    values = range(feature.num_classes) if isinstance(feature, ClassLabel) else table[column][:]
    _check_kind("label-column", name, table, column, [value for value in values if value is not None])
    known = {value for value in values if not (value is None or (isinstance(value, int) and value < 0))}
    if len(known) < 2:
        raise InputError("dataset", name, f"must have two or more classes in {column}, not {len(known)}")
    return {value: label for label, value in enumerate(sorted(known))}


def check_same_columns(name: str, train: "Table", test: "Table", columns: Iterable[str]) -> None:
    """Refuse a test part in which a column is missing or of another kind, as of classes in another order."""
    for column in columns:
        if test.features.get(column) != train.features[column]:
            rule = f"must be in the test part what it is in the training part, not: {_columns(test)}"
            raise InputError(f"{name}: column", column, rule)


def natural_ids_of(name: str, table: "Table", column: str) -> NDArray[np.int64] | None:
    """Return whose each sample is, 0, 1, ...: as a column says, by default the one called partition."""
    column = column or ("partition" if "partition" in table.features else "")
    if not column:
        return None
    if column not in table.features:
        raise InputError("partition-by", column, f"must be a column of {name}: {_columns(table)}")
    values = table[column][:]
    _check_kind("partition-by", name, table, column, values)
    _, ids_N = np.unique(np.array(values), return_inverse=True)
    return ids_N.astype(np.int64)


def _check_kind(key: str, name: str, table: "Table", column: str, values: Iterable[object]) -> None:
    if not all(isinstance(value, int | str) for value in values):
        rule = f"must hold text or whole numbers; {name} has {_columns(table)}"
        raise InputError(key, column, rule)
