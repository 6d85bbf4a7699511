"""The settings of a gradient-trained network; light, so that every configuration can hold them."""

from __future__ import annotations

from pydantic import Field

from appliedpapers.core.config import Section


class TrainingConfig(Section):
    """How :func:`appliedpapers.core.training.fit` trains one network."""

    epochs: int = Field(10, ge=1, le=100_000, description="passes over the training data, at most")
    batch_size: int = Field(32, ge=1, le=1_000_000, description="training examples a step (per process)")
    lr: float = Field(1e-3, gt=0, le=10, allow_inf_nan=False, description="learning rate of the first epoch")
    lr_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate after every epoch; 1 keeps it"
    )
    weight_decay: float = Field(0.0, ge=0, le=10, description="weight decay of the optimiser")
    patience: int = Field(
        0, ge=0, le=100_000, description="epochs without a better validation before training stops; 0 never"
    )
    gradient_clip: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="largest norm of the gradient; null leaves it as it is",
    )
    checkpoint_every_steps: int = Field(
        200,
        ge=0,
        description="steps between checkpoints inside an epoch, spread further where writing them would "
        "take more than a twentieth of the time; 0 writes at epoch ends only",
    )
