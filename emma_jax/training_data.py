"""The batches of a run on its devices, for training and for validation, and what a checkpoint must share with them.

Owns how rows, tokenizer, model and checkpoint are held to belong together. The order of rows is `input_pipeline`, where
they go `sharding`.
"""

import json

import numpy as np
from absl import logging

from emma_jax import composition, input_pipeline, packing, reference_loss, sharding, tokenizer, validation
from emma_jax.checkpoint import Metadata
from emma_jax.program import Program

FREE_MODEL_KEYS = (
    "remat",
    "attention",
    "compute_dtype",
    "initializer_range",
    "max_length",
)  # not of the function that is learnt
SCALING_KEYS = ("rope_low_frequency_factor", "rope_high_frequency_factor", "rope_original_length")


class TrainingData:
    """The rows of a run: training and validation batches on the devices, and what a checkpoint must agree with."""

    def __init__(self, config, program: Program):
        self._config = config
        self._shardings = {name: leaf.sharding for name, leaf in program.batch.items()}
        self._vocabulary = tokenizer.load(config.tokenizer.folder)
        if self._vocabulary.vocab_size > config.model.vocab_size:
            raise ValueError(
                f"tokenizer {config.tokenizer.folder} has {self._vocabulary.vocab_size} ids, model.vocab_size is "
                f"{config.model.vocab_size}; make them agree"
            )
        self._rows = self._open(config.mixture.to_dict())
        self._validation_rows = self._open({"validation": 1.0}) if config.train.validate_every_steps else None

    def _open(self, weights: dict[str, float]):
        reading = self._config.input_pipeline
        return input_pipeline.open_rows(
            self._config.pack.folder,
            weights,
            self._vocabulary.fingerprint,
            self._config.pack.row_length,
            reading.num_threads,
            reading.patience_seconds,
        )

    def training_batches(self, step: int):
        """Endless batches from that of `step` on."""
        rows = self._config.input_pipeline.batch_rows
        block, num_blocks = sharding.host_block(self._shardings["tokens"], rows)
        batches = self._rows.batches(rows, self._config.seed, step, block, num_blocks)
        return (self._to_devices(batch, num_blocks) for batch in batches)

    def validator(self, program: Program):
        """A function of the parameters that returns the scalars of a validation pass; {} if validation is off."""
        rows, count = self._validation_rows, self._config.train.validation_batch_rows
        if rows is None:
            return lambda params: {}
        num_rows, every_steps = sum(s.rows for s in rows.stores), self._config.train.validate_every_steps
        share = validation.share_of_time(num_rows, self._config.input_pipeline.batch_rows, every_steps)
        logging.info(
            "validation: %s rows of %d slices every %d steps, %.2f%% of the time of training",
            f"{num_rows:,}", len(rows.task_names), every_steps, 100 * share,
        )  # fmt: skip
        block, num_blocks = sharding.host_block(self._shardings["tokens"], count)
        replicated = sharding.replicated(self._shardings["tokens"].mesh)
        slice_sums = validation.make_slice_sums(program.score, len(rows.task_names), replicated)

        def validate(params):
            batches = (
                self._to_devices(batch, num_blocks) for batch in rows.validation_batches(count, block, num_blocks)
            )
            return validation.summary(validation.validate(slice_sums, params, batches, rows.task_bytes))

        return validate

    def check_start(self, program: Program, params, base: str) -> None:
        """Raises ValueError unless the parameters that came from the workdir `base` have the loss that they should.

        That is the loss on a few rows by another implementation, which `emma_jax.hf verify` leaves in a base. It finds
        what a comparison of the base could not: a fault of this machine, mesh or configuration.
        """
        reference = reference_loss.read(base)
        if reference is None:
            logging.warning("%s has no %s: its loss at the start is not checked", base, reference_loss.FILE)
            return
        count, length = self._config.train.validation_batch_rows, self._config.pack.row_length
        rows = [packing.join([(0, np.array(row[: length + 1], packing.ID_TYPE))]) for row in reference.rows]
        rows += [packing.empty_row()] * (-len(rows) % count)
        arrays = [packing.model_arrays(row, length) for row in rows]
        block, num_blocks = sharding.host_block(self._shardings["tokens"], count)
        own = slice(block * count // num_blocks, (block + 1) * count // num_blocks)
        batches = (
            {name: np.stack([array[name] for array in arrays[start : start + count][own]]) for name in arrays[0]}
            for start in range(0, len(rows), count)
        )
        replicated = sharding.replicated(self._shardings["tokens"].mesh)
        sums = validation.make_slice_sums(program.score, 1, replicated)
        placed = (self._to_devices(batch, num_blocks) for batch in batches)
        loss = validation.validate(sums, params, placed, {"reference": 1})["reference"].loss
        wanted, tolerance = reference.loss(length), self._config.train.start_loss_tolerance
        logging.info("loss at the start: %.4f, by %s %.4f", loss, reference.computed_by, wanted)
        if not abs(loss - wanted) <= tolerance:
            raise ValueError(
                f"the loss of {base} is {loss:.4f} here and {wanted:.4f} by {reference.computed_by}, more than "
                f"train.start_loss_tolerance of {tolerance} apart: what is trained would not be that model"
            )

    def composition(self) -> composition.Composition:
        """What the rows are of: each component with its share of all tokens, each task with its of the component's."""
        stores = zip(self._rows.stores, self._rows.weights, strict=True)
        return composition.from_weights(
            [(found.component, weight, [(task.name, task.tokens) for task in found.tasks]) for found, weight in stores]
        )

    def metadata(self, step: int, base: str = "") -> Metadata:
        """What the checkpoint of `step` is to say of itself; `base` names what the run started from."""
        return Metadata(
            config=json.loads(self._config.to_json_best_effort()),
            position_rows=step * self._config.input_pipeline.batch_rows,
            rows=self._rows.fingerprint,
            validation_rows=self._validation_rows.fingerprint if self._validation_rows else "",
            tokenizer=self._vocabulary.fingerprint,
            base=base,
        )

    def check_continues(self, step: int, metadata: Metadata) -> None:
        """Raises ValueError if the checkpoint of `step` is of other rows, another model or later."""
        wanted = self.metadata(step)
        for kind, there, here in (
            ("rows", metadata.rows, wanted.rows),
            ("validation rows", metadata.validation_rows, wanted.validation_rows),
        ):
            if there and here and there != here:
                raise ValueError(
                    f"the checkpoint has seen the {kind} {there[:12]}, but {self._config.pack.folder} with this "
                    f"mixture has {here[:12]}: use the rows it began with, or another --workdir"
                )
        seed = metadata.config.get("seed", self._config.seed)
        if (metadata.position_rows, seed) != (wanted.position_rows, self._config.seed):
            raise ValueError(
                f"the checkpoint of step {step} is at row {metadata.position_rows} with seed {seed}, this config would "
                f"be at {wanted.position_rows} with {self._config.seed}: use those again, or another --workdir"
            )
        if step > self._config.train.steps:
            raise ValueError(f"the checkpoint is of step {step}, and train.steps is {self._config.train.steps}")
        self.check_base(metadata, "the checkpoint")

    def check_base(self, metadata: Metadata, name: str) -> None:
        """Raises ValueError if `name` has another tokenizer than the rows, or is another model."""
        if metadata.tokenizer and metadata.tokenizer != self._vocabulary.fingerprint:
            raise ValueError(
                f"{name} has the tokenizer {metadata.tokenizer[:12]}, the rows {self._vocabulary.fingerprint[:12]}: "
                f"pack the corpus with the tokenizer of the model"
            )
        for key, there in metadata.config["model"].items():
            here = self._config.model[key]
            scaled = self._config.model.rope_scaling_factor != 1
            if there != here and key not in FREE_MODEL_KEYS and (scaled or key not in SCALING_KEYS):
                raise ValueError(f"{name} is another model: its {key} is {there}, model.{key} is {here}")

    def _to_devices(self, batch, num_blocks: int):
        return {name: sharding.from_host(array, self._shardings[name], num_blocks) for name, array in batch.items()}
