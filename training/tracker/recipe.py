"""The numbers of a tracker's run: `SCRATCH` trains the tiny tracker on a CPU, `GPU` on one GPU."""

from dataclasses import dataclass, replace

from training.kit.recipe import Recipe, number


@dataclass(frozen=True, kw_only=True)
class TrackerRecipe(Recipe):
    """See `Recipe`; a batch is of objects, each followed through its frames."""

    steps: int | None = number(1_400, "optimizer steps")
    batch: int = number(16, "objects in a batch")
    learning_rate: float = number(3.0e-3, "peak learning rate of AdamW", float)
    weight_decay: float = number(0.02, "of matrices", float)
    final_rate: float = number(0.01, "share of the peak learning rate at the end", float)
    muon_learning_rate: float = number(
        1.0e-2, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW", float
    )
    warm_up: float = number(0.03, "share of the run in which the rate rises to its peak", float)
    ema: float = number(0.995, "decay of the weights' exponential moving average", float)
    pairs_until: float = number(
        0.62, "share of the run that follows objects through two frames only", float
    )
    frames: int = number(4, "frames that an object is followed through after that")
    long_frames: int = number(8, "the same after --long-from; windows are two frames longer")
    long_from: float = number(
        1.0, "share of the run after which objects are followed longer", float
    )
    pool: int = number(800, "windows of frames to draw from, the latest")
    fresh: float = number(0.5, "new windows a step", float)
    first: int = number(240, "windows before the first step")
    workers: int = number(0, "processes that draw windows; 0 draws them in between")
    validate_every: int = number(700, "steps between two validations")
    validation_scenes: int = number(24, "held-out clips in a validation; 0 does without")
    log_every: int = number(20, "steps between two lines of the log")
    seed: int = number(1, "of random weights")

    def length(self, progress: float) -> int:
        """How many frames objects are followed through, at a share of the run."""
        if progress < self.pairs_until:
            return 2
        return self.long_frames if progress >= self.long_from else self.frames


SCRATCH = TrackerRecipe()

GPU = replace(
    SCRATCH,
    steps=3_000,
    batch=192,
    pairs_until=0.1,
    frames=8,
    long_frames=14,
    long_from=0.6,
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
