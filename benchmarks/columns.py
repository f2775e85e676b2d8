"""The columns of the frames that `benchmarks.leaderboard` makes, with their units."""

PROFILES = ("reference", "fast")  # in a tie the first wins
DATA = ("verified", "unverified")
ROW_KEY = ["dataset", "model", "profile", "data"]  # of a measured row of a board: runs that differ in it are not pooled

RUN_COLUMNS = [
    "dataset",
    "model",
    "revision",
    "recipe_sha256",
    "profile",
    "data",  # verified | unverified
    "seed",
    "overrides",  # canonical JSON; "{}" without overrides
    "outcome",
    "test_error",  # percent; NaN for diverged
    "final_train_loss",
    "evaluation",
    "augmentation",
    "training_images",
    "holdout",
    "parameters",
    "train_seconds",
    "images_per_second",
    "hardware",
    "provenance",
    "commit",
    "dirty",
    "torch",
    "started",
    "finished",
    "submitted_by",
    "run",
    "key",
    "fingerprint",
    "weights_sha256",
    "sequential",  # added by --until-decided, because the seeds before it did not decide the verdict
    "forced",  # resumed with another build, device, thread count, precision, code or data
    "local",  # in .runs/ only, not published
    "path",  # of the record
]

BOARD_COLUMNS = [  # also the keys of `report --format json` and csv, so they must not change
    "dataset",
    "model",  # null for a published figure of a model that the zoo does not have
    "label",  # the model's title, or the label that the source prints
    "profile",
    "data",
    "n",  # seeds that trained
    "seeds",  # distinct seeds with an ended run, whether finished, collapsed or diverged
    "runs",  # ended runs; more than `seeds` if a seed ran more than once
    "trained",  # n / seeds
    "mean",
    "sd",  # of the seeds' means
    "reported",
    "gap",
    "verdict",
    "reason",
    "seeds_to_go",  # how many more seeds would probably decide the verdict; 0: decided; NaN: no interim size would
    "error",  # the mean, or the reported error without one: rows are sorted by it
    "errors",  # a tuple with one error for each seed that trained
    "half_width",  # of the 95 % interval of the mean
    "prediction",  # half-width of the 95 % prediction interval for the source's figure, or for one run without a figure
    "tolerance",
    "paper",  # the key of the source of `reported`, or of the model's paper
    "where",  # the table or section in the source
    "printed",  # `reported` as text, with its printed digits
    "printed_label",
    "context",  # the printed errors that are shown and never judged, as text: "12.0"; null if a printed error is judged
    "note",
    "family",
    "augmentation",  # of training images, as text; null if unknown
    "parameters",
    "macs",  # multiply-accumulates of a forward pass of one image
    "train_minutes",  # median of the counted runs that trained to their end: all but diverged ones
    "hardware",  # a tuple of the distinct devices
    "local",  # whether any counted run isn't published
    "outdated",  # how many runs of another revision or recipe were not counted
    "sequential",  # whether seeds were added after looking at the results
    "dirty",  # whether the code of any counted run had uncommitted changes, or is of no known commit
    "forced",  # whether any counted run resumed with another build, device, thread count, precision, code or data
    "newest",  # when the last counted run ended (UTC)
    "provenance",  # how unverified data were obtained
    "keys",  # a tuple of the counted jobs' keys, for `runner show KEY`
]

FLOAT_COLUMNS = (
    *("mean", "sd", "reported", "gap", "error", "trained"),
    *("half_width", "prediction", "tolerance", "seeds_to_go"),
)

CLAIM_COLUMNS = [
    "paper",
    "id",
    "dataset",
    "text",
    "where",
    "kind",  # less | equal
    "share",  # the claim: `better` is lower by more than this percentage of `worse`; NaN without a percentage
    "margin",  # errors that differ by fewer percentage points count as equal; NaN for `less`
    "better",
    "worse",
    "profile",
    "data",
    "n_better",
    "n_worse",
    "difference",  # mean of worse - mean of better, percentage points; positive supports the claim
    "low",
    "high",
    "reduction",  # by what percentage of the error of `worse` that of `better` is lower
    "reduction_low",
    "reduction_high",
    "reported_difference",
    "sequential",  # whether seeds were added to either model after looking at results
    "verdict",
    "reason",
]

ATTEMPT_COLUMNS = [
    "paper",
    "dataset",
    "model",  # the zoo's model with that figure; null if the zoo does not have it
    "label",  # of the figure, as printed in the source
    "reported",
    "who",
    "error",  # NaN without a number
    "printed",  # `error` as text, with its printed digits
    "gap",  # error - reported, percentage points
    "remark",
]

EQUIVALENCE_COLUMNS = [
    "dataset",
    "model",
    "label",
    "profile",  # compared with `reference`
    "data",
    "margin",  # percentage points
    "difference",  # mean under the profile - mean under `reference`
    "low",
    "high",
    "verdict",  # equivalent | different | not yet known
    "reason",
]

PAPER_TABLE_COLUMNS = [
    "where",
    "dataset",
    "label",  # as printed in the source
    "reported",
    "printed",  # `reported` as text, with its printed digits
    "kind",  # target | context
    "model",  # null if the zoo does not have it
    "profile",  # of our number; null if the model has not run
    "data",
    "caveats",  # of our number, as text
    "mean",
    "half_width",  # of the 95 % interval of the mean
    "n",
    "seeds",
    "runs",
    "gap",
    "verdict",  # null if the model is not judged by this figure
    "reason",
    "note",
]

CHOICE_COLUMNS = [
    "dataset",
    "model",
    "revision",
    "recipe_sha256",
    "profile",
    "data",
    "holdout",  # number of held-out images
    "setting",  # the overrides, `field=value`; '' for the recipe itself
    "n",
    "seeds",
    "runs",
    "mean",  # of the error on the held-out images
    "sd",
    "half_width",
    "errors",  # a tuple with one error for each seed that trained
]
