"""Entry points: one module per thing that can be run. Nothing imports this package."""
