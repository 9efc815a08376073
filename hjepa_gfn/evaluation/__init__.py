"""Metrics, faithfulness and safety measures, and the report."""
