"""Results of other programs, in files made here as those programs make them."""

import contextlib
import json
import shutil
import sqlite3
import tarfile
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io

from pyflow.units import UnitStore
from pyflow.units.incoming.matchers import read_caiman, read_cellreg, read_roicat, read_track2p, read_unitmatch
from pyflow.units.incoming.recognise import UnrecognisedError, read_any
from pyflow.units.unit_table import TableError

DAYS = ["day1", "day2", "day3"]
# rows of each session that are one cell, from 0; -1: absent
CELLS = np.array([[0, 2, -1], [1, -1, 0], [2, 0, 1], [-1, 1, -1]])


def members(table):
    """identity -> {session: original index}, in the order of the table."""
    found = {}
    for unit in table.followed.to_dict("records"):
        found.setdefault(unit["identity"], {})[unit["session"]] = unit["original_index"]
    return list(found.values())


def expected(cells=CELLS, sessions=DAYS):
    return [{s: i for s, i in zip(sessions, row, strict=True) if i >= 0} for row in cells]


# CellReg


def write_cellreg(path, index_map, scores=None, hdf5=False, field="cell_to_index_map"):
    struct = {field: index_map.astype(float), "maximal_cross_correlation": 0.9}
    if scores is not None:
        struct["cell_scores"] = scores
    if not hdf5:
        scipy.io.savemat(path, {"cell_registered_struct": struct})
        return path
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in struct.items():
            file[f"cell_registered_struct/{name}"] = np.atleast_2d(value).T
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("hdf5", [False, True], ids=["v5", "v7.3"])
@pytest.mark.parametrize("field", ["cell_to_index_map", "optimal_cell_to_index_map"])
def test_cellreg(tmp_path, hdf5, field):
    scores = np.array([0.9, 0.5, 1.0, np.nan])
    path = write_cellreg(tmp_path / "cellRegistered.mat", CELLS + 1, scores[:, None], hdf5, field)
    table = read_cellreg(path, DAYS, sources=["/a", "/b", "/c"], kind="suite2p")
    assert members(table) == expected()
    assert table.sessions["source"].tolist() == ["/a", "/b", "/c"]
    p = table.followed.groupby("identity")["probability"].first().astype(float)
    np.testing.assert_array_equal(p.dropna(), scores[:3])


def write_matlab_struct(path, **fields):
    """A struct as MATLAB's ``save -v7.3`` leaves it: arrays transposed, cells behind references, classes as attributes.

    An empty array is its size, marked as empty; text is 16-bit characters.
    """
    with h5py.File(path, "w", userblock_size=512, libver=("earliest", "v108")) as file:
        struct = file.create_group("cell_registered_struct")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")

        def put(group, name, value):
            if isinstance(value, list):
                kind, refs = "cell", file.require_group("#refs#")
                for item in value:
                    put(refs, f"r{len(refs)}", item)
                places = [refs[f"r{n}"].ref for n in range(len(refs) - len(value), len(refs))]
                data = group.create_dataset(name, (len(value), 1), h5py.ref_dtype)
                data[:, 0] = places
            elif isinstance(value, str):
                kind, data = "char", group.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                data.attrs["MATLAB_int_decode"] = np.int32(2)
            else:
                value = np.atleast_2d(value).astype(float)
                kind = "double"
                if value.size:
                    data = group.create_dataset(name, data=value.T, compression="gzip" if value.size > 4 else None)
                else:
                    data = group.create_dataset(name, data=np.array(value.shape, np.uint64))
                    data.attrs["MATLAB_empty"] = np.uint8(1)
            data.attrs["MATLAB_class"] = np.bytes_(kind)

        for name, value in fields.items():
            put(struct, name, value)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")
    return path


