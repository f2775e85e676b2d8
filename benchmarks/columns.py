"""The columns of the read-model's frames: what each name holds, and in which unit."""

PROFILES = ("reference", "fast")  # the order in which ties are settled
DATA = ("verified", "unverified")

RUN_COLUMNS = [
    "dataset",
    "model",
    "revision",
    "recipe_sha256",
    "profile",
    "data",  # verified | unverified
    "seed",
    "overrides",  # as canonical JSON: "{}" for the recipe itself
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
    "finished",
    "submitted_by",
    "run",
    "key",
    "fingerprint",
    "weights_sha256",
    "sequential",  # was added because earlier seeds didn't decide the verdict
    "forced",  # went on under another build, device or thread count
    "local",  # lies in .runs only
    "path",  # of the record
]

BOARD_COLUMNS = [  # of `report --format json` and csv too: stable
    "dataset",
    "model",  # null for published only
    "label",  # the model's title, or the label as printed
    "profile",
    "data",
    "n",  # seeds that trained
    "seeds",  # distinct seeds with an ended run: finished, collapsed or diverged
    "runs",  # ended runs; more than `seeds` where a seed ran more than once
    "trained",  # n / seeds
    "mean",
    "sd",  # of the seeds' means
    "reported",
    "gap",
    "verdict",
    "reason",
    "seeds_to_go",  # how many more would probably decide the verdict; 0: decided; NaN: no number that is looked at
    "error",  # what ranks the row: the mean, else the reported error
    "errors",  # of the seeds that trained, one each, as a tuple
    "half_width",  # of the 95 % interval of the mean
    "prediction",  # half-width of the 95 % prediction interval for the source's figure, for one run where there is none
    "tolerance",
    "paper",  # the key of the source of `reported`, else the model's own
    "where",  # the place in it
    "printed",  # `reported` with the digits that were printed
    "printed_label",
    "note",
    "family",
    "augmentation",  # of training images, in words; null where it isn't known
    "parameters",
    "macs",  # multiply-accumulates of one image's forward pass
    "train_minutes",  # mean of the counted runs
    "hardware",  # every kind, as a tuple
    "local",  # whether any counted run isn't published
    "outdated",  # runs of another revision or recipe: not counted
    "sequential",  # whether the number of seeds was decided by looking at the results
    "dirty",  # whether the code of any counted run had uncommitted changes
    "forced",  # whether any counted run went on under another build, device or thread count
    "newest",  # when the last counted run ended (UTC)
    "provenance",  # what is said of unverified data
    "keys",  # of the counted runs' jobs, as a tuple: `runner show KEY`
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
    "share",  # percent of the error of `worse` by which `better` is claimed to be lower; NaN where no share is
    "margin",  # percentage points within which the two count as equal; NaN for `less`
    "better",
    "worse",
    "profile",
    "data",
    "n_better",
    "n_worse",
    "difference",  # mean of worse - mean of better, percentage points: above 0 is the claimed side
    "low",
    "high",
    "reduction",  # by which share of the error of `worse` that of `better` is lower, percent
    "reduction_low",
    "reduction_high",
    "reported_difference",
    "verdict",
    "reason",
]

ATTEMPT_COLUMNS = [
    "paper",
    "dataset",
    "model",  # the zoo's, whose figure was tried for; null for what it hasn't
    "label",  # of the figure, as printed
    "reported",
    "who",
    "error",  # NaN where only words are given
    "printed",  # `error` with its digits
    "gap",  # error - reported, percentage points
    "remark",
]

EQUIVALENCE_COLUMNS = [
    "dataset",
    "model",
    "label",
    "profile",  # which is set beside `reference`
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
    "label",  # as printed
    "reported",
    "printed",  # `reported` with its digits
    "kind",  # target | context
    "model",  # the zoo's; null for what it hasn't
    "mean",
    "half_width",  # of the 95 % interval of our mean
    "n",
    "seeds",
    "runs",
    "gap",
    "verdict",  # null where the model isn't judged by this figure
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
    "holdout",  # how many images were held out
    "setting",  # what differed from the recipe, `field=value`; '' for the recipe itself
    "n",
    "seeds",
    "runs",
    "mean",  # of the error on the held-out images, percent
    "sd",
    "half_width",
    "errors",  # of the seeds that trained, as a tuple
]
