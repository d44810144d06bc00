"""`pano query`: which samples hold what an expression asks for.

From the index alone; and their extraction by byte range.

    find(dataset, "category == 'sofa' and sr > 0.01")    samples with at least one such instance
    find(dataset, "'seam' in flags and not 'structure' in flags")
    find(dataset, "visibility > 0.5 and px > 100")       known to be at least half unhidden
    find(dataset, "source == 'infinigen2.rooms/kitchen' and n_instances >= 100")
    find(dataset, "split == 'train' and n_instances < 10")
    find(dataset, "frame == 0 and category == 'chair'")  videos that begin with a chair in sight

An expression is a small part of Python: columns, numbers, strings, lists of them, comparisons (also
chained), `in`, `and`, `or`, `not`. It is parsed by `ast` and walked over an allow-list; nothing is
ever evaluated by Python, no attribute, call or subscript exists. Columns of the sample index and of
the instance index may be mixed; with any instance column the question is asked per instance. Every
step is one Arrow kernel over whole columns, without Arrow's dataset layer and its threads.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from panoforge.core.errors import UsageError, nearest
from panoforge.core.names import check_key, frame_of
from panoforge.core.sample.metadata import META_SUFFIX, VIDEO_SUFFIX
from panoforge.core.sample.products import PRODUCT_OF_SUFFIX
from panoforge.core.shards.read import Dataset
from panoforge.core.storage.lease import held
from panoforge.core.storage.store import Store, StoreLike

MAX_EXPRESSION = 2000
SAMPLE_COLUMNS = (
    "key",
    "split",
    "shard",
    "source",
    "scene",
    "seed",
    "camera",
    "video",
    "frame",
    "width",
    "height",
    "n_instances",
    "yaw_deg",
    "pitch_deg",
    "roll_deg",
    "clearance_m",
    "notes",
    "config_sha256",
)
# Name in expressions → column of the instance index. The box's size would hide the panorama's, so
# it has another name.
INSTANCE_COLUMNS = {
    "id": "id",
    "name": "name",
    "category": "category",
    "source_object": "source_object",
    "flags": "flags",
    "pixels": "pixels",
    "px": "pixels",
    "area_sr": "area_sr",
    "sr": "area_sr",
    "u0": "u0",
    "v0": "v0",
    "box_width": "width",
    "box_height": "height",
    "visibility": "visibility",
}
COLUMNS = (*SAMPLE_COLUMNS, *INSTANCE_COLUMNS)
_COMPARISONS: dict[type[ast.cmpop], Callable] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}

Value: TypeAlias = Any  # pa.Array | str | int | float | bool | list; pyarrow has no types


@dataclass(frozen=True)
class Matches:
    """The samples that match an expression.

    Their keys in index order, and the rows of the instance index that do (None where the expression
    asked nothing of instances).
    """

    keys: tuple[str, ...]
    instances: pa.Table | None


def find(dataset: Dataset, expression: str) -> Matches:
    """Samples of `dataset` (of its split, if it was opened with one) that match.

    UsageError for anything that is not an expression over the known columns.
    """
    tree = _parse(expression)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    samples = _with_frames(dataset.samples) if names & {"video", "frame"} else dataset.samples
    if not names & set(INSTANCE_COLUMNS):
        mask = _mask(
            tree,
            _columns(samples, names, {name: name for name in SAMPLE_COLUMNS}),
            samples.num_rows,
        )
        return Matches(tuple(samples["key"].filter(mask).to_pylist()), None)
    instances = dataset.instances()
    of_sample = pc.index_in(
        instances["key"], value_set=samples["key"].combine_chunks()
    ).combine_chunks()
    instances = instances.filter(
        pc.is_valid(of_sample)
    )  # an opened split sees its own instances only
    of_sample = of_sample.drop_null()
    per_instance = samples.select(sorted(names & set(SAMPLE_COLUMNS))).take(of_sample)
    columns = _columns(per_instance, names, {name: name for name in SAMPLE_COLUMNS}) | _columns(
        instances, names, INSTANCE_COLUMNS
    )
    mask = _mask(tree, columns, instances.num_rows)
    rows = np.unique(of_sample.filter(mask).to_numpy(zero_copy_only=False))
    return Matches(tuple(samples["key"].take(pa.array(rows)).to_pylist()), instances.filter(mask))


def _with_frames(samples: pa.Table) -> pa.Table:
    """The sample index with the key of its video and the number of each frame; null of stills."""
    found = [frame_of(key) or (None, None) for key in samples["key"].to_pylist()]
    return samples.append_column(
        "video", pa.array([video for video, _ in found], pa.string())
    ).append_column("frame", pa.array([frame for _, frame in found], pa.int32()))


def extract(
    dataset: Dataset,
    keys: tuple[str, ...],
    target: StoreLike,
    products: tuple[str, ...] | None = None,
) -> list[str]:
    """Write members of the samples as `<target>/<key>.<suffix>`.

    They are read by byte range and checked; gives their names. `products` (e.g. ('rgb',)) chooses
    among them, and nothing else is read; the metadata always comes along. What is there already
    with the same bytes is left as it is, so an interrupted extraction goes on.

    Raises:
        UsageError: a file of that name holds something else, of another dataset for instance.
        InUse: another process writes there.
    """
    store, written = Store.at(target), []
    with held(store, "pano query --extract") as lease:
        for key in keys:
            sample = dataset.by_key(check_key(key), products)
            lease.check()
            for suffix, data in sample.members.items():
                if suffix in (META_SUFFIX, VIDEO_SUFFIX) or suffix in PRODUCT_OF_SUFFIX:
                    written.append(f"{key}.{suffix}")
                    if not store.put_new(written[-1], data) and store.get(written[-1]) != data:
                        raise UsageError(
                            f"{store}/{written[-1]} is there already and holds something else:"
                            " nothing is overwritten, extract into another folder"
                        )
    return written


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_EXPRESSION:
        raise UsageError(
            f"the query is {len(expression)} characters long; at most {MAX_EXPRESSION} are read"
        )
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it is nested too deeply"
        raise UsageError(
            f"the query {expression!r} is not an expression: {reason}. "
            "Example: category == 'sofa' and sr > 0.01"
        ) from None


def _columns(table: pa.Table, names: set[str], known: dict[str, str]) -> dict[str, pa.Array]:
    return {name: table[known[name]].combine_chunks() for name in names & set(known)}


def _mask(tree: ast.expr, columns: dict[str, pa.Array], rows: int) -> pa.Array:
    """Whether each row matches; a comparison with a missing value does not."""
    mask = _evaluate(tree, columns)
    if isinstance(mask, bool):
        return pa.array(np.full(rows, mask))
    if not isinstance(mask, pa.Array) or not pa.types.is_boolean(mask.type):
        raise UsageError(
            f"the query must ask a question, such as sr > 0.01; {ast.unparse(tree)!r} is a value"
        )
    return pc.fill_null(mask, False)


def _evaluate(node: ast.expr, columns: dict[str, pa.Array]) -> Value:
    match node:
        case ast.Constant(value=str() | int() | float() | bool()):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return [_evaluate(part, {}) for part in parts]
        case ast.Name(id=name):
            if name in columns:
                return columns[name]
            raise UsageError(
                f"the query asks for {name!r}, which is not a column.{nearest(name, COLUMNS)} "
                f"Columns: {', '.join(COLUMNS)}; text is written in quotes"
            )
        case ast.BoolOp(op=op, values=parts):
            combine = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
            result = _truth(parts[0], columns)
            for part in parts[1:]:
                result = combine(result, _truth(part, columns))
            return result
        case ast.UnaryOp(op=ast.Not(), operand=part):
            return pc.invert(_truth(part, columns))
        case ast.Compare():
            return _compare(node, columns)
    raise UsageError(
        "the query may hold columns, numbers, texts, lists, comparisons, in, and, or, not:"
        f" {ast.unparse(node)!r} is something else"
    )


def _truth(node: ast.expr, columns: dict[str, pa.Array]) -> pa.Array | pa.BooleanScalar:
    value = _evaluate(node, columns)
    if isinstance(value, bool):
        return pa.scalar(value)
    if isinstance(value, (pa.Array, pa.Scalar)) and pa.types.is_boolean(value.type):
        return value
    raise UsageError(f"{ast.unparse(node)!r} is a value, not a question: compare it with something")


def _compare(node: ast.Compare, columns: dict[str, pa.Array]) -> Value:
    """A < b < c is (a < b) and (b < c)."""
    parts = [node.left, *node.comparators]
    result = None
    for left, op, right in zip(parts[:-1], node.ops, parts[1:], strict=True):
        one = _compare_two(left, op, right, columns)
        result = one if result is None else pc.and_kleene(result, one)
    return result


def _compare_two(
    left: ast.expr, op: ast.cmpop, right: ast.expr, columns: dict[str, pa.Array]
) -> pa.Array:
    a, b = _evaluate(left, columns), _evaluate(right, columns)
    text = f"{ast.unparse(left)} … {ast.unparse(right)}"
    if not any(isinstance(value, pa.Array) for value in (a, b)):
        raise UsageError(
            f"{text}: one side of a comparison must be a column, one of {', '.join(COLUMNS)}"
        )
    try:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = _contains(a, b)
            return pc.invert(found) if isinstance(op, ast.NotIn) else found
        if type(op) in _COMPARISONS and not any(
            isinstance(value, list) or _is_list(value) for value in (a, b)
        ):
            return _COMPARISONS[type(op)](a, b)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, TypeError):
        pass
    raise UsageError(
        f"{text}: these cannot be compared so. Texts go with texts, numbers with numbers, `in` with"
        " a list or with flags or notes"
    )


def _is_list(value: Value) -> bool:
    return isinstance(value, pa.Array) and pa.types.is_list(value.type)


def _contains(item: Value, container: Value) -> pa.Array:
    """`column in [values]`, `'word' in list-column`, `'part' in text-column`."""
    if isinstance(item, pa.Array) and isinstance(container, list):
        values = pa.array(container)
        if container and pa.types.is_string(values.type) != pa.types.is_string(item.type):
            raise TypeError
        return pc.is_in(item, value_set=values.cast(item.type))
    if isinstance(item, str) and _is_list(container):
        has = np.zeros(len(container), bool)
        hits = pc.equal(pc.list_flatten(container), item).to_numpy(zero_copy_only=False)
        has[pc.list_parent_indices(container).to_numpy()[hits]] = True
        return pa.array(has)
    if (
        isinstance(item, str)
        and isinstance(container, pa.Array)
        and pa.types.is_string(container.type)
    ):
        return pc.match_substring(container, item)
    raise TypeError
