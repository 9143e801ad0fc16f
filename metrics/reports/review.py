"""What to look at, as text for a terminal: the worst images, and labels that may be wrong."""

import math
from typing import TYPE_CHECKING

from upmap.metrics.reports.text import score_text
from upmap.text_tables import align_columns

if TYPE_CHECKING:
    from upmap.metrics.analysis.label_candidates import Candidate, LabelCandidates
    from upmap.metrics.analysis.worst import WorstImages

__all__ = ["labels_text", "worst_text"]

MAX_SHOWN = 10  # of each list of labels; JSON has all
LISTS = {
    "missing": "not annotated? trusted detections that touch no annotation",
    "wrong_class": "wrong class? trusted detections on an unclaimed object of another class",
    "loose_box": "box not tight? trusted detections beside an unclaimed object of their class",
    "doubtful": "nothing there? objects that no detection of any class is near to",
}


def worst_text(name: str, worst: "WorstImages") -> str:
    """The worst images as a table, and how to read it.

    Args:
        name: Of the protocol.
        worst: The result.
    """
    rows = [["worst images", "cost", "objects", "true", "false"]]
    for image in worst.images:
        counts = (image.objects, image.true_positives, image.false_positives)
        rows.append([str(image.image), f"{image.cost:.6f}", *map(str, counts)])
    return (
        f"{align_columns(rows)}\ncost: what {name} {worst.metric} gains without the image. The "
        f"worst 1 % of the images cost {score_text(worst.worst_percent_cost)} together.\n"
    )


def labels_text(name: str, candidates: "LabelCandidates") -> str:
    """Labels that may be wrong as tables.

    Args:
        name: Of the protocol.
        candidates: The result.
    """
    parts = []
    for key, title in LISTS.items():
        count = candidates.counts[key]
        shown = getattr(candidates, key)[:MAX_SHOWN]
        head = f"{name}: {title}: {count:,}"
        if count > len(shown):
            head += f", of which {len(shown)} are shown; --json has up to 100"
        parts.append(f"{head}\n")
        if shown:
            parts.append(align_columns([HEADER, *map(_cells, shown)], left=3))
    return "\n".join(parts)


HEADER = ["image", "detected", "annotated", "score", "IoU", "box x1,y1,x2,y2"]


def _cells(candidate: "Candidate") -> list[str]:
    box = candidate.box or candidate.annotated_box or ()
    score = "" if math.isnan(candidate.score) else f"{candidate.score:.4g}"
    return [
        str(candidate.image),
        candidate.label or "",
        candidate.annotated_label or "",
        score,
        f"{candidate.iou:.2f}",
        ",".join(f"{side:g}" for side in box),
    ]
