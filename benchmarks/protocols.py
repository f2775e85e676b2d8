"""Compare the protocol behind a printed error with that of our records, in clauses for a verdict's reason."""

from benchmarks import records
from benchmarks.papers import ReportedProtocol


def differences(reported: ReportedProtocol, measured: records.Protocol) -> list[str]:
    """Return a clause for each difference of two protocols. What the source does not say counts as equal."""
    clauses = []
    if reported.augmentation is not None and (reported.augmentation == "none") != (measured.augmentation == "none"):
        if measured.augmentation == "none":
            clauses.append(f"the paper augmented its training images ({reported.augmentation}), we did not")
        else:
            clauses.append(f"we augmented our training images ({measured.augmentation}), the paper did not")
    if reported.training_images not in (None, measured.training_images):
        clauses.append(f"the paper trained on {reported.training_images:,} images, we on {measured.training_images:,}")
    if reported.evaluation != measured.evaluation:
        clauses.append(f"the paper's error is on {reported.evaluation} images, ours on {measured.evaluation} images")
    if reported.epoch == "best":
        clauses.append("the paper's error is of its best epoch, ours of the last")
    if reported.networks != 1:
        clauses.append(f"the paper averages {reported.networks} networks, we measure one")
    if reported.views != 1:
        clauses.append(f"the paper averages {reported.views} views of each image, we use one")
    return clauses


def unstated(reported: ReportedProtocol) -> list[str]:
    """Return what the source does not say, although a comparison assumes it."""
    missing = {"augmentation": "whether it augmented", "training_images": "how many images it trained on"}
    return [question for field, question in missing.items() if getattr(reported, field) is None]
