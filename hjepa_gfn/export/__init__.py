"""A trained agent in one directory: parameters, config, tokenizer and codebooks, without the code or state of
training."""

from hjepa_gfn.export.directory import Export, load_export, npz_bytes, read_npz, save_export

__all__ = ["Export", "load_export", "npz_bytes", "read_npz", "save_export"]