def test_cellreg_as_matlab_saves_it(tmp_path):
    rest = {
        "is_cell_in_overlapping_FOV": [np.ones((1, 3)), np.ones((1, 2)), np.zeros((0, 0))],
        "registered_cells_centroids": np.arange(8.0).reshape(2, 4),
        "spatial_footprints_corrected": [np.ones((3, 4, 4)).reshape(3, 16), np.ones((2, 16)), np.ones((2, 16))],
        "alignment_x_translations": np.array([0, 1.5, -2]),
        "comments": "two days",
    }
    path = write_matlab_struct(
        tmp_path / "cellRegistered_1.mat", cell_to_index_map=CELLS + 1, cell_scores=[np.ones((1, 1))], **rest
    )
    with pytest.raises(TableError, match=r"1.mat, cell_scores: values of type object: expected numbers"):
        read_cellreg(path, DAYS)
    scores = np.array([[0.9, 0.5, 1.0, np.nan]])
    path = write_matlab_struct(tmp_path / "2.mat", cell_to_index_map=CELLS + 1, cell_scores=scores, **rest)
    table = read_cellreg(path, DAYS)
    assert members(table) == expected()
    p = table.followed.groupby("identity")["probability"].first().astype(float)
    np.testing.assert_array_equal(p.dropna(), scores[0, :3])
    # without scores MATLAB keeps the size, (0, 0), of what would be the two cells' scores
    path = write_matlab_struct(
        tmp_path / "3.mat", cell_to_index_map=CELLS[:2] + 1, cell_scores=np.zeros((0, 0)), **rest
    )
    assert read_cellreg(path, DAYS).followed["probability"].isna().all()
    path = write_matlab_struct(tmp_path / "4.mat", cell_to_index_map=CELLS[:1] + 1)
    assert members(read_cellreg(path, DAYS)) == expected(CELLS[:1])
    path = write_matlab_struct(tmp_path / "5.mat", cell_to_index_map=np.zeros((0, 3)))
    with pytest.raises(TableError, match=r"5\.mat: no cells"):
        read_cellreg(path, DAYS)
    path = write_matlab_struct(tmp_path / "6.mat", comments="aligned only")
    with pytest.raises(TableError, match=r"6.mat: no cell_to_index_map"):
        read_cellreg(path, DAYS)
    path = write_matlab_struct(tmp_path / "7.mat", cell_to_index_map=CELLS + 1, cell_scores=scores[:, :3])
    with pytest.raises(TableError, match=r"7.mat: 4 cells, but 3 cell_scores"):
        read_cellreg(path, DAYS)
    path = write_matlab_struct(tmp_path / "8.mat", cell_to_index_map="text")
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(TableError, match=r"8.mat: not a .mat file"):
        read_cellreg(path, DAYS)


def test_cellreg_saw_a_selection(tmp_path):
    path = write_cellreg(tmp_path / "c.mat", CELLS + 1)
    accepted = [np.array([3, 5, 8]), np.array([0, 1, 9]), np.array([7, 6])]
    table = read_cellreg(path, DAYS, indices=accepted)
    cells = [[accepted[s][i] if i >= 0 else -1 for s, i in enumerate(row)] for row in CELLS]
    assert members(table) == expected(cells)
    assert set(table.units["unit"]) == {str(i) for rows in cells for i in rows if i >= 0}
    with pytest.raises(TableError, match="index 2 in session 'day1', which has 2 units"):
        read_cellreg(path, DAYS, indices=[np.array([3, 5]), *accepted[1:]])


def test_cellreg_on_real_footprints(shared, tmp_path):
    """Links that two of three programs agree on, as an index map over the real numbers of footprints."""
    links = np.load(shared / "data" / "cellreg" / "consensus_2of3_links.npz")["links"]
    pairs = links[(links[:, 0] == 0) & (links[:, 1] == 1)][:, 2:]
    assert len(pairs) > 200
    path = write_cellreg(tmp_path / "c.mat", pairs + 1, hdf5=True)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(read_cellreg(path, ["1", "2"]))
        found = store.members().pivot(index="number", columns="session", values="original_index")
    np.testing.assert_array_equal(found.to_numpy(dtype=int), pairs)


def test_cellreg_refuses(tmp_path):
    path = write_cellreg(tmp_path / "c.mat", CELLS + 1)
    with pytest.raises(TableError, match=r"c.mat: sources of 1 sessions, but 3 session names"):
        read_cellreg(path, DAYS, sources=["a"])
    with pytest.raises(TableError, match=r"c.mat: shape \(4, 3\) does not fit 2 sessions"):
        read_cellreg(path, DAYS[:2])
    doubled = CELLS.copy()
    doubled[3, 1] = 2
    path = write_cellreg(tmp_path / "d.mat", doubled + 1)
    with pytest.raises(TableError, match=r"rows 1 and 4.*'2' is listed twice"):
        read_cellreg(path, DAYS)
    with pytest.raises(TableError, match=r"0.5 is no index"):
        read_cellreg(write_cellreg(tmp_path / "e.mat", CELLS + 1.5), DAYS)
    scipy.io.savemat(tmp_path / "other.mat", {"a": 1})
    with pytest.raises(TableError, match=r"other.mat: no cell_to_index_map"):
        read_cellreg(tmp_path / "other.mat", DAYS)
    (tmp_path / "no.mat").write_bytes(b"hello, I am no matrix" * 10)
    with pytest.raises(TableError, match=r"no.mat: not a .mat file"):
        read_cellreg(tmp_path / "no.mat", DAYS)
    with pytest.raises(FileNotFoundError):
        read_cellreg(tmp_path / "gone.mat", DAYS)


