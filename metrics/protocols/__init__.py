"""Evaluation protocols as data: `protocol.py` has the choices, a file per family has its rows."""

from upmap.metrics.protocols.coco import COCO
from upmap.metrics.protocols.protocol import AreaRange, Metric, Protocol
from upmap.metrics.protocols.voc import (
    VOC2007,
    VOC2007_PY_FASTER_RCNN,
    VOC2010,
    VOC2010_PY_FASTER_RCNN,
)

__all__ = ["COCO", "PROTOCOLS", "VOC2007", "VOC2010", "AreaRange", "Metric", "Protocol"]

# What --protocol takes. A new protocol is a row here and in the file of its family.
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (VOC2007, VOC2010, COCO, VOC2007_PY_FASTER_RCNN, VOC2010_PY_FASTER_RCNN)
}
