"""Reading and writing videos: one class per format behind two small protocols."""

from pyflow.io.formats import get_video_file_reader, get_video_file_writer, open_video
from pyflow.io.video import ArrayReader, VideoReader, VideoWriter

__all__ = [
    "ArrayReader",
    "VideoReader",
    "VideoWriter",
    "get_video_file_reader",
    "get_video_file_writer",
    "open_video",
]