# CaImAn


def test_caiman(tmp_path):
    assignments = np.where(CELLS < 0, np.nan, CELLS)
    np.save(tmp_path / "a.npy", assignments)
    np.save(tmp_path / "b.npy", np.where(CELLS < 0, None, CELLS))
    np.savez(tmp_path / "c.npz", assignments=assignments)
    for given in (assignments, tmp_path / "a.npy", str(tmp_path / "b.npy"), tmp_path / "c.npz"):
        assert members(read_caiman(given, DAYS)) == expected()
    table = read_caiman(assignments, DAYS, sources=["a.hdf5", "b.hdf5", "c.hdf5"])
    assert table.sessions["kind"].tolist() == ["caiman"] * 3


def test_caiman_refuses(tmp_path):
    np.savez(tmp_path / "c.npz", other=CELLS)
    with pytest.raises(TableError, match=r"c.npz: no array of assignments"):
        read_caiman(tmp_path / "c.npz", DAYS)
    (tmp_path / "d.npy").write_bytes(b"no")
    with pytest.raises(TableError, match=r"d.npy: no array of assignments"):
        read_caiman(tmp_path / "d.npy", DAYS)
    with pytest.raises(TableError, match="does not fit 3 sessions"):
        read_caiman(CELLS[0], DAYS)


# ROICaT


def test_roicat(tmp_path):
    labels = [[0, 1, 2, -1], [2, 3, 0], [1, 2]]
    path = tmp_path / "mouse.tracking.results_clusters.json"
    path.write_text(json.dumps({"labels": [0, 1, 2, -1, 2, 3, 0, 1, 2], "labels_bySession": labels}))
    for given in (labels, [np.array(of_session) for of_session in labels], path):
        table = read_roicat(given, DAYS)
        assert members(table) == expected()
        assert len(table.units) == 9
    table = read_roicat(labels, DAYS, indices=[[9, 8, 7, 6], [2, 1, 0], [5, 4]])
    assert members(table)[0] == {"day1": 9, "day2": 0}


def test_roicat_refuses(tmp_path):
    with pytest.raises(TableError, match="labels of 2 sessions, but 3 session names"):
        read_roicat([[0], [1]], DAYS)
    with pytest.raises(TableError, match="identity '0', session 'day1' has two units in one session"):
        read_roicat([[0, 0], [1], [2]], DAYS)
    with pytest.raises(TableError, match="labels: indices of 1 sessions, but 3 session names"):
        read_roicat([[0], [1], [2]], DAYS, indices=[[0]])
    with pytest.raises(TableError, match="2 labels, but 1 indices in session 'day1'"):
        read_roicat([[0, 1], [1], [2]], DAYS, indices=[[0], [0], [0]])
    (tmp_path / "a.json").write_text('{"labels": [0]}')
    with pytest.raises(TableError, match=r"a.json: no labels_bySession"):
        read_roicat(tmp_path / "a.json", DAYS)
    (tmp_path / "a.json").write_bytes(b"\x80\x04")
    with pytest.raises(TableError, match=r"a.json: no labels_bySession"):
        read_roicat(tmp_path / "a.json", DAYS)


