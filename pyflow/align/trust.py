"""Whether an alignment of two averages can be believed.

A flow bends images of different tissue until they look alike, so that likeness after it proves nothing. Therefore every
second tile is left out (its data have no weight), the field is found from the others alone, and what is left out is
compared: once for the black tiles of the chess board, once for the white ones. Of one tissue, the tiles left out
resemble each other, and best where the field says; of different tissue they do so by chance.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from pyflow.align.between import Alignment, Flow, comparable, composed, one_round, reference_like
from pyflow.align.start import LEAST_OVERLAP
from pyflow.align.structure import live_box, one_channel, structure
from pyflow.flow.warp import imregister, valid_mask

ALIGNED, DOUBTFUL, NOT_ALIGNABLE = "aligned", "doubtful", "not alignable"

_FINE = 1.0  # of the structure that is compared, in pixels
_REACH = 4  # pixels around its place in which a tile is looked for
_NEAR = 1.5  # pixels within which it is found at its place
_GRID = 4  # pixels per unknown of the fields for the proof: smooth enough, and cheap
_PROOF_ALPHA = 60.0
_PROOF_ROUNDS = 2
_COVERED = 0.6  # part of a tile's pixels that have to be valid
_TINY = 1e-6

# Calibrated on simulated and real pairs that are and are not of one tissue, see docs/alignment.md.
CLEAR_SHARE, LEAST_SHARE = 0.55, 0.3
CLEAR_CORRELATION, LEAST_CORRELATION = 0.35, 0.25
SMALL_OVERLAP = 0.4
LARGE_DISAGREEMENT_PX = 2.0
FEW_TILES, ENOUGH_TILES = 6, 20  # of fewer, as images of less than 40 pixels have, chance finds a clear share


@dataclass(frozen=True)
class Trust:
    """Why an alignment can be believed, or cannot.

    Parameters
    ----------
    verdict
        ``"aligned"``, ``"doubtful"`` or ``"not alignable"``.
    why
        What speaks against it, in words; empty for ``"aligned"``.
    correlation_before, correlation_after
        Of the structure, over valid pixels.
    correlation_held_out
        After, in tiles that the field was not found from.
    tiles_found
        Part of those tiles that fit best within 1.5 pixels of where the field says.
    residual_px
        Median over the tiles of how far from there they fit best, after the whole alignment.
    overlap
        Part of the pixels that come from inside the image.
    largest_displacement_px
    least_jacobian
        Determinant of the map's derivative over valid pixels; 0 or less: it folds.
    disagreement_px
        Median over valid pixels of where the way there and back ends, from where it began.
    """

    verdict: str
    why: str
    correlation_before: float
    correlation_after: float
    correlation_held_out: float
    tiles_found: float
    residual_px: float
    overlap: float
    largest_displacement_px: float
    least_jacobian: float
    disagreement_px: float

    def facts(self) -> dict[str, Any]:
        """Return all of it as JSON-able values, rounded to what can be meant."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def examine(reference: np.ndarray, moving: np.ndarray, alignment: Alignment, flow: Flow) -> tuple[Trust, np.ndarray]:
    """Decide whether an alignment can be believed.

    Parameters
    ----------
    reference, moving
        As for `pyflow.align.between.align`.
    alignment
        What that found.
    flow
        How the flow is computed.

    Returns
    -------
    trust : Trust
        The verdict and what it rests on.
    residual_px : ndarray
        float32 (rows, cols), for each tile how far from its place it fits best, NaN where it is not covered.
    """
    shape, box = reference.shape[:2], live_box(reference, moving)
    w, start = alignment.displacement_px[box], alignment.start.seen_from(shape, box, inside=False)
    trust, inner = _examine(reference[box], moving[box], replace(alignment, displacement_px=w, start=start), flow)
    return trust, inner if w.shape[:2] == shape else _tiles_of_all(inner, shape, box)


