"""The numbers of a tracker's run: `SCRATCH` trains the tiny tracker on a CPU, `GPU` on one GPU."""

from dataclasses import dataclass, replace

from training.kit.recipe import Recipe, number


@dataclass(frozen=True, kw_only=True)
class TrackerRecipe(Recipe):
    """See `Recipe`; a batch is of objects, each followed through its frames."""

    steps: int | None = number(3_000, "optimizer steps")
    batch: int = number(12, "objects in a batch")
    weight_decay: float = number(0.02, "of matrices", float)
    final_rate: float = number(0.01, "share of the peak learning rate at the end", float)
    muon_learning_rate: float = number(
        2.0e-3, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW", float
    )
    warm_up: float = number(0.03, "share of the run in which the rate rises to its peak", float)
    ema: float = number(0.995, "decay of the weights' exponential moving average", float)
    frames: int = number(6, "frames that an object is followed through")
    long_frames: int = number(12, "the same after --long-from")
    long_from: float = number(
        0.6, "share of the run after which objects are followed longer", float
    )
    pool: int = number(200, "windows of frames to draw from, the latest")
    fresh: float = number(0.5, "new windows a step", float)
    first: int = number(48, "windows before the first step")
    workers: int = number(0, "processes that draw windows; 0 draws them in between")
    validate_every: int = number(500, "steps between two validations")
    validation_scenes: int = number(24, "held-out clips in a validation; 0 does without")
    log_every: int = number(20, "steps between two lines of the log")
    seed: int = number(1, "of random weights")


SCRATCH = TrackerRecipe()

GPU = replace(
    SCRATCH,
    batch=192,
    frames=8,
    long_frames=14,
    learning_rate=1.5e-3,
    pool=4_000,
    fresh=8.0,
    first=400,
    workers=14,
    checkpoint_minutes=0.7,
    log_every=50,
    validate_every=600,
    validation_scenes=64,
    ema=0.99,
)