def write_richfile(folder, labels):
    """ROICaT's results_all as version 1.7 leaves it (richfile 0.6): a folder, and the three archives of it."""
    root = folder / "a.tracking.results_all.richfile"
    item = root / "clusters.dict_item" / "value.dict" / "labels_bySession.dict_item"
    item.mkdir(parents=True)
    (item / "value.json").write_text(json.dumps(labels))
    (item / "key.json").write_text('"labels_bySession"')
    (root / ".metadata.richfile").write_text('{"type": "dict", "version_richfile": "0.6.2"}')
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    with zipfile.ZipFile(f"{root}.zip", "w") as archive:
        for name, path in files.items():
            archive.write(path, name)
    with tarfile.open(f"{root}.tar", "w") as archive:
        for name, path in files.items():
            archive.add(path, name)
    with contextlib.closing(sqlite3.connect(f"{root}.sqlar")) as archive:
        archive.execute("CREATE TABLE sqlar(name TEXT PRIMARY KEY, mode INT, mtime INT, sz INT, data BLOB)")
        rows = [(name, 33188, 0, path.stat().st_size, path.read_bytes()) for name, path in files.items()]
        archive.executemany("INSERT INTO sqlar VALUES (?, ?, ?, ?, ?)", rows)
        archive.commit()
    return [root, *(root.with_name(f"{root.name}.{kind}") for kind in ("zip", "tar", "sqlar"))]


def test_roicat_richfiles(tmp_path):
    for path in write_richfile(tmp_path, [[0, -1, 1], [1, 0]]):
        table = read_any([path], sessions=["a", "b"])
        assert members(table) == [{"a": 0, "b": 1}, {"a": 2, "b": 0}]
        assert len(table.units) == 5
    (tmp_path / "other.richfile").mkdir()
    (tmp_path / "other.richfile.zip").write_bytes(b"PK")
    (tmp_path / "other.richfile.sqlar").write_bytes(b"no database at all")
    (tmp_path / "other.richfile.tar").write_bytes(b"no archive")
    for suffix in ("", ".zip", ".sqlar", ".tar"):
        with pytest.raises(TableError, match=r"no labels_bySession; expected ROICaT's .*richfile"):
            read_roicat(tmp_path / f"other.richfile{suffix}", ["a", "b"])


# track2p


def write_track2p(folder, matrix, *, threshold=0.5, indices=False, names=DAYS):
    """What track2p leaves, beside recordings in which every second ROI is a cell.

    The verdict and the probability contradict each other, for track2p goes by one of them: above the threshold where
    there is one.
    """
    recordings = [folder / name for name in names]
    for recording in recordings:
        (recording / "suite2p" / "plane0").mkdir(parents=True)
        cell = np.arange(10) % 2
        said = [cell, 0.9 - 0.8 * cell] if threshold is None else [1 - cell, threshold + 0.1 * cell]
        np.save(recording / "suite2p" / "plane0" / "iscell.npy", np.stack(said, axis=1))
    (folder / "track2p").mkdir()
    options = {"all_ds_path": [str(path) for path in recordings], "iscell_thr": threshold, "nplanes": 1}
    np.save(folder / "track2p" / "track_ops.npy", options, allow_pickle=True)
    matrix = np.where(matrix < 0, None, matrix)
    np.save(folder / "track2p" / "plane0_match_mat.npy", matrix, allow_pickle=True)
    if indices:
        original = np.where(matrix == None, None, np.array([[2 * (i or 0) + 1 for i in row] for row in matrix]))  # noqa: E711
        np.save(folder / "track2p" / "plane0_suite2p_indices.npy", original, allow_pickle=True)
    return folder / "track2p"


@pytest.mark.parametrize("threshold", [0.5, None])
@pytest.mark.parametrize("indices", [False, True])
def test_track2p(tmp_path, threshold, indices):
    folder = write_track2p(tmp_path, CELLS, threshold=threshold, indices=indices)
    table = read_track2p(folder)
    assert members(table) == expected(np.where(CELLS < 0, -1, 2 * CELLS + 1))
    assert set(table.units["group"]) == {"plane0"}
    assert table.sessions["source"].tolist() == [str(tmp_path / day / "suite2p" / "plane0") for day in DAYS]
    assert table.sessions["kind"].tolist() == ["suite2p"] * 3


