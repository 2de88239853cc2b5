"""Videos: spooled, demuxed into GOPs, decoded, written; numpy, Pillow and PyAV, nothing else.

A video's bytes go `spool` -> `demux` (gateway) -> GOPs as bytes (`gops`) -> `decode` (segmenter).
Everything here blocks, and is called from threads.
"""
