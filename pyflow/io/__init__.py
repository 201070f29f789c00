"""Reading and writing videos: one class per format behind two small protocols."""

from pyflow.io.readers.formats import get_video_file_reader, open_video
from pyflow.io.readers.options import ReaderOptions
from pyflow.io.readers.video import ArrayReader, VideoReader
from pyflow.io.writers.formats import get_video_file_writer
from pyflow.io.writers.video import VideoWriter

__all__ = [
    "ArrayReader",
    "ReaderOptions",
    "VideoReader",
    "VideoWriter",
    "get_video_file_reader",
    "get_video_file_writer",
    "open_video",
]