def test_track2p_reads_all_planes_and_leaves_out_what_was_rejected(tmp_path):
    """A tracks' verdict in track2p's window counts the tracks that are in all sessions."""
    cells = np.array([[0, 1, 2], [1, -1, 0], [2, 0, 1], [3, 3, 3]])
    folder = write_track2p(tmp_path, cells, indices=True)
    for day in DAYS:
        shutil.copytree(tmp_path / day / "suite2p" / "plane0", tmp_path / day / "suite2p" / "plane1")
    second = np.array([[4, 3, 2], [0, 0, 0]], dtype=object)
    np.save(folder / "plane1_match_mat.npy", second, allow_pickle=True)
    options = np.load(folder / "track_ops.npy", allow_pickle=True).item()
    options["vector_curation_plane_0"] = np.array([1, 0, 1])  # of tracks 0, 2 and 3
    np.save(folder / "track_ops.npy", options, allow_pickle=True)
    table = read_track2p(folder)
    found = table.followed.groupby(["group", "identity"])["original_index"].apply(list)
    assert found["plane0"].tolist() == [[1, 3, 5], [3, 1], [7, 7, 7]]
    assert found["plane1"].tolist() == [[9, 7, 5], [1, 1, 1]]
    assert len(table.units) == 11 + 6
    assert table.sessions["source"].tolist() == [str(tmp_path / day / "suite2p") for day in DAYS]
    assert set(read_track2p(folder, plane=1).units["group"]) == {"plane1"}
    options["vector_curation_plane_0"] = np.array([1, 0])
    np.save(folder / "track_ops.npy", options, allow_pickle=True)
    with pytest.raises(TableError, match="3 tracks are in all sessions, but 2 were curated"):
        read_track2p(folder)


def test_track2p_with_recordings_elsewhere(tmp_path):
    """Paths as another computer wrote them: names are theirs, the files are given."""
    folder = write_track2p(tmp_path, CELLS)
    options = {"all_ds_path": [f"D:\\mouse\\{day}" for day in DAYS], "iscell_thr": 0.5}
    np.save(folder / "track_ops.npy", options, allow_pickle=True)
    with pytest.raises(FileNotFoundError, match=r"iscell\.npy"):
        read_track2p(folder)
    table = read_track2p(folder, sources=[tmp_path / day / "suite2p" / "plane0" for day in DAYS])
    assert table.sessions["name"].tolist() == DAYS
    assert members(table) == expected(np.where(CELLS < 0, -1, 2 * CELLS + 1))


def test_track2p_refuses(tmp_path):
    folder = write_track2p(tmp_path, CELLS)
    with pytest.raises(TableError, match="track2p: sources of 3 sessions, but 2 session names"):
        read_track2p(folder, sessions=["a", "b"])
    with pytest.raises(TableError, match=r"shape \(4, 3\) does not fit 2 sessions"):
        read_track2p(folder, sessions=["a", "b"], sources=[tmp_path / d / "suite2p" / "plane0" for d in DAYS[:2]])
    np.save(tmp_path / "day2" / "suite2p" / "plane0" / "iscell.npy", np.ones(3))
    with pytest.raises(TableError, match=r"iscell.npy: shape \(3,\), but iscell has two columns"):
        read_track2p(folder)
    np.save(folder / "track_ops.npy", np.ones(3))
    with pytest.raises(TableError, match=r"track_ops.npy: not a dictionary"):
        read_track2p(folder)


# UnitMatch

UNITS = [(1, 4, 10), (1, 7, 11), (2, 0, 10), (2, 9, 12), (3, 3, 10), (3, 5, 11)]  # session, id, unique id


def match_table(units=UNITS, matlab=False):
    """All pairs; p is 0.9 one way and 0.8 the other for one neuron, 0.1 else."""
    names = ["ID1", "ID2", "RecSes1", "RecSes2", "UID1", "UID2", "MatchProb"]
    if not matlab:
        names = ["ID1", "ID2", "RecSes 1", "RecSes 2", "UID int 1", "UM UID int 2", "UM Probabilities"]
    rows = []
    for i, (s1, u1, g1) in enumerate(units):
        for j, (s2, u2, g2) in enumerate(units):
            rows.append([u1, u2, s1, s2, g1, g2, 0.1 if g1 != g2 else 0.9 if i <= j else 0.8])
    table = pd.DataFrame(rows, columns=names)
    if not matlab:
        table = table.astype(float).assign(UID1=range(len(table)), UID2=0, TotalScore=0.5, Matches=0)
        table["UID Conservative 1"] = table["UID Conservative 2"] = np.arange(len(table)) * 0 + 1
    return table


