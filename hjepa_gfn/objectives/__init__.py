"""The losses of the design, composed into train steps. Each returns `(loss, metrics)`."""
