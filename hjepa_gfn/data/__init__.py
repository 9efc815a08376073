"""The corpus: TFDS builder (array_record), tokenizer, Grain pipeline.

Submodules are imported by name (`hjepa_gfn.data.builder`, `.tokenizer`, `.pipeline`, `.store`), so that workers
of the builder load no more than they need.
"""