@pytest.mark.parametrize("matlab", [False, True], ids=["python", "matlab"])
def test_unitmatch(tmp_path, matlab):
    match_table(matlab=matlab).to_csv(tmp_path / "MatchTable.csv", index=False)
    table = read_unitmatch(tmp_path / "MatchTable.csv", DAYS, sources=["a", "b", "c"])
    found = table.units[["session", "unit", "identity"]].to_numpy().tolist()
    assert found == [[DAYS[s - 1], str(u), str(g)] for s, u, g in UNITS]
    np.testing.assert_allclose(table.units["probability"].astype(float), [0.9, 0.9, 0.85, np.nan, 0.8, 0.8])
    assert table.scores[["a", "b"]].to_numpy().tolist() == [[0, 2], [0, 4], [1, 5], [2, 4]]
    np.testing.assert_allclose(table.scores["value"], 0.85)
    with UnitStore.open(tmp_path / "units.sqlite") as store:
        store.import_table(table)
        assert len(store.tables()["score"]) == 4
        assert store.find("day3", "5").label == "11"


@pytest.mark.parametrize(
    ("level", "column"), [("liberal", "UID Lib"), ("intermediate", "UID"), ("conservative", "UID Cons")]
)
def test_unitmatch_since_3_6(tmp_path, level, column):
    table = match_table().drop(columns=["UID1", "UID2", "UID Conservative 1", "UID Conservative 2"])
    ids = [table.pop(name) for name in ("UID int 1", "UM UID int 2")]
    for name in ("UID orig", "UID Lib", "UID", "UID Cons"):
        for side, values in enumerate(ids, 1):
            table[f"{name} {side}"] = values if name == column else 0.0
    table.to_csv(tmp_path / "MatchTable.csv", index=False)
    units = read_unitmatch(tmp_path / "MatchTable.csv", DAYS, level=level).units
    assert units[["session", "unit", "identity"]].to_numpy().tolist() == [
        [DAYS[s - 1], str(u), str(g)] for s, u, g in UNITS
    ]


def test_unitmatch_shows_all_columns_that_may_be_meant(tmp_path):
    table = match_table(matlab=True).drop(columns=["UID1", "UID2"])
    table[[f"Score {n}" for n in range(12)]] = 0.0
    table[["UID Xyz 1", "UID Xyz 2"]] = 1
    table.to_csv(tmp_path / "MatchTable.csv", index=False)
    with pytest.raises(TableError, match=r"no columns .*; similar are 'UID Xyz 1', 'UID Xyz 2'$"):
        read_unitmatch(tmp_path / "MatchTable.csv", DAYS)
    table.drop(columns=["UID Xyz 1", "UID Xyz 2"]).to_csv(tmp_path / "MatchTable.csv", index=False)
    with pytest.raises(TableError, match=r"; found 'ID1', .* 'Score 11'$"):
        read_unitmatch(tmp_path / "MatchTable.csv", DAYS)


def test_unitmatch_with_a_neuron_split_in_two(tmp_path):
    units = [*UNITS, (3, 8, 10)]
    table = match_table(units)
    better = (table["ID1"] == 8) & (table["RecSes 1"] == 3) & (table["RecSes 2"] < 3) & (table["UM UID int 2"] == 10)
    table.loc[better, "UM Probabilities"] = 0.99
    table.to_csv(tmp_path / "MatchTable.csv", index=False)
    (tmp_path / "other.npy").write_bytes(b"")
    with pytest.raises(
        TableError, match=r"units 3 and 8 of session 'day3' have one intermediate UID \(10\): .*--oversplit"
    ):
        read_any([tmp_path], sessions=DAYS)
    with pytest.raises(UnrecognisedError, match=r"oversplit is only for UnitMatch's MatchTable\.csv"):
        read_any([tmp_path / "other.npy"], sessions=DAYS, oversplit="best")
    kept = read_any([tmp_path], sessions=DAYS, oversplit="best").units.set_index(["session", "unit"])
    assert kept.loc[("day3", "8"), "identity"] == "10"
    assert pd.isna(kept.loc[("day3", "3"), "identity"])
    assert kept["identity"].notna().sum() == 6


