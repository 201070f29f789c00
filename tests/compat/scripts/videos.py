"""Reading in batches, and writing in all the ways there are."""

import pyflow.compat.pyflowreg  # noqa: F401  isort: skip

from pathlib import Path

import numpy as np
from pyflowreg.util.io import ArrayReader, NullVideoWriter, get_video_file_reader, get_video_file_writer
from pyflowreg.util.io.multifile_wrappers import MULTICHANNELFileReader

reader = get_video_file_reader("movie.h5", buffer_size=5)
sizes = [len(batch) for batch in reader]
first, some, corner = reader[0], reader[[0, 3, 11]], reader[2:6, 10:20, 4:9, :]
looped = []
while reader.has_batch():
    looped.append(reader.read_batch())
reader.reset()
again = reader.read_batch()
reader.close()

binned = get_video_file_reader("movie.h5", buffer_size=2, bin_size=3)
means = np.concatenate(list(binned))
binned.close()

converted = Path("converted")
for file in sorted(Path().glob("*.tif")):
    source = get_video_file_reader(str(file), use_memmap=False)
    with get_video_file_writer(
        str(converted / f"{file.stem}.h5"), "HDF5", compression="gzip", compression_level=4
    ) as out:
        for batch in source:
            out.write_frames(batch)
    source.close()

frames = np.random.default_rng(0).random((6, 32, 40, 2)).astype(np.float32)
for name, output_format in (("one.mat", "MAT"), ("one.tif", "TIFF"), ("each.h5", "MULTIFILE_HDF5")):
    writer = get_video_file_writer(f"written/{name}", output_format)
    for half in (frames[:3], frames[3:]):
        writer.write_frames(half)
    writer.close()

with get_video_file_writer("written/caiman", "CAIMAN_HDF5") as writer:
    writer.write_frames(frames)

in_memory = get_video_file_writer("", "ARRAY")
in_memory.write_frames(frames)
nothing = get_video_file_writer(None, "NULL")
nothing.write_frames(frames)
assert isinstance(nothing, NullVideoWriter)

wrapped = get_video_file_reader(frames)
assert isinstance(wrapped, ArrayReader)
channels = MULTICHANNELFileReader(["written/each_ch1.HDF5", "written/each_ch2.HDF5"])[:]
listed = get_video_file_reader(["written/each_ch1.HDF5", "written/each_ch2.HDF5"])[:]