def _tiles_of_all(inner: np.ndarray, shape: tuple[int, int], box: tuple[slice, slice]) -> np.ndarray:
    """Return for each tile of the whole image what the tile of the box says in which its centre is; NaN where none."""
    tile, own = tile_size(shape), tile_size(tuple(side.stop - side.start for side in box))
    at = [((np.arange(size // tile) + 0.5) * tile - side.start) // own for size, side in zip(shape, box, strict=True)]
    there = [(places >= 0) & (places < n) for places, n in zip(at, inner.shape, strict=True)]
    whole = np.full([len(places) for places in at], np.nan, np.float32)
    rows, columns = (places[seen].astype(int) for places, seen in zip(at, there, strict=True))
    whole[np.ix_(*there)] = inner[np.ix_(rows, columns)]
    return whole


def _examine(reference: np.ndarray, moving: np.ndarray, alignment: Alignment, flow: Flow) -> tuple[Trust, np.ndarray]:
    shape = reference.shape[:2]
    reference, moving = comparable(reference, moving)
    w = alignment.displacement_px
    valid = valid_mask(w)
    if not reference.size:
        return _nothing(w, valid), np.full(tuple(side // tile_size(shape) for side in shape), np.nan, np.float32)
    target = structure(one_channel(reference), _FINE)
    before = structure(one_channel(moving), _FINE)
    after = _warped_structure(reference, moving, w)
    everywhere = np.ones(valid.shape, bool)
    tile = tile_size(valid.shape)
    held_out, places = _held_out(reference, moving, alignment, flow, target, tile)
    residual = _offsets(target, after, valid, tile)
    # the start may be far off the image's edge, where maps grow without limit
    length = np.linalg.norm(w, axis=-1)
    found = {
        "correlation_before": _correlation(target, before, everywhere),
        "correlation_after": _correlation(target, after, valid),
        "correlation_held_out": held_out,
        "tiles_found": float(np.mean(places[~np.isnan(places)] <= _NEAR)) if not np.isnan(places).all() else 0.0,
        "residual_px": float(np.nanmedian(residual)) if not np.isnan(residual).all() else float(_REACH),
        "overlap": float(valid.mean()),
        "largest_displacement_px": float(length[valid].max()) if valid.any() else float(length.max()),
        "least_jacobian": _least_jacobian(w, valid),
        "disagreement_px": _disagreement(reference, moving, alignment, flow, valid),
    }
    verdict, why = judge(found, n_tiles=int(np.count_nonzero(~np.isnan(places))))
    return Trust(verdict, why, **found), residual


def _nothing(w: np.ndarray, valid: np.ndarray) -> Trust:
    largest = float(np.linalg.norm(w, axis=-1).max())
    why = "one of the averages has no structure"
    overlap = float(valid.mean())
    return Trust(NOT_ALIGNABLE, why, 0.0, 0.0, 0.0, 0.0, float(_REACH), overlap, largest, 1.0, 0.0)


def judge(found: dict[str, float], n_tiles: int) -> tuple[str, str]:
    """Return the verdict on the measures of a `Trust`, and what speaks against the alignment."""
    share, likeness = found["tiles_found"], found["correlation_held_out"]
    resembles = f"left-out tiles correlate by {likeness:.2f}, and {share:.0%} of them lie where they should"
    if found["overlap"] < LEAST_OVERLAP:
        return NOT_ALIGNABLE, f"only {found['overlap']:.0%} of the image overlaps"
    if n_tiles < FEW_TILES:
        return DOUBTFUL, f"only {n_tiles} tiles can be compared, which proves nothing"
    if share < LEAST_SHARE or likeness < LEAST_CORRELATION:
        return NOT_ALIGNABLE, f"it does not show what the centre shows: {resembles}"
    doubts = []
    if share < CLEAR_SHARE or likeness < CLEAR_CORRELATION:
        doubts.append(f"it resembles the centre too little: {resembles}")
    if n_tiles < ENOUGH_TILES:
        doubts.append(f"only {n_tiles} tiles can be compared, which proves little")
    if found["overlap"] < SMALL_OVERLAP:
        doubts.append(f"only {found['overlap']:.0%} of the image overlaps")
    if found["least_jacobian"] <= 0:
        doubts.append("the field folds")
    if found["disagreement_px"] > LARGE_DISAGREEMENT_PX:
        doubts.append(f"the way there and back ends {found['disagreement_px']:.1f} px off")
    return (DOUBTFUL, "; ".join(doubts)) if doubts else (ALIGNED, "")


def tile_size(shape: tuple[int, int]) -> int:
    """Return the side of a tile in pixels: an eighth of the shorter side, within 8 to 32."""
    return int(np.clip(min(shape) // 8, 8, 32))


def _warped_structure(reference: np.ndarray, moving: np.ndarray, w: np.ndarray) -> np.ndarray:
    warped = imregister(moving, w, fill=reference_like(reference, moving), n_threads=1)
    return structure(one_channel(warped), _FINE)


def _held_out(
    reference: np.ndarray, moving: np.ndarray, alignment: Alignment, flow: Flow, target: np.ndarray, tile: int
) -> tuple[float, np.ndarray]:
    """Return the correlation of the tiles that were left out, and how far from their place they fit best, NaN: none."""
    shape = target.shape
    if min(shape) < 2 * tile:
        return 0.0, np.full((1, 1), np.nan)
    rows, columns = (np.arange(side) // tile for side in shape)
    colour = (rows[:, np.newaxis] + columns) % 2
    products, places = np.zeros(3), []
    for left_out in (0, 1):
        weight = (colour != left_out).astype(np.float32)
        w = alignment.start.field(shape)
        for _ in range(_PROOF_ROUNDS):
            more = one_round(reference, moving, w, _FINE, _PROOF_ALPHA, flow, weight=weight, grid_spacing=_GRID)
            w = composed(w, more)
        proof = _warped_structure(reference, moving, w)
        inside = valid_mask(w)
        counts = inside & (colour == left_out)
        a, b = target[counts], proof[counts]
        products += [a @ b, a @ a, b @ b]
        offsets = _offsets(target, proof, inside, tile)
        tiles = np.add.outer(*(np.arange(side) for side in offsets.shape)) % 2 == left_out
        places.append(np.where(tiles, offsets, np.nan))
    norm = np.sqrt(products[1] * products[2])
    return float(products[0] / norm) if norm > 0 else 0.0, np.fmin(*places)


def _offsets(target: np.ndarray, image: np.ndarray, valid: np.ndarray, tile: int) -> np.ndarray:
    """How far, in pixels, each tile's best place is from where it is: float32 (rows, cols), NaN where not covered."""
    blocks = tuple(side // tile for side in target.shape)
    best, where = np.full(blocks, -np.inf), np.zeros(blocks)
    seen = np.where(valid, target, 0)
    for y in range(-_REACH, _REACH + 1):
        for x in range(-_REACH, _REACH + 1):
            moved = np.roll(image, (-y, -x), axis=(0, 1))
            energy = _block_sums(np.where(valid, moved * moved, 0), tile)
            score = _block_sums(seen * moved, tile) / np.sqrt(energy + _TINY)
            better = score > best
            best[better], where[better] = score[better], np.hypot(x, y)
    covered = _block_sums(valid.astype(np.float32), tile) >= _COVERED * tile**2
    return np.where(covered & (best > 0), where, np.nan).astype(np.float32)


def _block_sums(image: np.ndarray, tile: int) -> np.ndarray:
    rows, columns = (side // tile for side in image.shape)
    return image[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile).sum(axis=(1, 3))


def _correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    a, b = a[where], b[where]
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else 0.0


def _least_jacobian(w: np.ndarray, valid: np.ndarray) -> float:
    """Return the least determinant of the derivative of the map, from differences of valid neighbours."""
    x, y = w[:-1, 1:] - w[:-1, :-1], w[1:, :-1] - w[:-1, :-1]
    determinant = (1 + x[..., 0]) * (1 + y[..., 1]) - x[..., 1] * y[..., 0]
    known = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1]
    return float(determinant[known].min()) if known.any() else 1.0


def _disagreement(
    reference: np.ndarray, moving: np.ndarray, alignment: Alignment, flow: Flow, valid: np.ndarray
) -> float:
    """Return how far the way there and back ends from where it began, the median over valid pixels."""
    back = alignment.start.inverse().field(valid.shape)
    for _ in range(_PROOF_ROUNDS):
        more = one_round(moving, reference, back, _FINE, _PROOF_ALPHA, flow, grid_spacing=_GRID)
        back = composed(back, more)
    there = alignment.displacement_px
    length = np.linalg.norm(composed(back, there), axis=-1)
    return float(np.median(length[valid])) if valid.any() else float(_REACH)