def test_unitmatch_refuses(tmp_path):
    path = tmp_path / "MatchTable.csv"
    table = match_table()
    table.to_csv(path, index=False)
    with pytest.raises(TableError, match="row 14, column 'RecSes 1': session 2, but 1 session names"):
        read_unitmatch(path, DAYS[:1])
    with pytest.raises(TableError, match="or 'UID Liberal 1', 'UID Liberal 2' or 'UID1Liberal'"):
        read_unitmatch(path, DAYS, level="liberal")
    with pytest.raises(TableError, match="units 4 and 7 of session 'day1' have one conservative UID"):
        read_unitmatch(path, DAYS, level="conservative")
    with pytest.raises(ValueError, match="level='best' is none of"):
        read_unitmatch(path, DAYS, level="best")
    with pytest.raises(ValueError, match="oversplit='drop' is neither"):
        read_unitmatch(path, DAYS, oversplit="drop")
    table.astype(object).mask(table["ID1"] == 9, "x").to_csv(path, index=False)
    with pytest.raises(TableError, match="not a table of numbers"):
        read_unitmatch(path, DAYS)
    table.assign(ID1=table["ID1"].where(table.index != 3)).to_csv(path, index=False)
    with pytest.raises(TableError, match="row 5: an id is missing"):
        read_unitmatch(path, DAYS)
    path.write_text("")
    with pytest.raises(TableError, match="no columns 'ID1', 'ID2'; found"):
        read_unitmatch(path, DAYS)


# What no program writes


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([[1e300, 0]]), r"row 1, column 'a': 1e\+300 is no index"),
        (np.array([[2.0**53 + 2, 0]]), r"row 1, column 'a': 9007199254740994.0 is no index"),
        (np.array([[np.inf, 0]]), "row 1, column 'a': inf is no index"),
        (np.array([[1j, 0]]), "complex128: expected numbers"),
        (np.array([[True, False]]), "bool: expected numbers"),
        (np.array([["x", "y"]]), "<U1: expected numbers"),
        (np.array([[{}, None]], dtype=object), "object: expected numbers"),
        (np.array([["7", None]], dtype=object), "object: expected numbers"),
        (np.full((3, 2), np.nan), "no cells"),
        (np.zeros((0, 2)), "no cells"),
    ],
)
def test_matrices_that_are_none(tmp_path, array, says):
    np.save(tmp_path / "q.npy", array, allow_pickle=True)
    with pytest.raises(TableError, match=rf"q.npy.*{says}"):
        read_caiman(tmp_path / "q.npy", ["a", "b"])
    if array.dtype.kind in "fcU":
        scipy.io.savemat(tmp_path / "c.mat", {"cell_to_index_map": array + 1 if array.dtype.kind == "f" else array})
        with pytest.raises(TableError, match=r"c.mat"):
            read_cellreg(tmp_path / "c.mat", ["a", "b"])


@pytest.mark.parametrize("labels", ["[1.5]", "[NaN]", "[1e400]", '["a"]', "null", "[[1]]", "[1e300]", "[true]", '"ab"'])
def test_labels_that_are_none(tmp_path, labels):
    path = tmp_path / "a.json"
    path.write_text(f'{{"labels_bySession": [[1], {labels}]}}')
    with pytest.raises(TableError, match=r"a.json: labels of session 'b' are no whole numbers"):
        read_roicat(path, ["a", "b"])


def test_labels_nested_without_end(tmp_path):
    (tmp_path / "a.json").write_text('{"labels_bySession":' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(TableError, match=r"a.json: no labels_bySession"):
        read_roicat(tmp_path / "a.json", ["a", "b"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("1e300,1,1,1,1,1,.5\n", "row 2: an id is missing or no whole number"),
        ("1,1,1,1,1,1,.5\n1,2,1,2,1,1,2\n2,1,2,1,1,1,7\n", "row 3, column 'MatchProb': 2.0 is no probability"),
        ("1,2,1,2,1,1,.9\n", "row 2: unit 2 of session 'b' is no first of a pair"),
        ("", "no pairs"),
    ],
)
def test_match_tables_that_are_none(tmp_path, rows, says):
    (tmp_path / "MatchTable.csv").write_text("ID1,ID2,RecSes1,RecSes2,UID1,UID2,MatchProb\n" + rows)
    with pytest.raises(TableError, match=f"MatchTable.csv.*{says}"):
        read_unitmatch(tmp_path, ["a", "b"])


def test_sessions_of_one_name(tmp_path):
    np.save(tmp_path / "q.npy", np.array([[0, np.nan], [np.nan, 1]]))
    (tmp_path / "a.json").write_text('{"labels_bySession": [[0], [1]]}')
    (tmp_path / "MatchTable.csv").write_text("ID1,ID2,RecSes1,RecSes2,UID1,UID2,MatchProb\n1,1,1,1,1,1,.5\n")
    for path in ("q.npy", "a.json", "MatchTable.csv"):
        with pytest.raises(TableError, match=rf"{path}: two sessions are called 'a'"):
            read_any([tmp_path / path], sessions=["a", "a"])
