"""Runs an exported agent: needs jax and the export directory, and no other package. A copy of this file lies in every export.

    import sys; sys.path.insert(0, DIR)
    import loader

    agent = loader.load(DIR)
    view, direction, known = agent.perceive(view, direction)           # where the export has this program; see there
    plan = agent.sample_plan(view, direction, mission, seed=0)         # any batch size; compiled once for each
    text = agent.explain(view, direction, mission, plan, seed=1)       # int32 token ids, of tokenizer.json

What goes in and comes out stands in programs/signature.json.
"""

import hashlib
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes  # comes with jax
import numpy as np

MANIFEST, FORMAT, VERSION = "export.json", "hjepa_gfn export", 2
_DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "I8": np.int8, "I16": np.int16,
    "I32": np.int32, "I64": np.int64, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name (read-only views) of the bytes of a safetensors file: u64 length of the header, JSON header, raw data.

    Raises:
      ValueError: it is not one, or holds a type of number that is not known here.
    """
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, (first, last) = np.dtype(_DTYPES[entry["dtype"]]).newbyteorder("<"), entry["data_offsets"]
            if last - first != dtype.itemsize * math.prod(entry["shape"]) or begin + last > len(data):
                raise ValueError(f"{name} has the wrong size")
            arrays[name] = np.frombuffer(memoryview(data)[begin + first : begin + last], dtype).reshape(entry["shape"])
        return arrays
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a safetensors file that can be read here: {error}") from error


def load(directory: str | os.PathLike[str], device: jax.Device | None = None) -> "Agent":
    """Reads an export.

    Args:
      directory: the export directory.
      device: where the parameters go and the programs run; jax's default device if None.

    Raises:
      ValueError: it is no export of this version, or one of its files is missing or damaged.
    """
    return Agent(Path(directory), device)


class Agent:
    """An agent that plans and explains.

    Attributes:
      params: arrays by name ("group/module/.../kernel").
      config: the configuration it was trained with, nested dicts.
      codebooks: the grid point of every code, by kind; row i belongs to code i.
      signature: programs/signature.json, or None where the export has no programs.
      tokenizer_json: as the `tokenizers` package writes it.
    """

    def __init__(self, directory: Path, device: jax.Device | None = None):
        try:
            manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{directory}: not an export (no readable {MANIFEST} in it)") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
            raise ValueError(f"{directory}: not a {FORMAT} of version {VERSION}: export again")
        self._directory, self._checksums, self._device = directory, manifest["sha256"], device
        tensors = read_safetensors(self._read("params.safetensors"))
        self.params = {name: jax.device_put(array, device) for name, array in tensors.items()}
        self.config = json.loads(self._read("config.json"))
        self.tokenizer_json = self._read("tokenizer.json").decode("utf-8")
        with np.load(io.BytesIO(self._read("codebooks.npz")), allow_pickle=False) as archive:
            self.codebooks = {name: archive[name] for name in archive.files}
        known = "programs/signature.json" in self._checksums
        self.signature = json.loads(self._read("programs/signature.json")) if known else None
        self._calls = {}

    def perceive(self, view, direction, known=None, action=None) -> tuple[jax.Array, jax.Array, Any]:
        """What this agent reads instead of a view and a compass direction: (view, direction, what is known, for the next call).
        View is its map of what was seen, or says where cells lie as seen from where the episode began, as its config has it.

        Args:
          view: uint8 [b, 7, 7, 3], the newest percept; direction: int32 [b], of the compass.
          known: what the call for the percept before it returned; None: the episode begins.
          action: int32 [b], the actions taken between the two.

        Raises:
          ValueError: the agent reads views as they are, or one of known and action comes without the other.
        """
        if (known is None) != (action is None):
            raise ValueError("perceive: known and action belong together, and an episode begins without either")
        described = (self.signature or {"programs": {}})["programs"].get("perceive")
        if known is None and described:
            known = {name: np.zeros((len(view), *leaf["shape"][1:]), leaf["dtype"])
                     for name, leaf in described["inputs"]["known"].items()}
        action = np.full(len(view), -1) if action is None else action
        outputs = ("view", "direction", "known")
        found = self.call("perceive", outputs, known=known, view=view, direction=direction, action=action)
        return found["view"], found["direction"], found["known"]

    def sample_plan(self, view, direction, mission, seed=0, temperature=None, log_prob=False) -> Any:
        """Plans z ~ P_F(z|c), one for each of b situations.

        Args:
          view, direction: uint8 [b, 7, 7, 3] and int32 [b], or where the export has it, what `perceive` makes of them.
          mission: int32 [b, M] token ids.
          seed: an int, or the two uint32 words of a key.
          temperature: above 0; the agent's own if None.
          log_prob: also return log P_F of the edits in the order they were made, and log P_B of undoing them in that order,
            float32 [b] each, at temperature 1; takes longer than sampling itself.

        Returns: the plan's arrays by name, or (plan, log_prob, log_undo).

        Raises:
          ValueError: the temperature is not above 0, or as `call`.
        """
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature {temperature}: plans are sampled at one above 0")
        found = self.call(
            "sample_plan", ("plan", "log_prob", "log_undo") if log_prob else ("plan",), view=view, direction=direction,
            mission=mission, seed=seed, temperature=temperature)
        return (found["plan"], found["log_prob"], found["log_undo"]) if log_prob else found["plan"]

    def explain(self, view, direction, mission, plan, seed=0, temperature=None) -> jax.Array:
        """The plans in words, x ~ p(x|z,c): token ids int32 [b, X]; 1 begins, 2 ends, 0 pads.

        `plan` is what `sample_plan` returned; temperature 0 takes the most probable word each time.
        """
        found = self.call(
            "explain", ("text",), view=view, direction=direction, mission=mission, plan=plan, seed=seed,
            temperature=temperature)
        return found["text"]

    def call(self, name: str, outputs: tuple[str, ...], **inputs: Any) -> dict[str, Any]:
        """Calls a program; what is not among `outputs` is not computed.

        Raises:
          ValueError: the export has no such program, or an input has another shape than the signature says.
        """
        if name not in (self.signature or {"programs": {}})["programs"]:
            raise ValueError(f"{self._directory}: no program {name!r} in this export")
        described = self.signature["programs"][name]
        for key, default in described["defaults"].items():
            inputs[key] = default if inputs.get(key) is None else inputs[key]
        if "seed" in inputs and np.ndim(inputs["seed"]) == 0:
            seed = int(inputs["seed"])
            inputs["seed"] = np.array([seed >> 32 & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
        inputs = _converted(inputs, described["inputs"], self._device)
        if (name, outputs) not in self._calls:
            program = self._program(described["file"])
            self._calls[name, outputs] = jax.jit(lambda p, i: {k: program.call(p, i)[k] for k in outputs})
        return self._calls[name, outputs](self.params, inputs)

    def _program(self, file: str) -> Any:
        try:
            import flatbuffers  # noqa: F401 (jax reads programs with it, and does not bring it along)
        except ImportError:
            sys.path.append(str(self._directory / "programs" / "flatbuffers.zip"))
        from jax import export

        return export.deserialize(bytearray(self._read(file)))

    def _read(self, name: str) -> bytes:
        try:
            data = (self._directory / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{self._directory / name}: cannot be read ({error.strerror}): export again") from error
        if hashlib.sha256(data).hexdigest() != self._checksums.get(name):
            raise ValueError(f"{self._directory / name}: damaged (wrong checksum): export again")
        return data


def _converted(value: Any, described: Any, device: jax.Device | None) -> Any:
    """Inputs as arrays of the described types: `described` is a tree whose leaves are {"dtype": ..., "shape": ...}."""
    if "dtype" in described:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
        return jax.device_put(jnp.asarray(array, described["dtype"]), device)
    return {name: _converted(value[name], described[name], device) for name in described}
