"""The pages of a TIFF file, found by walking its chain of page directories.

Libraries skip directories that they think alike, or make up pages that a header promises. Here every directory is read,
and nothing but the file decides how many pages there are. Directories are looked at in blocks, as arrays of entries,
since long recordings have a hundred thousand of them.
"""

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BLOCK = 4096  # directories that are looked at together
_GUESS = 512  # bytes that most directories fit in
_MOST_TAGS = 4096

# Tags whose values make a page what it is, with their default.
_KIND = {
    256: ("width", 0),
    257: ("height", 0),
    258: ("bits", 1),
    259: ("compression", 1),
    262: ("photometric", -1),
    266: ("fill_order", 1),
    277: ("samples", 1),
    284: ("planar", 1),
    317: ("predictor", 1),
    322: ("tile_width", 0),
    323: ("tile_height", 0),
    339: ("sample_format", 1),
}
_SIZES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q"}
_SIZES |= {17: "q", 18: "Q"}
_STRIPS, _STRIP_BYTES = (273, 324), (279, 325)
_REDUCED = 254

DESCRIPTION, SOFTWARE, ARTIST, STACK = 270, 305, 315, 33629


@dataclass(frozen=True, order=True)
class PageKind:
    """What has to be the same in all pages of a video."""

    width: int
    height: int
    bits: int
    compression: int
    photometric: int
    fill_order: int
    samples: int
    planar: int
    predictor: int
    tile_width: int
    tile_height: int
    sample_format: int

    @property
    def dtype(self) -> np.dtype | None:
        """Type of a pixel as numpy has it; None where pixels are packed or of an unusual type."""
        letter = {1: "u", 2: "i", 3: "f"}.get(self.sample_format)
        if letter is None or self.bits not in ((16, 32, 64) if letter == "f" else (8, 16, 32, 64)):
            return None
        return np.dtype(f"{letter}{self.bits // 8}")

    @property
    def plain(self) -> bool:
        """Whether the pixels lie in the file as they lie in memory."""
        coded = self.compression != 1 or self.predictor != 1 or self.fill_order != 1 or self.tile_width
        return not coded and self.dtype is not None

    @property
    def images(self) -> int:
        """Images in a page: samples that are stored one after the other are images of their own."""
        return self.samples if self.planar == 2 else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W), or (H, W, samples) where these interleave."""
        return (self.height, self.width) if self.images == self.samples else (self.height, self.width, self.samples)

    @property
    def pixel(self) -> str:
        """Type of a pixel in words."""
        return str(self.dtype or f"{self.bits} bit")

    def __str__(self) -> str:
        return f"{self.shape} {self.pixel}"


class TiffPages:
    """The page table of one file.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    kind : PageKind
        Of all pages.
    directories : ndarray
        int64 (n,): where each page's directory is, in bytes.
    starts : ndarray or None
        int64 (n,): where each page's pixels start, in bytes, if all are `PageKind.plain` and in one piece.
    size : int
        Of the file, in bytes.
    byteorder : str
        ``"<"`` or ``">"``.
    damage : str or None
        Where the chain of directories breaks off, for an error; the header may say how many pages are lost.

    Raises
    ------
    ValueError
        Not a TIFF file, truncated, without pages, or with pages that differ.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb", buffering=0) as file:
            self.size = os.fstat(file.fileno()).st_size
            self._read_header(file)
            self._walk(file)

    def _read_header(self, file: io.RawIOBase) -> None:
        head = file.read(16)
        self.byteorder = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(f"{self.byteorder}H", head[2:4])[0] if self.byteorder and len(head) >= 8 else 0
        if version not in (42, 43) or (version == 43 and len(head) < 16):
            raise ValueError(f"{self.path}: not a readable TIFF file: it starts with {head[:4]!r}")
        big = version == 43
        o = self.byteorder
        self._count, self._next = struct.Struct(f"{o}{'Q' if big else 'H'}"), struct.Struct(f"{o}{'Q' if big else 'I'}")
        word = f"{o}u8" if big else f"{o}u4"
        self._entry = np.dtype([
            ("code", f"{o}u2"), ("type", f"{o}u2"), ("count", word), ("value", f"V{8 if big else 4}")
        ])  # fmt: skip
        self._first = self._next.unpack_from(head, 8 if big else 4)[0]

    def _walk(self, file: io.RawIOBase) -> None:
        """Follow the chain from directory to directory."""
        self._kinds: dict[PageKind, tuple[int, int]] = {}  # where the first one is, and how many there are
        blocks, block = [], []
        seen: set[int] = set()
        self._last_byte, self._in_one_piece = 0, True
        self.damage: str | None = None
        at = self._first
        while at:
            found = self._directory(file, at) if at not in seen else None
            if found is None:
                if not seen:
                    raise ValueError(f"{self.path}: not a readable TIFF file: no page at byte {at} of {self.size}")
                self.damage = (
                    f"{self.path}: damaged after {len(seen)} pages: the next one should be at byte {at} of {self.size}"
                )
                blocks.append(self._look_at(file, block))
                break
            seen.add(at)
            block.append((at, found[0]))
            at = found[1]
            if len(block) == _BLOCK or not at:
                blocks.append(self._look_at(file, block))
                block = []
        if not self._kinds:
            raise ValueError(f"{self.path}: the file holds no images")
        if len(self._kinds) > 1:
            listed = ", ".join(
                f"{(count, *kind.shape)} {kind.pixel}"
                for _, count, kind in sorted((first, count, kind) for kind, (first, count) in self._kinds.items())[:4]
            )
            raise ValueError(
                f"{self.path}: {len(self._kinds)} series of images that differ, expected one size and type: {listed}"
            )
        if self._last_byte > self.size:
            raise ValueError(
                f"{self.path}: truncated: the header says {self._last_byte} bytes, the file has {self.size}"
            )
        (self.kind,) = self._kinds
        self.directories, starts = np.concatenate(blocks, axis=1)
        self.starts = starts if self._in_one_piece else None

    def _directory(self, file: io.RawIOBase, at: int) -> tuple[bytes, int] | None:
        """Return the entries of a directory and where the next one is; None where there is none."""
        head = _read_at(file, _GUESS, at) if at < self.size else b""
        start = self._count.size
        if len(head) < start:
            return None
        (n_entries,) = self._count.unpack_from(head)
        stop = start + n_entries * self._entry.itemsize
        if not 0 < n_entries <= _MOST_TAGS:
            return None
        if stop + self._next.size > len(head):
            head = _read_at(file, stop + self._next.size, at)
            if stop + self._next.size > len(head):
                return None
        return head[start:stop], self._next.unpack_from(head, stop)[0]

    def _look_at(self, file: io.RawIOBase, block: list[tuple[int, bytes]]) -> np.ndarray:
        """Return where directories and their pixels are, int64 (2, n), without those of previews."""
        lengths: dict[int, list[int]] = {}
        for place, (_, raw) in enumerate(block):
            lengths.setdefault(len(raw), []).append(place)
        found = np.full((2, len(block)), -1, np.int64)
        waiting = list(lengths.values())
        while waiting:
            places = waiting.pop()
            entries = np.frombuffer(b"".join([block[place][1] for place in places]), self._entry)
            entries = entries.reshape(len(places), -1)
            alike = (entries["code"] == entries["code"][0]).all(axis=1)
            if not alike.all():
                waiting.append([place for place, other in zip(places, ~alike, strict=True) if other])
                places, entries = [place for place, same in zip(places, alike, strict=True) if same], entries[alike]
            offsets = np.array([block[place][0] for place in places], np.int64)
            frames, starts = self._look_at_alike(file, entries, offsets)
            found[:, np.array(places)[frames]] = offsets[frames], starts
        return found[:, found[0] >= 0]

    def _look_at_alike(
        self, file: io.RawIOBase, entries: np.ndarray, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which directories of the same tags are no previews, bool (n,), and where the pixels of these are."""
        column = {int(code): entries[:, place] for place, code in enumerate(entries["code"][0])}
        frames = np.ones(len(entries), bool)
        if _REDUCED in column:
            frames = (self._values(file, column[_REDUCED]) & 1) == 0
            column = {code: values[frames] for code, values in column.items()}
        if not frames.any():
            return frames, np.empty(0, np.int64)
        fields = np.stack([
            self._values(file, column[code]) if code in column else np.full(frames.sum(), default, np.int64)
            for code, (_, default) in _KIND.items()
        ])  # fmt: skip
        if (fields == fields[:, :1]).all():  # much faster than sorting
            kinds, firsts, counts = fields[:, :1], [0], fields.shape[1:]
        else:
            kinds, firsts, counts = np.unique(fields, axis=1, return_index=True, return_counts=True)
        names = [name for name, _ in _KIND.values()]
        for values, first, count in zip(kinds.T, firsts, counts, strict=True):
            kind = PageKind(**dict(zip(names, map(int, values), strict=True)))
            if not kind.width or not kind.height:
                raise ValueError(f"{self.path}: damaged: a page of {kind.height} x {kind.width} pixels")
            place, others = self._kinds.get(kind, (self.size, 0))
            self._kinds[kind] = min(place, int(offsets[frames][first])), others + int(count)
        if len(self._kinds) > 1:  # which is an error, told when all of them are known
            return frames, np.zeros(frames.sum(), np.int64)
        return frames, self._pixels(file, column, kind)

    def _pixels(self, file: io.RawIOBase, column: dict[int, np.ndarray], kind: PageKind) -> np.ndarray:
        """Return where the pixels of pages start, and note where they end."""
        where = next((column[code] for code in _STRIPS if code in column), None)
        if where is None:
            raise ValueError(f"{self.path}: damaged: a page does not say where its pixels are")
        offsets = self._arrays(file, where)
        lengths = next((self._arrays(file, column[code]) for code in _STRIP_BYTES if code in column), None)
        page_bytes = kind.height * kind.width * kind.samples * kind.bits // 8
        if lengths is None or lengths.shape != offsets.shape:
            if offsets.shape[1] > 1 or not kind.plain:
                raise ValueError(f"{self.path}: damaged: a page does not say how many bytes its pixels are")
            lengths = np.full(offsets.shape, page_bytes)
        self._last_byte = max(self._last_byte, int((offsets + lengths).max()))
        if kind.plain:
            if (found := int(lengths.sum(axis=1).min())) < page_bytes:
                raise ValueError(
                    f"{self.path}: damaged: pages of {kind} are {page_bytes} bytes, but a header says {found}"
                )
            if (offsets[:, 1:] != offsets[:, :-1] + lengths[:, :-1]).any():
                self._in_one_piece = False
        else:
            self._in_one_piece = False
        return offsets[:, 0]

    def _values(self, file: io.RawIOBase, entries: np.ndarray) -> np.ndarray:
        """First value of an entry in each of some directories."""
        return self._arrays(file, entries)[:, 0]

    def _arrays(self, file: io.RawIOBase, entries: np.ndarray) -> np.ndarray:
        """Values (n, count) int64 of an entry in each of some directories."""
        kind, count = int(entries["type"][0]), int(entries["count"][0])
        if (entries["type"] != kind).any() or (entries["count"] != count).any():
            counts = entries["count"].astype(int)
            out = np.zeros((len(entries), counts.max()), np.int64)
            for place in range(len(entries)):
                values = self._arrays(file, entries[place : place + 1])[0]
                out[place, : len(values)] = values
                if len(values):  # strips that are not there lie, empty, where the last one ends
                    out[place, len(values) :] = 0
            return out
        letter = _SIZES.get(kind)
        if letter is None or len(letter) > 1 or letter in "sfd" or not 0 < count <= self.size:
            raise ValueError(f"{self.path}: damaged: a page has a tag {int(entries['code'][0])} of type {kind}")
        dtype = np.dtype(f"{self.byteorder}{letter}")
        n_bytes = dtype.itemsize * count
        if n_bytes <= self._entry["value"].itemsize:
            raw = np.ascontiguousarray(entries["value"]).view(np.uint8).reshape(len(entries), -1)[:, :n_bytes]
            return np.ascontiguousarray(raw).view(dtype).astype(np.int64)
        where = np.ascontiguousarray(entries["value"]).view(f"{self.byteorder}u{self._entry['value'].itemsize}")
        raw = [_read_at(file, n_bytes, int(at)) if at < self.size else b"" for at in where]
        if any(len(piece) < n_bytes for piece in raw):
            raise ValueError(f"{self.path}: truncated: a page's tag lies beyond the file's {self.size} bytes")
        return np.frombuffer(b"".join(raw), dtype).reshape(len(entries), count).astype(np.int64)

    def text(self, page: int, tag: int) -> str:
        """Return a page's text under a tag; empty where there is none."""
        with open(self.path, "rb", buffering=0) as file:
            raw, _ = self._directory(file, int(self.directories[page]))
            for entry in np.frombuffer(raw, self._entry):
                if entry["code"] == tag and _SIZES.get(int(entry["type"])) in ("B", "s"):
                    count, value = int(entry["count"]), entry["value"].tobytes()
                    if count > len(value):
                        value = _read_at(file, count, self._next.unpack(value)[0])
                    return value[:count].split(b"\0", 1)[0].decode("utf-8", "replace")
        return ""

    def count(self, page: int, tag: int) -> int:
        """Return how many values a page has under a tag."""
        with open(self.path, "rb", buffering=0) as file:
            raw, _ = self._directory(file, int(self.directories[page]))
        return next((int(e["count"]) for e in np.frombuffer(raw, self._entry) if e["code"] == tag), 0)

    def __len__(self) -> int:
        return len(self.directories)


def _read_at(file: io.RawIOBase, count: int, at: int) -> bytes:
    file.seek(at)
    return file.read(count)
