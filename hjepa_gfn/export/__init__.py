"""A trained agent in one directory: parameters, config, tokenizer and codebooks, without the code or state of
training; and programs that run without this package (`programs`, `loader`)."""

from hjepa_gfn.export.arrays import npz_bytes, read_npz
from hjepa_gfn.export.directory import Export, load_export, save_export

__all__ = ["Export", "load_export", "npz_bytes", "read_npz", "save_export"]
