"""The protocols of PASCAL VOC.

Sources: VOCevaldet.m and VOCap.m of the development kits of 2007 and 2012; voc_eval.py of
py-faster-rcnn.
"""

from dataclasses import replace

from upmap.metrics.protocols.protocol import Protocol

__all__ = ["VOC2007", "VOC2007_PY_FASTER_RCNN", "VOC2010", "VOC2010_PY_FASTER_RCNN"]

# In floating point as the kit and every Python tool have them: 0.30000000000000004, not 0.3.
RECALL_POINTS = tuple(i * 0.1 for i in range(11))

VOC2007 = Protocol(
    name="voc2007",
    pixels="inclusive",
    iou_thresholds=(0.5,),
    assignment="best",
    equal_iou="first",
    difficult="ignore",
    crowd="ignore",
    ties="file",
    recall_points=RECALL_POINTS,
)

VOC2010 = replace(VOC2007, name="voc2010", recall_points=None)

VOC2007_PY_FASTER_RCNN = replace(VOC2007, name="voc2007_py_faster_rcnn", strict=True)
VOC2010_PY_FASTER_RCNN = replace(VOC2010, name="voc2010_py_faster_rcnn", strict=True)
